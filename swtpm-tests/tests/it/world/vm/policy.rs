//! Reference values for guests, and the evidence of one that runs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::Value;
use swtpm_tests::{
    World, new_dir, server_cli,
    vm::{Guest, Uki},
};

/// What a guest shows, in files.
pub(super) struct Evidence {
    event_log: PathBuf,
    pcrs: PathBuf,
    command_line: String,
}

/// A policy, in a file.
pub(super) struct Policy(PathBuf);

impl Evidence {
    pub(super) fn of(guest: &mut Guest) -> Self {
        let event_log = guest.read("/sys/kernel/security/tpm0/binary_bios_measurements");
        let pcrs = "cd /sys/class/tpm/tpm0/pcr-sha256 && \
                    for i in 0 1 2 3 4 5 6 7 8 9 11 12 13 14; do echo \"sha256:$i=$(cat $i)\"; done; cd /";
        Self {
            event_log: write("log.bin", event_log),
            pcrs: write("pcrs", guest.run(pcrs)),
            command_line: guest.run("cat /proc/cmdline"),
        }
    }
}

impl Policy {
    /// Secure Boot, and this image alone, as its file says.
    pub(super) fn of(uki: &Uki) -> Self {
        let rules = "format = 1\nname = \"guests\"\nversion = 1\n\n[secure_boot]\nenforced = true\n\n";
        let predicted = printed(&["policy", "predict", "--name", "usual", path(&uki.path())]);
        Self(write("policy.toml", format!("{rules}{predicted}")))
    }

    /// Its next version, which accepts `uki` as well.
    pub(super) fn with(&self, uki: &Uki) -> Self {
        let into = ["policy", "predict", "--name", "next", "--into", path(&self.0)];
        let next = printed(&[&into[..], &[path(&uki.path())]].concat());
        Self(write("policy.toml", next))
    }

    /// Has `world` hold all hosts to this version, or one that it enforces already; also those that have not attested.
    pub(super) fn enforce(&self, world: &World) {
        let _applied = world.cli(&["policy", "apply", path(&self.0)]);
        let _assigned = world.cli(&["policy", "assign", "--all", "--set", "guests"]);
        let promoted = world.cli(&["policy", "promote", "guests", "--accept-unknown", "1"]);
        assert_eq!(promoted["is_done"], true, "{promoted}");
    }

    /// What becomes of a host with this evidence.
    pub(super) fn tried_on(&self, evidence: &Evidence) -> Value {
        let policy = ["policy", "test", path(&self.0), "--output", "json"];
        let files = [
            "--event-log",
            path(&evidence.event_log),
            "--pcrs",
            path(&evidence.pcrs),
        ];
        let command_line = ["--command-line", &evidence.command_line];
        let outcome = server_cli(&[&policy[..], &files, &command_line].concat());
        serde_json::from_slice(&outcome.stdout).unwrap_or_else(|_| panic!("{}", said(&outcome)))
    }
}

fn printed(words: &[&str]) -> String {
    let outcome = server_cli(words);
    assert!(outcome.status.success(), "{words:?}: {}", said(&outcome));
    String::from_utf8(outcome.stdout).unwrap()
}

fn said(outcome: &Output) -> String {
    String::from_utf8_lossy(&outcome.stderr).into_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn write(name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = new_dir().join(name);
    fs::write(&path, content).unwrap();
    path
}
