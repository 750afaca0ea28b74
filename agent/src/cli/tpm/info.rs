//! `tpm info`: what the TPM is, and whether the firmware's event log explains its PCRs.

use std::{fmt, path::PathBuf};

use attest::{
    HashAlg, PcrValues,
    ek::EkCertificate,
    report::{Comparison, Finding, LogReport, PcrRow, SecureBootRow},
};
use clap::Args;
use plugin_api::{TpmDevice, TpmEk};
use serde::Serialize;

use super::{CommandError, Device, Key, all_pcrs};
use crate::host_tpm;

/// Prints what the TPM is, its PCRs of all active banks, whether the firmware's event log explains them, and what it proves
/// of Secure Boot.
///
/// Exits with 1 if something is refused, and with 2 if TPM or event log can't be read. `tpm log` shows the events.
#[derive(Args, Debug)]
pub(in crate::cli) struct Info {
    #[command(flatten)]
    device: Device,
}

#[derive(Serialize)]
struct Report {
    device: String,
    endorsement_keys: Vec<Key>,
    /// What PCRs hold that were ever extended, or should have been.
    pcrs: Vec<Pcr>,
    event_log: Log,
    /// Secure Boot, if PCR 7 tells, and the log explains it.
    #[serde(skip_serializing_if = "Option::is_none")]
    secure_boot: Option<SecureBootRow>,
    /// What checks found, of endorsement keys and log.
    findings: Vec<Finding>,
}

#[derive(Serialize)]
struct Pcr {
    bank: String,
    index: u8,
    value: String,
    /// What the log says it is; absent where that is the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_log_value: Option<String>,
}

#[derive(Serialize)]
struct Log {
    path: PathBuf,
    bytes: usize,
    events: usize,
    sha256: String,
    /// Why it can't be used; empty if it can.
    problem: String,
}

impl Info {
    pub(super) fn execute(&self) -> Result<(), CommandError> {
        let settings = self.device.settings()?;
        let mut tpm = tpm::open(host_tpm::settings(&settings))?;
        let (endorsement_keys, mut findings) = keys(&tpm.endorsement_keys()?);
        let values = tpm.read_pcrs(&all_pcrs()?)?;
        let path = settings.event_log_path;
        let content = std::fs::read(&path);
        let judged = content
            .as_ref()
            .map(|content| LogReport::of(content, Some(&values)));
        let judged = judged.unwrap_or_default();
        findings.extend(judged.findings.iter().cloned());
        let report = Report {
            device: settings.device,
            endorsement_keys,
            pcrs: pcrs(&values, &judged.pcrs),
            event_log: Log::of(path.clone(), &content, &judged),
            secure_boot: judged.secure_boot,
            findings,
        };
        self.device.print(&report, &report.findings)?;
        content
            .map(drop)
            .map_err(|source| CommandError::Unreadable { path, source })
    }
}

/// The endorsement keys, and what is wrong with them. A host is enrolled by its key, whatever the certificate.
fn keys(found: &[TpmEk]) -> (Vec<Key>, Vec<Finding>) {
    let (mut keys, mut findings) = (Vec::new(), Vec::new());
    for key in found {
        match Key::of(key) {
            Ok(key) => keys.push(key),
            Err(reject) => findings.push(Finding::refused(reject)),
        }
        let certificate = key.certificate.as_deref().map(EkCertificate::parse);
        findings.extend(certificate.and_then(Result::err).map(Finding::noted));
    }
    (keys, findings)
}

/// The PCRs that were ever extended, or should have been, each compared with the log.
fn pcrs(values: &PcrValues, replayed: &[PcrRow]) -> Vec<Pcr> {
    let is_used = |value: &attest::Digest| !value.is_filled(0) && !value.is_filled(0xff);
    let compared = values.iter().map(|(alg, index, value)| {
        let bank = alg.to_string();
        let is_other =
            |row: &&PcrRow| row.bank == bank && row.index == index && row.compared == Comparison::Differs;
        let logged = replayed.iter().find(is_other).map(|row| row.value.clone());
        (bank.clone(), index, value, logged)
    });
    compared
        .filter(|(_, _, value, logged)| is_used(value) || logged.is_some())
        .map(|(bank, index, value, event_log_value)| Pcr {
            bank,
            index,
            value: value.to_string(),
            event_log_value,
        })
        .collect()
}

impl Log {
    fn of(path: PathBuf, content: &std::io::Result<Vec<u8>>, judged: &LogReport) -> Self {
        let problem = match content {
            Err(error) => error.to_string(),
            // A log that is none has no format.
            Ok(_) if judged.format.is_empty() => {
                let reject = judged.findings.first();
                reject.map_or_else(String::new, |finding| {
                    format!("{} ({})", finding.text, finding.code)
                })
            }
            Ok(_) => String::new(),
        };
        let content = content.as_deref().unwrap_or_default();
        Self {
            path,
            bytes: content.len(),
            events: judged.events.len(),
            sha256: HashAlg::Sha256.digest(&[content]).to_string(),
            problem,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "TPM           : {}\n", self.device)?;
        for key in &self.endorsement_keys {
            writeln!(f, "{}\n", key.facts())?;
        }
        let (log, path) = (&self.event_log, self.event_log.path.display());
        writeln!(
            f,
            "Event log     : {path} ({} events, {} bytes)",
            log.events, log.bytes
        )?;
        if !log.problem.is_empty() {
            writeln!(f, "                NOT USABLE: {}", log.problem)?;
        }
        match &self.secure_boot {
            Some(state) => write!(f, "{state}")?,
            None => writeln!(f, "Secure Boot   : unknown")?,
        }
        writeln!(f)?;
        for pcr in &self.pcrs {
            writeln!(f, "{:6} PCR {:2} : {}", pcr.bank, pcr.index, pcr.value)?;
            if let Some(logged) = &pcr.event_log_value {
                writeln!(f, "  the event log says {logged}")?;
            }
        }
        writeln!(f)?;
        if self.findings.is_empty() {
            writeln!(f, "Nothing was found.")?;
        }
        self.findings
            .iter()
            .try_for_each(|finding| writeln!(f, "{finding}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attest::Digest;

    #[test]
    fn pcrs_that_the_log_says_were_extended_are_shown() {
        let mut values = PcrValues::default();
        let mut replayed = Vec::new();
        let [zeros, ones, used] = [0, 0xff, 7].map(|byte| Digest::filled(byte, HashAlg::Sha256));
        for (index, value, logged) in [
            (0, zeros, Some(used)),
            (1, zeros, Some(zeros)),
            (2, zeros, None),
            (3, used, Some(used)),
            (17, ones, None),
            (18, ones, Some(used)),
        ] {
            values.set(HashAlg::Sha256, index, value);
            let compared = match logged {
                Some(logged) if logged == value => Comparison::Equal,
                Some(_) => Comparison::Differs,
                None => Comparison::Unproven,
            };
            replayed.push(PcrRow {
                bank: "sha256".into(),
                index,
                value: logged.unwrap_or(zeros).to_string(),
                compared,
                actual: None,
            });
        }
        let shown = pcrs(&values, &replayed);
        let shown: Vec<_> = shown
            .iter()
            .map(|pcr| (pcr.index, pcr.event_log_value.is_some()))
            .collect();
        assert_eq!(shown, [(0, true), (3, false), (18, true)]);
    }
}
