//! A machine with a TPM, booted as the event log of a real one says.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use attest::{HashAlg, event_log::EventLog};
use serde_json::Value;

use super::{
    output::{checked, read_json, text},
    programs::program,
};
use crate::{KernelEntry, Options, Proxy, Startup, Swtpm, read_log, tool::new_dir};

/// A machine that runs. Dropping it ends it and removes its state.
#[derive(Debug)]
pub struct Machine {
    /// Its TPM.
    pub tpm: Swtpm,
    /// What programs on it reach the TPM by.
    pub proxy: Proxy,
    log: PathBuf,
    /// The list of its kernel, if that measures.
    list: PathBuf,
    /// Further lines for `[plugins.node-tpm]` of an agent on it.
    pub agent_settings: &'static str,
    /// Further lines for `[agent]` of an agent on it.
    pub agent_lines: &'static str,
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
        let dir = new_dir();
        let log = dir.join("binary_bios_measurements");
        fs::write(&log, content).unwrap();
        let proxy = Proxy::before(&tpm);
        Self {
            tpm,
            proxy,
            log,
            list: dir.join("binary_runtime_measurements"),
            agent_settings: "",
            agent_lines: "",
            keys: OnceLock::new(),
        }
    }

    /// Resets its TPM under whatever runs on it, and has the same measured again: nothing that was kept of the TPM's keys
    /// outside of it is of any more use.
    ///
    /// # Panics
    ///
    /// The TPM does not start again.
    pub fn reset_tpm(&mut self) {
        self.tpm.power_cycle();
        self.tpm.replay(&read_log(&fs::read(&self.log).unwrap()));
    }

    /// A machine with a TPM of its own, and with a kernel that measures what is run.
    ///
    /// # Panics
    ///
    /// The log can't be replayed.
    #[must_use]
    pub fn measuring() -> Self {
        let machine = Self::boot();
        let log = EventLog::parse(&fs::read(&machine.log).unwrap()).unwrap();
        let firmware = "sha256:0-9".parse().unwrap();
        let booted = log.replay(HashAlg::Sha256).unwrap();
        let booted = booted.digest(&firmware, HashAlg::Sha256);
        let digest = booted.as_bytes().try_into().unwrap();
        machine.measure(&KernelEntry::of_file("boot_aggregate", digest), true);
        machine
    }

    /// Runs a file, which its kernel measures.
    pub fn run(&self, path: &str) {
        self.measure(&KernelEntry::of_file(path, &[7; 32]), true);
    }

    /// The same, and its list does not show it.
    pub fn run_hidden(&self, path: &str) {
        self.measure(&KernelEntry::of_file(path, &[7; 32]), false);
    }

    /// As a kernel does it: the list first, then the PCR.
    fn measure(&self, entry: &KernelEntry, is_shown: bool) {
        if is_shown {
            let mut list = File::options()
                .create(true)
                .append(true)
                .open(&self.list)
                .unwrap();
            list.write_all(&entry.bytes()).unwrap();
        }
        let digest = entry.extension(HashAlg::Sha256);
        self.tpm.extend(10, HashAlg::Sha256, digest.as_bytes());
    }

    /// Where its kernel's list is, if that measures.
    #[must_use]
    pub fn kernel_list(&self) -> &Path {
        &self.list
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
        let (device, log, list) = (self.proxy.tcti(), self.log.display(), self.list.display());
        let (lines, more) = (self.agent_lines, self.agent_settings);
        format!(
            "{lines}[plugins.node-tpm]\ndevice = \"{device}\"\nevent_log_path = \"{log}\"\nima_log_path = \"{list}\"\n{more}"
        )
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
    let words = [words, &["--output", "json"]].concat();
    read_json(&checked(agent_outcome(&words)))
}

/// The same, whatever comes of it.
///
/// # Panics
///
/// It can't be started.
#[must_use]
pub fn agent_outcome(words: &[&str]) -> Output {
    let mut command = Command::new(program("plastron-agent"));
    command.args(words).output().unwrap()
}
