use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
    process::Command,
};

use server::store::EngineKind;
use tempfile::TempDir;

use crate::writer;

const COMMITS: u64 = 64;
/// What waits until the disk has it. `sync_file_range` is not among them: it does not empty the drive's cache.
const SYNCS: [&str; 2] = ["fsync(", "fdatasync("];
const WRITES: [&str; 4] = ["write(", "pwrite64(", "writev(", "pwritev("];

#[test]
fn redb_syncs_between_write_and_acknowledgement() {
    check(EngineKind::Redb);
}

#[test]
fn sled_syncs_between_write_and_acknowledgement() {
    check(EngineKind::Sled);
}

/// The kernel's own word: for each acknowledged commit, every file of the store that was written was synced after the
/// last write to it, and the sync had succeeded before the acknowledgement was written.
fn check(engine: EngineKind) {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let trace = trace(&folder.path().join("trace"), &data, engine);
    let mut proven = 0;
    let mut commit = Commit::default();
    for call in calls(&trace) {
        if call.contains("\"begin ") {
            commit = Commit::default();
        } else if call.contains("\"acknowledged ") {
            let (written, unsynced) = (commit.written, &commit.unsynced);
            assert!(
                written && unsynced.is_empty(),
                "{}: {unsynced:?} before {call}",
                engine.name()
            );
            proven += 1;
        } else if call.contains(&*data.to_string_lossy()) {
            commit.note(&call);
        }
    }
    assert_eq!(proven, COMMITS);
}

/// What was seen since a commit began.
#[derive(Default)]
struct Commit {
    written: bool,
    unsynced: HashSet<String>,
}

impl Commit {
    fn note(&mut self, call: &str) {
        let (_, file) = call.split_once('<').unwrap();
        let (file, _) = file.split_once('>').unwrap();
        let is_any = |names: &[&str]| names.iter().any(|name| call.starts_with(name));
        if is_any(&WRITES) {
            self.written = true;
            self.unsynced.insert(file.to_owned());
        } else if is_any(&SYNCS) && call.ends_with("= 0") {
            self.unsynced.remove(file);
        }
    }
}

fn trace(output: &Path, data: &Path, engine: EngineKind) -> String {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-qq", "-e", "signal=none", "-s", "32", "-e"]);
    strace.arg("trace=write,pwrite64,writev,pwritev,fsync,fdatasync,sync_file_range");
    strace.arg("-o").arg(output).arg(writer::itself());
    let mut command = writer::command(strace, data, engine, 0, COMMITS);
    let ended = command
        .output()
        .expect("strace is missing: apt-get install strace");
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(
        ended.status.success(),
        "the traced writer failed; if this place refuses ptrace, it must be allowed (for docker: --cap-add SYS_PTRACE): {said}"
    );
    fs::read_to_string(output).unwrap()
}

/// Each call on one line, where it began if it is a write and where it ended if it is a sync: the order that proves
/// least. Lines are `<thread> name(fd<path>, …) = result`, and calls of several threads interrupt each other.
fn calls(trace: &str) -> Vec<String> {
    let mut begun = HashMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let (thread, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        let is_sync = |call: &str| SYNCS.iter().any(|name| call.starts_with(name));
        if let Some(front) = call.strip_suffix("<unfinished ...>") {
            if !is_sync(front) {
                calls.push(front.to_owned());
            }
            begun.insert(thread, (front.to_owned(), calls.len()));
        } else if call.starts_with("<... ") {
            let (front, at) = begun.remove(thread).unwrap();
            let (_, result) = call.split_once("resumed>").unwrap();
            // A write that began meanwhile may not be covered by this sync.
            let covers = !calls[at..]
                .iter()
                .any(|call: &String| WRITES.iter().any(|name| call.starts_with(name)));
            if covers || !is_sync(&front) {
                calls.push(format!("{front}{result}"));
            }
        } else {
            calls.push(call.to_owned());
        }
    }
    calls
}
