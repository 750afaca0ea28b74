//! The kernel's command line, as this host says it. PCRs hold its digest alone: the text is for whoever reads what differs.

use std::{fs, io::Read, path::Path};

use proto::bytes::Bytes;

use crate::wire::MAX_COMMAND_LINE;

/// Reads it; nothing if it can't be read or is longer than a kernel's: a host loses nothing by it.
pub(super) fn read(path: &Path) -> Bytes {
    let most = u64::try_from(MAX_COMMAND_LINE).unwrap_or(u64::MAX);
    let mut text = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(most + 2).read_to_end(&mut text));
    if text.last() == Some(&b'\n') {
        text.pop();
    }
    match read {
        Ok(_) if text.len() <= MAX_COMMAND_LINE => text.into(),
        _ => Bytes::new(),
    }
}
