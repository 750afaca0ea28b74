//! Evidence in files. Nobody signed it: what is learned and tried here proves nothing.

use std::path::{Path, PathBuf};

use attest::{
    HashAlg, PcrSelection, PcrSet, PcrValues,
    event_log::{EventLog, before_words},
    ima::{MeasurementList, Progress, ProvenList, Quoted, explain},
    policy::{Evidence, Policy},
};
use clap::Args;

use super::unusable;
use crate::cli::{
    CommandError,
    verify::{read, read_pcrs},
};

/// Where the evidence of a host is.
#[derive(Args, Debug)]
pub(super) struct EvidenceFiles {
    /// The firmware's event log.
    #[arg(long, value_name = "FILE")]
    event_log: Option<PathBuf>,
    /// What the PCRs hold: as `tpm2_pcrread` prints it, as JSON, or lines such as `sha256:0=9a3c…`. Without it, what the
    /// log says of PCRs 0 to 9 and 11 to 14.
    #[arg(long, value_name = "FILE")]
    pcrs: Option<PathBuf>,
    /// The kernel's measurement list, of the time when the PCRs were read, or when the host was asked last.
    #[arg(long, value_name = "FILE", requires = "proof")]
    ima_log: Option<PathBuf>,
    /// The kernel's command line, as in `/proc/cmdline`: PCRs hold its digest alone.
    #[arg(long, value_name = "TEXT")]
    command_line: Option<String>,
    /// The TPM's firmware version, in hexadecimal, as a quote has it.
    #[arg(long, value_name = "HEX", value_parser = hexadecimal)]
    tpm_firmware: Option<u64>,
}

/// What the files hold.
pub(super) struct Known<'a> {
    files: &'a EvidenceFiles,
    values: PcrValues,
    log: EventLog,
    list: Option<ProvenList>,
}

fn hexadecimal(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u64::from_str_radix(digits, 16).map_err(|error| error.to_string())
}

impl EvidenceFiles {
    /// The kernel's command line, as it was given.
    pub(super) fn command_line(&self) -> Option<&str> {
        self.command_line.as_deref()
    }

    /// The kernel's measurement list for a server that knows the host; empty where none was given.
    pub(super) fn kernel_list(&self) -> Result<Vec<u8>, CommandError> {
        let Some(path) = &self.ima_log else {
            return Ok(Vec::new());
        };
        let list = read(path)?;
        if list.len() > Policy::MAX_LEN {
            let why = format!(
                "longer than {} bytes: no policy could name all of it",
                Policy::MAX_LEN
            );
            return Err(unusable(path, std::io::Error::other(why)));
        }
        Ok(list)
    }

    fn path(&self) -> &Path {
        self.event_log.as_deref().unwrap_or(Path::new(""))
    }

    pub(super) fn read(&self) -> Result<Known<'_>, CommandError> {
        let path = self.path();
        let log = EventLog::parse(&read(path)?).map_err(|reject| unusable(path, reject))?;
        let (values, list) = match &self.pcrs {
            None => (said(&log), None),
            Some(path) => {
                let values = read_pcrs(path)?;
                let list = self.list(&values, &log)?;
                (values, list)
            }
        };
        Ok(Known {
            files: self,
            values,
            log,
            list,
        })
    }

    fn list(&self, values: &PcrValues, log: &EventLog) -> Result<Option<ProvenList>, CommandError> {
        let Some(path) = &self.ima_log else {
            return Ok(None);
        };
        let bytes = read(path)?;
        let prove = || {
            let list = MeasurementList::parse(&bytes)?;
            explain(list, 0, &Progress::of_boot(0), 0, &Quoted::Values(values))?
                .from_this_boot(&before_words(log, values))
        };
        prove().map(Some).map_err(|reject| unusable(path, reject))
    }
}

/// What the log says that PCRs hold, in all banks to decide on.
fn said(log: &EventLog) -> PcrValues {
    let pcrs: PcrSet = (0..=9).chain(11..=14).collect();
    let mut values = PcrValues::default();
    for bank in log.banks().filter(|bank| *bank != HashAlg::Sha1) {
        let (Ok(replayed), Ok(selection)) = (log.replay(bank), PcrSelection::new(vec![(bank, pcrs)])) else {
            continue;
        };
        for (alg, pcr, value) in replayed.select(&selection).iter() {
            values.set(alg, pcr, *value);
        }
    }
    values
}

impl Known<'_> {
    /// The evidence, if the log explains the PCRs.
    pub(super) fn evidence(&self) -> Result<Evidence<'_>, CommandError> {
        let recorded = Evidence::recorded(&self.values, &self.log);
        let mut evidence = recorded.map_err(|reject| unusable(self.files.path(), reject))?;
        if let Some(version) = self.files.tpm_firmware {
            evidence = evidence.with_tpm_firmware(version);
        }
        if let Some(text) = &self.files.command_line {
            evidence = evidence.with_command_line(text);
        }
        if let Some(list) = &self.list {
            evidence = evidence.with_ima(list);
        }
        Ok(evidence)
    }
}
