//! A machine with a TPM, booted as the event log of a real one says.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use attest::HashAlg;
use serde_json::Value;

use super::{
    output::{checked, read_json, text},
    programs::program,
};
use crate::{Options, Proxy, Startup, Swtpm, read_log, tool::new_dir};

/// A machine that runs. Dropping it ends it and removes its state.
#[derive(Debug)]
pub struct Machine {
    /// Its TPM.
    pub tpm: Swtpm,
    /// What programs on it reach the TPM by.
    pub proxy: Proxy,
    log: PathBuf,
    keys: OnceLock<Value>,
}

impl Machine {
    /// A machine with a TPM of its own, whose PCRs a ThinkPad's log explains.
    #[must_use]
    pub fn boot() -> Self {
        Self::with(Options::default())
    }

    /// The same, with such a TPM.
    ///
    /// # Panics
    ///
    /// The TPM does not do what the log says.
    #[must_use]
    pub fn with(options: Options) -> Self {
        Self::booted_with("guard-good-1.eventlog.bin", options)
    }

    /// A machine with a TPM of its own, which booted as this log in the test data of `attest` says.
    #[must_use]
    pub fn booted(log: &str) -> Self {
        Self::booted_with(log, Options::default())
    }

    fn booted_with(log: &str, options: Options) -> Self {
        let content = fs::read(captured(log)).unwrap();
        let measured = read_log(&content);
        let startup = match measured.startup_locality {
            Some(3) => Startup::Locality3,
            _ => Startup::Locality0,
        };
        let tpm = Swtpm::with(Options { startup, ..options });
        tpm.replay(&measured);
        let log = new_dir().join("binary_bios_measurements");
        fs::write(&log, content).unwrap();
        let proxy = Proxy::before(&tpm);
        Self {
            tpm,
            proxy,
            log,
            keys: OnceLock::new(),
        }
    }

    /// What `plastron-agent tpm ek` prints on it.
    #[must_use]
    pub fn endorsement_keys(&self) -> &Value {
        self.keys
            .get_or_init(|| agent_cli(&["tpm", "ek", "--device", &self.proxy.tcti()]))
    }

    /// The hash of its first endorsement key.
    #[must_use]
    pub fn ek_hash(&self) -> String {
        text(&self.endorsement_keys()["endorsement_keys"][0]["hash"])
    }

    /// SPIFFE ID of its agent, if it is enrolled by what [`Self::endorsement_keys`] says.
    #[must_use]
    pub fn agent_id(&self) -> String {
        format!("spiffe://example.org/spire/agent/tpm/{}", self.ek_hash())
    }

    /// Has something measured into this PCR of which no log tells.
    pub fn measure_unlogged(&self, pcr: u8) {
        self.tpm.extend(pcr, HashAlg::Sha256, &[1; 32]);
    }

    /// Where its firmware's event log is.
    #[must_use]
    pub fn event_log(&self) -> &Path {
        &self.log
    }

    /// Tables for the configuration of an agent on it.
    #[must_use]
    pub fn settings(&self) -> String {
        let (device, log) = (self.proxy.tcti(), self.log.display());
        format!("[plugins.node-tpm]\ndevice = \"{device}\"\nevent_log_path = \"{log}\"\n")
    }
}

/// An event log of a real machine.
fn captured(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../attest/testdata/eventlogs")
        .join(name)
}

/// Runs `plastron-agent` with `words`, where no agent runs, and returns what it printed.
///
/// # Panics
///
/// It fails.
#[must_use]
pub fn agent_cli(words: &[&str]) -> Value {
    let mut command = Command::new(program("plastron-agent"));
    read_json(&checked(
        command.args(words).args(["--output", "json"]).output().unwrap(),
    ))
}
