//! A process that commits to a store as fast as it can, and says which commits were acknowledged. It is this very
//! test binary, started again.

use std::{
    env,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use server::store::{Batch, Condition, Config, EngineKind, Store};

const FOLDER: &str = "PLASTRON_STORE";
const ENGINE: &str = "PLASTRON_STORE_ENGINE";
const FIRST: &str = "PLASTRON_STORE_FIRST";
const COUNT: &str = "PLASTRON_STORE_COUNT";

/// Every so many commits, one has a value that sled spills to a file of its own.
const SPILLED_EVERY: u64 = 16;
const SPILLED: usize = 600 * 1024;

/// Writes `count` commits, from number `first`.
pub(crate) fn command(
    mut through: Command,
    folder: &Path,
    engine: EngineKind,
    first: u64,
    count: u64,
) -> Command {
    through.args([
        "--exact",
        "writer::writes",
        "--ignored",
        "--nocapture",
        "--test-threads=1",
    ]);
    through.env(FOLDER, folder).env(ENGINE, engine.name());
    through
        .env(FIRST, first.to_string())
        .env(COUNT, count.to_string());
    through
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    through
}

/// This binary.
pub(crate) fn itself() -> PathBuf {
    env::current_exe().unwrap()
}

pub(crate) fn open(folder: &Path, engine: EngineKind) -> Store {
    Store::open(folder, Config { engine }).unwrap()
}

/// What commit `number` writes: three records that only stand together.
pub(crate) fn records(number: u64) -> [(Vec<u8>, Vec<u8>); 3] {
    let last = match number % SPILLED_EVERY {
        0 => vec![b'x'; SPILLED],
        _ => b"last".to_vec(),
    };
    [
        (format!("a/{number:08}").into(), number.to_string().into()),
        (format!("m/{number:08}").into(), vec![b'v'; 400]),
        (format!("z/{number:08}").into(), last),
    ]
}

#[test]
#[ignore = "the process that the other tests kill and trace"]
fn writes() {
    let variable = |name| env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let engine = EngineKind::ALL
        .into_iter()
        .find(|kind| kind.name() == variable(ENGINE));
    let store = open(Path::new(&variable(FOLDER)), engine.unwrap());
    let first: u64 = variable(FIRST).parse().unwrap();
    let count: u64 = variable(COUNT).parse().unwrap();
    // The test runner has begun a line of its own.
    say("");
    for number in first..first + count {
        let mut batch = Batch::default();
        for (key, value) in records(number) {
            batch.require(Condition::Absent(key.clone()));
            batch.put(key, value);
        }
        say(&format!("begin {number}"));
        store.commit(batch).unwrap();
        say(&format!("acknowledged {number}"));
    }
}

/// One write to the system for one line: what was said before a kill is known after it.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}
