//! A report on a captured quote.

use std::fmt;

use serde::Serialize;

use super::{Finding, LogReport, compared::Compared, write_findings};
use crate::{CapturedKey, CapturedQuote, PcrSelection, PcrValues, Reject, SignedQuote, event_log::EventLog};

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
    /// What checks found, of quote and log.
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

impl QuoteReport {
    /// Reports on a quote; `pcrs` are the values that came with it, `log` the event log, where there are any.
    #[must_use]
    pub fn of(captured: &Captured<'_>, pcrs: Option<&PcrValues>, log: Option<&[u8]>) -> Self {
        let mut report = Self::default();
        if let Err(reject) = report.verify(captured, pcrs, log) {
            report.findings.push(Finding::refused(reject));
        }
        report
    }

    fn verify(
        &mut self,
        captured: &Captured<'_>,
        pcrs: Option<&PcrValues>,
        log: Option<&[u8]>,
    ) -> Result<(), Reject> {
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
        let proven = pcrs.map(|pcrs| quote.matches(pcrs)).transpose()?;
        let Some(bytes) = log else {
            return Ok(());
        };
        let proven = match proven {
            Some(proven) => proven,
            None => quote.explain(&EventLog::parse(bytes)?, None)?,
        };
        let report = LogReport::compared(bytes, Compared::Quoted(&proven));
        self.findings.extend(report.findings.iter().cloned());
        self.event_log = Some(report);
        Ok(())
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
        match &self.event_log {
            // Its findings are among those of the quote.
            Some(log) => write!(
                f,
                "{}",
                LogReport {
                    findings: self.findings.clone(),
                    ..log.clone()
                }
            ),
            None => write_findings(f, &self.findings),
        }
    }
}
