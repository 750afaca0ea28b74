//! `policy test`: whether evidence in files meets a policy.

use std::path::PathBuf;

use attest::policy::{Difference, Differences, judge};
use clap::{ArgGroup, Args};
use edge::json::pretty;
use serde::Serialize;

use super::{evidence::EvidenceFiles, read_policy};
use crate::cli::{
    CommandError,
    output::{self, Output},
};

/// Tries a policy on the evidence of a host, and says what differs: expected, found, and which event. Exits with 0 if
/// the policy is met, with 1 if it is not, and with 2 if a file can't be used.
///
///   plastron-server policy test rack-7.toml --event-log log.bin --pcrs pcrs.yaml
#[derive(Args, Debug)]
#[command(
    group(ArgGroup::new("of").required(true).args(["event_log"])),
    group(ArgGroup::new("proof").args(["pcrs"])),
)]
pub(in crate::cli) struct Test {
    /// The policy.
    #[arg(value_name = "POLICY")]
    policy: PathBuf,
    #[command(flatten)]
    evidence: EvidenceFiles,
    /// `pretty` for people, `json` for programs.
    #[arg(long, value_enum, default_value_t = Output::Pretty)]
    output: Output,
}

/// What became of a host.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    policy: String,
    version: u32,
    generation: String,
    pub(super) met: bool,
    pub(super) differences: Vec<Row>,
    /// How many differences are not named.
    more: u32,
}

/// A difference.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) code: &'static str,
    subject: String,
    expected: String,
    pub(super) found: String,
    /// Position of the event in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pcr: Option<u8>,
    /// The difference as a sentence.
    text: String,
}

impl Test {
    pub(super) fn execute(&self) -> Result<(), CommandError> {
        let outcome = self.outcome()?;
        match self.output {
            Output::Json => output::line(&pretty(&outcome)?),
            Output::Pretty => outcome.lines().for_each(|line| output::line(&line)),
        }
        if outcome.met {
            Ok(())
        } else {
            Err(CommandError::PolicyNotMet)
        }
    }

    pub(super) fn outcome(&self) -> Result<Outcome, CommandError> {
        let policy = read_policy(&self.policy)?;
        let known = self.evidence.read()?;
        let differences: Differences = judge(&policy, &known.evidence()?);
        Ok(Outcome {
            policy: policy.name.to_string(),
            version: policy.version,
            generation: policy.generation_id().to_string(),
            met: differences.is_empty(),
            differences: differences.iter().map(Row::of).collect(),
            more: differences.more(),
        })
    }
}

impl Outcome {
    fn lines(&self) -> impl Iterator<Item = String> {
        let verdict = if self.met { "meets" } else { "does not meet" };
        let head = format!("The host {verdict} {}, version {}.", self.policy, self.version);
        let more = (self.more > 0).then(|| format!("And {} more.", self.more));
        let rows = self
            .differences
            .iter()
            .map(|row| format!("{}: {}", row.code, row.text));
        std::iter::once(head).chain(rows).chain(more)
    }
}

impl Row {
    fn of(difference: &Difference) -> Self {
        Self {
            code: difference.kind.code(),
            subject: difference.subject.clone(),
            expected: difference.expected.clone(),
            found: difference.found.clone(),
            event: difference.event.map(|place| place.index),
            pcr: difference.event.map(|place| place.pcr),
            text: difference.to_string(),
        }
    }
}
