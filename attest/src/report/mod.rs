//! What there is to say of evidence, for whoever judges it without a server: events, PCRs, and each finding with the
//! number of its check. Nothing here decides; what is refused is what the checks of this crate refuse.

mod compared;
mod ima;
mod log;
mod pcr;
mod quote;
mod rows;

use std::fmt;

use serde::Serialize;

use crate::Reject;

pub use ima::{EntryRow, ImaReport, Proven};
pub use log::LogReport;
pub use pcr::{Comparison, PcrRow};
pub use quote::{Beside, Captured, KeyRow, QuoteReport, StatementRow};
pub use rows::{BootTextRow, EventRow, SbatRow, SectionRow, SecureBootRow, WordsRow};

/// Something that a check found.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// What becomes of it.
    pub verdict: Verdict,
    /// Number of the check in `SECURITY.md`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<u8>,
    /// The stable code.
    pub code: &'static str,
    /// A sentence.
    pub text: String,
}

/// What becomes of evidence with a finding.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// A policy may refuse it.
    Noted,
    /// It is no evidence.
    Refused,
}

impl Finding {
    /// What a check refuses.
    #[must_use]
    pub fn refused(reject: Reject) -> Self {
        Self::of(Verdict::Refused, reject)
    }

    /// What a policy may refuse.
    #[must_use]
    pub fn noted(reject: Reject) -> Self {
        Self::of(Verdict::Noted, reject)
    }

    fn of(verdict: Verdict, reject: Reject) -> Self {
        Self {
            verdict,
            check: reject.check(),
            code: reject.code(),
            text: reject.to_string(),
        }
    }

    /// Whether something of `findings` is refused.
    #[must_use]
    pub fn any_refused(findings: &[Self]) -> bool {
        findings.iter().any(|finding| finding.verdict == Verdict::Refused)
    }
}

/// `REFUSED [46] log_mismatch: event log does not replay to PCR 0 of bank sha256`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.verdict {
            Verdict::Noted => "noted   ",
            Verdict::Refused => "REFUSED ",
        })?;
        if let Some(check) = self.check {
            write!(f, "[{check}] ")?;
        }
        write!(f, "{}: {}", self.code, self.text)
    }
}

/// All findings, one a line, or that there is none.
fn write_findings(f: &mut fmt::Formatter<'_>, findings: &[Finding]) -> fmt::Result {
    if findings.is_empty() {
        return writeln!(f, "Nothing was found.");
    }
    findings.iter().try_for_each(|finding| writeln!(f, "{finding}"))
}

/// Bytes of a peer, without what a terminal would take for commands.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars()
        .flat_map(|char| match char.is_control() {
            true => char.escape_default().collect::<Vec<_>>(),
            false => vec![char],
        })
        .collect()
}
