//! Header and frames of a journal file.

use aws_lc_rs::digest::{self, SHA256};

/// Hash over all records up to one.
pub type Hash = [u8; 32];

const NAME: &[u8; 7] = b"PLJRNL\0";
/// The format that this build writes. There was none before.
const VERSION: u8 = 1;
pub(super) const HEADER_LEN: usize = 8 + 8 + 32;
/// Longest record in bytes.
pub(super) const MAX_RECORD: usize = 256 * 1024;
const OVERHEAD: usize = 4 + 4 + 32;
/// Longest frame in bytes.
pub(super) const MAX_FRAME: usize = MAX_RECORD + OVERHEAD;

/// Where the chain stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Head {
    /// Sequence number of the next record, from 1.
    pub next: u64,
    /// SHA-256 over the last record and all before it; zeros before the first.
    pub hash: Hash,
}

impl Head {
    pub(super) const fn genesis() -> Self {
        Self {
            next: 1,
            hash: [0; 32],
        }
    }

    fn advance(&mut self, record: &[u8]) {
        let mut context = digest::Context::new(&SHA256);
        context.update(&self.hash);
        context.update(record);
        self.next += 1;
        for (to, from) in self.hash.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
    }
}

/// The header of a file that continues from `head`.
pub(super) fn header(head: &Head) -> Vec<u8> {
    [NAME.as_slice(), &[VERSION], &head.next.to_be_bytes(), &head.hash].concat()
}

/// The version of a file that a newer server wrote.
pub(super) fn newer_version(bytes: &[u8]) -> Option<u8> {
    let version = bytes.strip_prefix(NAME)?.first()?;
    (*version > VERSION).then_some(*version)
}

/// Most records before a file: no server reaches it, and what follows can still be counted.
const MAX_BEFORE: u64 = u64::MAX / 2;

/// Reads a header; nothing if it is none that a server wrote.
pub(super) fn parse_header(bytes: &[u8]) -> Option<Head> {
    let rest = bytes.strip_prefix(NAME)?.strip_prefix(&[VERSION])?;
    let (next, rest) = rest.split_first_chunk()?;
    let (hash, _) = rest.split_first_chunk()?;
    let next = u64::from_be_bytes(*next);
    (next <= MAX_BEFORE).then_some(Head { next, hash: *hash })
}

/// Appends a frame to `out` and moves `head` on.
pub(super) fn write(out: &mut Vec<u8>, head: &mut Head, record: &[u8]) {
    head.advance(record);
    let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
    out.extend(length.to_be_bytes());
    out.extend(checksum(record, &head.hash));
    out.extend(record);
    out.extend(head.hash);
}

/// What stands at the front of `bytes`.
pub(super) enum Front {
    /// A whole frame of `len` bytes that continues the chain.
    Frame { len: usize },
    /// Nothing.
    End,
    /// Something else; where its length can be read, a frame that follows it may be whole.
    Bad { skip: Option<usize> },
}

/// Reads a frame that continues from `head`, and moves `head` on.
pub(super) fn read(bytes: &[u8], head: &mut Head) -> Front {
    if bytes.is_empty() {
        return Front::End;
    }
    let Some((record, len, checksum_ok)) = split(bytes) else {
        return Front::Bad { skip: None };
    };
    let mut next = *head;
    next.advance(record);
    let hash = bytes.get(len - 32..len).unwrap_or_default();
    if !checksum_ok || hash != next.hash {
        return Front::Bad { skip: Some(len) };
    }
    *head = next;
    Front::Frame { len }
}

/// The record in the whole frame at the front, and the length of the frame.
pub(super) fn record(bytes: &[u8]) -> Option<(&[u8], usize)> {
    split(bytes).map(|(record, len, _)| (record, len))
}

/// Whether a frame with a right checksum stands at the front, wherever the chain is.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    split(bytes).is_some_and(|(_, _, checksum_ok)| checksum_ok)
}

/// How many bytes follow the length in a frame; `None` if no record is that long.
pub(super) fn rest(length: u32) -> Option<usize> {
    let length = usize::try_from(length).ok()?;
    (length <= MAX_RECORD).then_some(length + OVERHEAD - 4)
}

/// The record, the length of its frame, and whether the checksum is right.
fn split(bytes: &[u8]) -> Option<(&[u8], usize, bool)> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length))
        .ok()
        .filter(|length| *length <= MAX_RECORD)?;
    let (expected, rest) = rest.split_first_chunk::<4>()?;
    let (record, rest) = rest.split_at_checked(length)?;
    let (hash, _) = rest.split_first_chunk()?;
    Some((record, length + OVERHEAD, *expected == checksum(record, hash)))
}

fn checksum(record: &[u8], hash: &Hash) -> [u8; 4] {
    crc32c::crc32c_append(crc32c::crc32c(record), hash).to_be_bytes()
}
