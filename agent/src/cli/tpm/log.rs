//! `tpm log`: the firmware's event log, as a verifier sees it.

use std::path::PathBuf;

use attest::report::{Finding, LogReport};
use clap::Args;
use edge::json::pretty;
use plugin_api::TpmDevice;

use super::{CommandError, Device, Output, all_pcrs, line};
use crate::host_tpm;

/// Prints the firmware's event log as a verifier sees it: events, PCRs, Secure Boot, and what checks find.
///
/// Exits with 1 if something is refused. `plastron-server verify event-log` says the same of a copy of the file.
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
        match self.device.output {
            Output::Json => line(&pretty(&report)?),
            Output::Pretty => line(&report.to_string()),
        }
        if Finding::any_refused(&report.findings) {
            return Err(CommandError::Input("the event log is refused".into()));
        }
        Ok(())
    }
}

fn read(path: PathBuf) -> Result<Vec<u8>, CommandError> {
    std::fs::read(&path).map_err(|source| CommandError::Unreadable { path, source })
}
