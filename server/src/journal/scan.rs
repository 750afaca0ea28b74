//! Reading what a journal says, while it may be written.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use prost::Message;
use proto::plastron::store::v1::AuditRecord;

use super::{
    JournalError,
    frame::{self, HEADER_LEN},
    segment,
};

/// Shows `visit` every record in `folder` that was made at `from` (nanoseconds since the epoch) or later, and some
/// before, oldest first. What is appended meanwhile may be shown or not.
///
/// # Errors
///
/// It can't be read, or is damaged.
pub fn scan(folder: &Path, from: i64, mut visit: impl FnMut(&AuditRecord)) -> Result<(), JournalError> {
    for path in since(folder, from)? {
        let bytes = read(&path)?;
        let end = segment::end_of_chain(&path, &bytes)?;
        for record in records(bytes.get(HEADER_LEN..end).unwrap_or_default()) {
            visit(&record);
        }
    }
    Ok(())
}

/// The files that hold what was made since `from`, oldest first: back to one that began before.
fn since(folder: &Path, from: i64) -> Result<Vec<PathBuf>, JournalError> {
    let mut paths = segment::files(folder).map_err(|source| JournalError::File {
        path: folder.into(),
        source,
    })?;
    paths.sort();
    let mut first = 0;
    for (number, path) in paths.iter().enumerate().rev() {
        let front = front(path)?;
        if front.is_some_and(|record| record.at < from) {
            first = number;
            break;
        }
    }
    Ok(paths.split_off(first))
}

/// The first record of a file; nothing if there is none yet.
fn front(path: &Path) -> Result<Option<AuditRecord>, JournalError> {
    let mut bytes = Vec::new();
    let longest = (HEADER_LEN + frame::MAX_FRAME) as u64;
    let read = fs::File::open(path)
        .and_then(|file| io::Read::read_to_end(&mut io::Read::take(file, longest), &mut bytes));
    read.map_err(|source| JournalError::File {
        path: path.into(),
        source,
    })?;
    let frame = bytes.get(HEADER_LEN..).unwrap_or_default();
    Ok(records(frame).next())
}

/// The records of whole frames. A frame that holds something else is passed over: its checksum is right.
fn records(mut frames: &[u8]) -> impl Iterator<Item = AuditRecord> {
    std::iter::from_fn(move || {
        loop {
            let (record, len) = frame::record(frames)?;
            let decoded = AuditRecord::decode(record);
            frames = frames.get(len..)?;
            if let Ok(record) = decoded {
                return Some(record);
            }
        }
    })
}

fn read(path: &Path) -> Result<Vec<u8>, JournalError> {
    fs::read(path).map_err(|source| JournalError::File {
        path: path.into(),
        source,
    })
}
