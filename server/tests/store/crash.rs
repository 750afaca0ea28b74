use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::Path,
    process::Command,
};

use server::store::{EngineKind, Store, StoreError};
use tempfile::TempDir;

use crate::writer;

const ROUNDS: u64 = 90;

#[test]
fn redb_keeps_what_it_acknowledged_when_killed() {
    check(EngineKind::Redb);
}

#[test]
fn sled_keeps_what_it_acknowledged_when_killed() {
    check(EngineKind::Sled);
}

/// In each round the writer is killed after another number of acknowledgements, in the middle of the next commit.
fn check(engine: EngineKind) {
    let folder = TempDir::new().unwrap();
    let (mut acknowledged, mut next) = (Vec::new(), 0);
    for round in 0..ROUNDS {
        let said = write_and_kill(folder.path(), engine, next, 1 + round * 7 % 40);
        acknowledged.extend(next..next + said);
        let kept = kept(&writer::open(folder.path(), engine));
        let lost: Vec<_> = acknowledged
            .iter()
            .filter(|number| !kept.contains_key(number))
            .collect();
        assert!(lost.is_empty(), "round {round} lost {lost:?}");
        let torn: Vec<_> = kept.iter().filter(|(_, parts)| **parts != 3).collect();
        assert!(torn.is_empty(), "round {round} left a part of {torn:?}");
        // One commit may have been durable before it could be acknowledged.
        let more = u64::try_from(kept.len()).unwrap() - u64::try_from(acknowledged.len()).unwrap();
        assert!(more <= round + 1, "{more} unacknowledged after round {round}");
        next = kept.keys().next_back().map_or(0, |last| last + 1);
    }
    println!(
        "{}: {} acknowledged commits survived {ROUNDS} kills",
        engine.name(),
        acknowledged.len()
    );
}

/// How many commits were acknowledged, of those from `first` on.
fn write_and_kill(folder: &Path, engine: EngineKind, first: u64, after: u64) -> u64 {
    let mut command = writer::command(
        Command::new(writer::itself()),
        folder,
        engine,
        first,
        u64::MAX / 2,
    );
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = 0;
    for line in lines.map_while(Result::ok) {
        acknowledged += u64::from(line.starts_with("acknowledged "));
        if acknowledged == after {
            // What it says until it is dead counts as well.
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(acknowledged >= after, "the writer ended by itself");
    acknowledged
}

/// How many records there are of each commit, all of them as they were written.
fn kept(store: &Store) -> BTreeMap<u64, usize> {
    let mut kept = BTreeMap::new();
    let scanned = store.scan(b"", |key, value| {
        let name = std::str::from_utf8(key).unwrap();
        if let Some((_, number)) = name.split_once('/').filter(|_| !server::store::is_own(key)) {
            let number = number.parse().unwrap();
            let is_written = writer::records(number)
                .iter()
                .any(|(its_key, its_value)| its_key == key && its_value == value);
            assert!(is_written, "{name} is not what was written");
            *kept.entry(number).or_insert(0) += 1;
        }
        Ok::<_, StoreError>(())
    });
    scanned.unwrap();
    kept
}
