//! A report on a captured quote.

use std::fmt;

use serde::Serialize;

use super::{Finding, ImaReport, LogReport, compared::Compared, write_findings};
use crate::{
    CapturedKey, CapturedQuote, PcrSelection, PcrValues, Reject, SignedQuote,
    event_log::{EventLog, before_words},
    ima::MeasurementList,
};

/// What a quote proves.
#[derive(Clone, Debug, Default, Serialize)]
pub struct QuoteReport {
    /// The attestation key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attestation_key: Option<KeyRow>,
    /// What it signed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement: Option<StatementRow>,
    /// What the event log says, if one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_log: Option<LogReport>,
    /// What the kernel's measurement list says, if one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ima_log: Option<ImaReport>,
    /// What checks found, of quote, log and list.
    pub findings: Vec<Finding>,
}

/// An attestation key.
#[derive(Clone, Debug, Serialize)]
pub struct KeyRow {
    /// Algorithm and size.
    pub kind: &'static str,
    /// Its Name, if the whole public area was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What a TPM signed.
#[derive(Clone, Debug, Serialize)]
pub struct StatementRow {
    /// Which PCRs.
    pub selection: String,
    /// The digest over them.
    pub pcr_digest: String,
    /// Milliseconds that the TPM was powered.
    pub clock: u64,
    /// Resets of the TPM.
    pub reset_count: u32,
    /// Restarts since the last reset.
    pub restart_count: u32,
    /// Whether no larger clock was ever reported.
    pub safe: bool,
    /// Vendor's firmware version.
    pub firmware_version: String,
}

/// What a quote is judged with.
#[derive(Clone, Copy, Debug)]
pub struct Captured<'a> {
    /// TPM2B_PUBLIC, TPMT_PUBLIC or SubjectPublicKeyInfo.
    pub ak: &'a [u8],
    /// TPMS_ATTEST.
    pub quote: &'a [u8],
    /// TPMT_SIGNATURE, or plain.
    pub signature: &'a [u8],
    /// What it has to be about.
    pub nonce: &'a [u8],
}

impl Captured<'_> {
    /// What the quote says that it is over, believed or not: the order of values that stand alone.
    #[must_use]
    pub fn claimed_selection(&self) -> Option<PcrSelection> {
        let quote = CapturedQuote::parse(self.quote, self.signature).ok()?;
        Some(quote.claimed_selection().clone())
    }
}

/// What came with a quote, and is to explain it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside<'a> {
    /// The values of PCRs that somebody read.
    pub pcrs: Option<&'a PcrValues>,
    /// The firmware's event log.
    pub event_log: Option<&'a [u8]>,
    /// The kernel's measurement list.
    pub ima_log: Option<&'a [u8]>,
}

impl QuoteReport {
    /// Reports on a quote, and on what came with it.
    #[must_use]
    pub fn of(captured: &Captured<'_>, beside: &Beside<'_>) -> Self {
        let mut report = Self::default();
        if let Err(reject) = report.verify(captured, beside) {
            report.findings.push(Finding::refused(reject));
        }
        report
    }

    fn verify(&mut self, captured: &Captured<'_>, beside: &Beside<'_>) -> Result<(), Reject> {
        let key = CapturedKey::parse(captured.ak)?;
        self.attestation_key = Some(KeyRow {
            kind: key.kind(),
            name: key.name().map(|name| name.to_string()),
        });
        let quote = CapturedQuote::parse(captured.quote, captured.signature)?.verify(&key, captured.nonce)?;
        self.statement = Some(StatementRow::of(&quote));
        if quote.is_endorsed == Some(false) {
            self.findings.push(Finding::noted(Reject::QualifiedSigner));
        }
        if let Some(proven) = self.prove(&quote, beside)? {
            self.judge(&proven, beside);
        }
        Ok(())
    }

    /// The values that were signed, if anything came that tells them.
    fn prove(&mut self, quote: &SignedQuote, beside: &Beside<'_>) -> Result<Option<PcrValues>, Reject> {
        if let Some(pcrs) = beside.pcrs {
            return quote.matches(pcrs).map(Some);
        }
        let log = beside.event_log.map(EventLog::parse).transpose()?;
        let Some(list) = beside.ima_log else {
            return log.map(|log| quote.explain(&log, None)).transpose();
        };
        let explained = quote.explain_list(&MeasurementList::parse(list)?, log.as_ref());
        // Without values nobody can tell which of both it is.
        if let (Err(reject @ Reject::ImaUnexplained(_)), Some(_)) = (&explained, &log) {
            self.findings.push(Finding::refused(*reject));
            return Err(Reject::LogUnexplained);
        }
        explained.map(Some)
    }

    /// Holds log and list to what was signed.
    fn judge(&mut self, proven: &PcrValues, beside: &Beside<'_>) {
        let log = beside.event_log.and_then(|log| EventLog::parse(log).ok());
        let boot = log.map_or_else(|| proven.clone(), |log| before_words(&log, proven));
        let listed = |list| ImaReport::begun_at(list, Some(proven), Some(&boot));
        self.ima_log = beside.ima_log.map(listed);
        let is_listed = self.ima_log.as_ref().is_some_and(|list| list.proven.is_some());
        let compared = if is_listed {
            Compared::Listed(proven)
        } else {
            Compared::Quoted(proven)
        };
        self.event_log = beside.event_log.map(|log| LogReport::compared(log, compared));
        let of_log = self.event_log.iter().flat_map(|log| &log.findings);
        let of_list = self.ima_log.iter().flat_map(|list| &list.findings);
        self.findings.extend(of_log.chain(of_list).cloned());
    }
}

impl StatementRow {
    fn of(quote: &SignedQuote) -> Self {
        Self {
            selection: quote.selection().to_string(),
            pcr_digest: hex::encode(quote.pcr_digest().0),
            clock: quote.clock.clock,
            reset_count: quote.clock.reset_count,
            restart_count: quote.clock.restart_count,
            safe: quote.clock.safe,
            firmware_version: format!("{:016x}", quote.firmware_version),
        }
    }
}

impl fmt::Display for QuoteReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = &self.attestation_key {
            let name = key.name.as_deref().unwrap_or("unknown: the key alone was given");
            writeln!(f, "Key           : {}\nName          : {name}", key.kind)?;
        }
        if let Some(statement) = &self.statement {
            writeln!(f, "Signed        : {}", statement.selection)?;
            writeln!(f, "PCR digest    : {}", statement.pcr_digest)?;
            writeln!(
                f,
                "Clock         : {} ms, {} resets, {} restarts, {}",
                statement.clock,
                statement.reset_count,
                statement.restart_count,
                if statement.safe { "safe" } else { "not safe" }
            )?;
            writeln!(f, "Firmware      : {}\n", statement.firmware_version)?;
        }
        // Their findings are among those of the quote.
        if let Some(log) = &self.event_log {
            log.write_facts(f)?;
        }
        if let Some(list) = &self.ima_log {
            list.write_facts(f)?;
        }
        write_findings(f, &self.findings)
    }
}
