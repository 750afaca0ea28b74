//! The swtpm process.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Instant,
};

use crate::{swtpm::Startup, tool, wire};

/// Starts swtpm; `None` if a port is taken. It writes its process number once it listens on both.
pub(crate) fn spawn(dir: &Path, port: u16, startup: &Startup) -> Option<Child> {
    tool::require("swtpm");
    let pid_file = dir.join("pid");
    fs::write(&pid_file, "").unwrap();
    let flags = match startup {
        Startup::Locality0 => "not-need-init,startup-clear",
        Startup::Locality3 | Startup::Locality4(_) => "not-need-init",
    };
    let mut process = Command::new("swtpm")
        .args(["socket", "--tpm2", "--flags", flags])
        .args(["--tpmstate", &format!("dir={}", dir.display())])
        .args(["--pid", &format!("file={}", pid_file.display())])
        .args(["--server", &format!("type=tcp,port={port}")])
        .args(["--ctrl", &format!("type=tcp,port={}", port + 1)])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(dir.join("stderr")).unwrap())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + wire::DEADLINE;
    while fs::read(&pid_file).unwrap().is_empty() {
        if process.try_wait().unwrap().is_some() {
            let said = fs::read_to_string(dir.join("stderr")).unwrap();
            assert!(said.contains("in use"), "swtpm does not start: {said}");
            return None;
        }
        assert!(Instant::now() < deadline, "swtpm does not start in time");
        thread::yield_now();
    }
    Some(process)
}
