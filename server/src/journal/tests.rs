use std::{fs, path::Path};

use prost::Message;
use proto::plastron::store::v1::AuditRecord;
use tempfile::TempDir;

use super::{
    frame::{Front, HEADER_LEN, Head},
    *,
};

/// Appends `count` records, each by itself, and closes the journal.
fn write(folder: &TempDir, count: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (journal, thread) = Journal::open(folder.path().into(), Clock::system()).unwrap();
    for n in 0..count {
        runtime
            .block_on(journal.append(vec![Record::new("test", &"tester").with("n", &n)]))
            .unwrap();
    }
    drop(journal);
    thread.join().unwrap();
}

fn file(folder: &TempDir) -> PathBuf {
    fs::read_dir(folder.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path()
}

/// Every record of the only file, as long as the chain holds.
fn read(folder: &TempDir) -> Vec<AuditRecord> {
    let bytes = fs::read(file(folder)).unwrap();
    let mut head = frame::parse_header(&bytes).unwrap();
    assert_eq!(head, Head::genesis());
    let mut rest = &bytes[HEADER_LEN..];
    let mut records = Vec::new();
    while let Front::Frame { len } = frame::read(rest, &mut head) {
        records.push(AuditRecord::decode(&rest[8..len - 32]).unwrap());
        rest = &rest[len..];
    }
    records
}

fn sequences(folder: &TempDir) -> Vec<u64> {
    read(folder).iter().map(|record| record.sequence).collect()
}

#[test]
fn a_scan_shows_what_was_made_since_and_no_frame_that_is_being_written() {
    let folder = TempDir::new().unwrap();
    write(&folder, 3);
    let path = file(&folder);
    let bytes = fs::read(&path).unwrap();
    let mut head = frame::parse_header(&bytes).unwrap();
    let end = read(&folder).len() as u64 + 1;
    let mut rest = &bytes[HEADER_LEN..];
    while let Front::Frame { len } = frame::read(rest, &mut head) {
        rest = &rest[len..];
    }
    let record = |n| Record::new("later", &"tester").encode(n, i64::MAX - 1);
    let mut second = frame::header(&head);
    frame::write(&mut second, &mut head, &record(end));
    frame::write(&mut second, &mut head, &record(end + 1));
    second.truncate(second.len() - 1);
    fs::write(folder.path().join("00000000000000000004.journal"), second).unwrap();

    let seen = |from| {
        let mut seen = Vec::new();
        scan(folder.path(), from, |record| seen.push(record.sequence)).unwrap();
        seen
    };
    assert_eq!(seen(0), [1, 2, 3, 4]);
    // The file before may hold such as were made since, up to the first of the next.
    assert_eq!(seen(i64::MAX - 1), [1, 2, 3, 4]);
    assert_eq!(seen(i64::MAX), [4]);
}

#[test]
fn records_are_numbered_and_chained_over_restarts() {
    let folder = TempDir::new().unwrap();
    write(&folder, 2);
    write(&folder, 1);
    assert_eq!(sequences(&folder), [1, 2, 3]);
    let record = &read(&folder)[1];
    assert_eq!((record.event.as_str(), record.actor.as_str()), ("test", "tester"));
    assert_eq!(
        (record.fields[0].name.as_str(), record.fields[0].value.as_str()),
        ("n", "1")
    );
    assert!(record.at > 1_700_000_000_000_000_000);
}

#[test]
fn a_torn_end_is_dropped_and_written_over() {
    let folder = TempDir::new().unwrap();
    write(&folder, 3);
    let whole = fs::read(file(&folder)).unwrap();
    let second_ends = {
        write(&folder, 0);
        let frame = (whole.len() - HEADER_LEN) / 3;
        HEADER_LEN + 2 * frame
    };
    for cut in second_ends + 1..whole.len() {
        fs::write(file(&folder), &whole[..cut]).unwrap();
        write(&folder, 1);
        assert_eq!(sequences(&folder), [1, 2, 3], "cut at {cut}");
    }
}

#[test]
fn a_torn_header_is_begun_again() {
    let folder = TempDir::new().unwrap();
    write(&folder, 0);
    fs::write(file(&folder), b"PLJ").unwrap();
    write(&folder, 1);
    assert_eq!(sequences(&folder), [1]);
}

#[test]
fn damage_before_the_end_stops_the_start() {
    let folder = TempDir::new().unwrap();
    write(&folder, 3);
    let whole = fs::read(file(&folder)).unwrap();
    let frame = (whole.len() - HEADER_LEN) / 3;
    // Any byte of the first two records and their checksums; lengths would make the rest unreadable.
    for at in (HEADER_LEN + 4..HEADER_LEN + frame).chain(HEADER_LEN + frame + 4..HEADER_LEN + 2 * frame) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(file(&folder), &damaged).unwrap();
        let error = Journal::open(folder.path().into(), Clock::system()).unwrap_err();
        assert!(
            matches!(error, JournalError::Damaged { .. }),
            "byte {at}: {error}"
        );
    }
}

#[test]
fn a_record_from_another_place_breaks_the_chain() {
    let folder = TempDir::new().unwrap();
    write(&folder, 3);
    let whole = fs::read(file(&folder)).unwrap();
    let frame = (whole.len() - HEADER_LEN) / 3;
    let without_second = [&whole[..HEADER_LEN + frame], &whole[HEADER_LEN + 2 * frame..]].concat();
    fs::write(file(&folder), without_second).unwrap();
    assert!(matches!(
        Journal::open(folder.path().into(), Clock::system()),
        Err(JournalError::Damaged { .. })
    ));
}

#[test]
fn many_writers_share_commits_and_lose_nothing() {
    let folder = TempDir::new().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let (journal, thread) = Journal::open(folder.path().into(), Clock::system()).unwrap();
    runtime.block_on(async {
        let writers: Vec<_> = (0..64)
            .map(|n| {
                let journal = journal.clone();
                tokio::spawn(async move {
                    for m in 0..8 {
                        journal
                            .append(vec![Record::new("test", &n).with("m", &m)])
                            .await
                            .unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
    drop(journal);
    thread.join().unwrap();
    assert_eq!(sequences(&folder), (1..=512).collect::<Vec<_>>());
}

/// A number so large would overflow at one of the next records.
#[test]
fn a_number_that_no_server_reaches_is_damage() {
    let mut frames = Vec::new();
    frame::write(&mut frames, &mut Head::genesis(), b"record");
    for (next, expected) in [(1, true), (1 << 62, true), (1 << 63, false), (u64::MAX, false)] {
        let header = frame::header(&Head {
            next,
            ..Head::genesis()
        });
        let end = end_of_chain(Path::new("x"), &[header, frames.clone()].concat());
        assert_eq!(end.is_ok(), expected, "{next}");
    }
}
