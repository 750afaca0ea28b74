use tempfile::TempDir;

use super::*;
use crate::journal::{Record, segment::Segment};

/// A trail of records `n=0`, `n=1`…, so many in each file.
fn trail(files: &[u64]) -> TempDir {
    let folder = TempDir::new().unwrap();
    let mut head = Head::genesis();
    for count in files {
        let mut segment = Segment::begin(folder.path(), head).unwrap();
        for _ in 0..*count {
            let mut frames = Vec::new();
            let record = Record::new("test", &"tester").with("n", &(head.next - 1));
            let record = record.encode(head.next, 7);
            frame::write(&mut frames, &mut head, &record);
            segment.append(&frames, head).unwrap();
        }
    }
    folder
}

fn files(folder: &TempDir) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

/// How many records are good, and what comes after.
fn read(folder: &TempDir) -> (u64, Result<(), ReadError>) {
    let mut reader = match Reader::open(folder.path()) {
        Ok(reader) => reader,
        Err(error) => return (0, Err(error)),
    };
    let mut count = 0;
    loop {
        match reader.advance() {
            Ok(Some(entry)) => {
                assert_eq!(entry.record.fields[0].value, count.to_string());
                count += 1;
            }
            Ok(None) => return (count, Ok(())),
            Err(error) => return (count, Err(error)),
        }
    }
}

fn check_fault(folder: &TempDir, good: u64, file: usize, expected: Fault) {
    let (count, outcome) = read(folder);
    assert_eq!(count, good);
    match outcome.unwrap_err() {
        ReadError::Bad {
            sequence,
            path,
            fault,
            ..
        } => {
            assert_eq!((sequence, fault), (good + 1, expected));
            assert_eq!(path, files(folder)[file]);
        }
        other => assert!(other.is_torn(), "{other}"),
    }
}

#[test]
fn a_trail_is_read_over_its_files() {
    for lengths in [&[] as &[u64], &[0], &[3], &[3, 2, 4], &[2, 0]] {
        let (count, outcome) = read(&trail(lengths));
        assert!(outcome.is_ok(), "{lengths:?}: {outcome:?}");
        assert_eq!(count, lengths.iter().sum::<u64>());
    }
}

#[test]
fn any_flipped_byte_is_named() {
    let folder = trail(&[2, 3]);
    for (number, path) in files(&folder).iter().enumerate() {
        let good = fs::read(path).unwrap();
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            fs::write(path, &bytes).unwrap();
            let (count, outcome) = read(&folder);
            let error = outcome.expect_err(&format!("file {number}, byte {at}"));
            if at >= HEADER_LEN {
                let frame = (good.len() - HEADER_LEN) / [2, 3][number];
                let before = [0, 2][number] + (at - HEADER_LEN) / frame;
                assert_eq!(count, before as u64, "file {number}, byte {at}: {error}");
            }
        }
        fs::write(path, good).unwrap();
    }
}

#[test]
fn a_truncated_trail_is_named() {
    let folder = trail(&[2, 3]);
    let paths = files(&folder);
    let cut = |path: &Path, by: u64| {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() - by).unwrap();
    };
    cut(&paths[1], 1);
    check_fault(&folder, 4, 1, Fault::Incomplete);
    cut(&paths[0], 1);
    check_fault(&folder, 1, 0, Fault::Incomplete);
}

#[test]
fn records_and_files_that_are_taken_out_are_missed() {
    let folder = trail(&[3]);
    let path = files(&folder).remove(0);
    let bytes = fs::read(&path).unwrap();
    let frame = (bytes.len() - HEADER_LEN) / 3;
    let without = [&bytes[..HEADER_LEN + frame], &bytes[HEADER_LEN + 2 * frame..]].concat();
    fs::write(&path, without).unwrap();
    check_fault(&folder, 1, 0, Fault::Chain);

    let folder = trail(&[2, 2, 2]);
    fs::remove_file(&files(&folder)[1]).unwrap();
    let (count, outcome) = read(&folder);
    let error = outcome.unwrap_err();
    assert!(
        matches!(
            error,
            ReadError::Gap {
                found: 5,
                expected: 3,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(count, 2);
}

#[test]
fn what_is_written_later_is_read_later() {
    let folder = trail(&[1]);
    let mut reader = Reader::open(folder.path()).unwrap();
    assert!(reader.advance().unwrap().is_some());
    assert!(reader.advance().unwrap().is_none());
    let mut head = reader.head();
    let mut frames = Vec::new();
    frame::write(
        &mut frames,
        &mut head,
        &Record::new("test", &"tester").encode(2, 7),
    );
    let path = files(&folder).remove(0);
    let good = fs::read(&path).unwrap();
    fs::write(&path, [&good[..], &frames[..9]].concat()).unwrap();
    assert!(reader.advance().unwrap_err().is_torn());
    fs::write(&path, [good, frames].concat()).unwrap();
    assert_eq!(reader.advance().unwrap().unwrap().record.sequence, 2);
    Segment::begin(folder.path(), head).unwrap();
    assert!(reader.advance().unwrap().is_none());
}
