//! The TPM of a guest.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use super::machine::mortal;
use crate::{
    manufacture::manufacture,
    swtpm::Options,
    tool::{new_dir, require},
    wire,
    world::Daemon,
};

/// A TPM with certificates from the CA of [`crate::ca_certificates`], for one guest at a time. Dropping it removes its
/// state.
#[derive(Debug)]
pub struct Chip {
    dir: PathBuf,
}

impl Chip {
    /// Makes a TPM.
    #[must_use]
    pub fn manufacture() -> Self {
        let dir = new_dir();
        manufacture(&Options::default(), &dir);
        Self { dir }
    }

    /// Puts it under power. The firmware starts it up; it ends with the guest.
    pub(super) fn power_on(&self) -> Daemon {
        require("swtpm");
        let (pid, socket) = (self.dir.join("pid"), self.socket());
        fs::write(&pid, "").unwrap();
        // Of a boot before.
        fs::remove_file(&socket).ok();
        let mut command = mortal("swtpm");
        command.args(["socket", "--tpm2", "--terminate"]);
        command.args(["--tpmstate", &format!("dir={}", self.dir.display())]);
        command.args(["--pid", &format!("file={}", pid.display())]);
        command.args(["--ctrl", &format!("type=unixio,path={}", socket.display())]);
        let swtpm = Daemon::start(&mut command);
        listens(&pid);
        swtpm
    }

    /// Where the emulator finds it.
    pub(super) fn socket(&self) -> PathBuf {
        self.dir.join("control.sock")
    }
}

/// Waits until swtpm has written its process number, which it does once it listens.
fn listens(pid: &Path) {
    let deadline = Instant::now() + wire::DEADLINE;
    while fs::read(pid).unwrap().is_empty() {
        assert!(Instant::now() < deadline, "swtpm does not start in time");
        thread::yield_now();
    }
}

impl Drop for Chip {
    fn drop(&mut self) {
        // What stays is removed by the next run.
        fs::remove_dir_all(&self.dir).ok();
    }
}
