//! `tpm log`: the firmware's event log, as a verifier sees it.

use std::path::PathBuf;

use attest::report::LogReport;
use clap::Args;
use plugin_api::TpmDevice;

use super::{CommandError, Device, all_pcrs};
use crate::host_tpm;

/// Prints the firmware's event log as a verifier sees it: events, PCRs, Secure Boot, and what checks find.
///
/// Exits with 1 if something is refused, and with 2 if TPM or event log can't be read. `plastron-server verify event-log` says the same of a copy of the file.
#[derive(Args, Debug)]
pub(in crate::cli) struct Log {
    /// Does not ask the TPM what its PCRs hold.
    #[arg(long)]
    no_pcrs: bool,
    #[command(flatten)]
    device: Device,
}

impl Log {
    pub(super) fn execute(&self) -> Result<(), CommandError> {
        let settings = self.device.settings()?;
        let log = read(settings.event_log_path.clone())?;
        let actual = if self.no_pcrs {
            None
        } else {
            let mut tpm = tpm::open(host_tpm::settings(&settings))?;
            Some(tpm.read_pcrs(&all_pcrs()?)?)
        };
        let report = LogReport::of(&log, actual.as_ref());
        self.device.print(&report, &report.findings)
    }
}

fn read(path: PathBuf) -> Result<Vec<u8>, CommandError> {
    std::fs::read(&path).map_err(|source| CommandError::Unreadable { path, source })
}
