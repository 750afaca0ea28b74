//! The kernel's measurement list: what IMA measured into PCR 10 since the kernel started (checks 56–58 of the
//! list in `SECURITY.md`).
//!
//! As with the firmware's [event log](crate::event_log), the host sends the list, and nothing in it is true but
//! what the PCRs prove:
//!
//! ```text
//!   bytes ──▶ MeasurementList::parse ▶ MeasurementList  refuses: no list, one larger than any real one, an entry
//!                                           │                    whose fields don't have its digest (45, 57)
//!                                           ▼
//!   quote, ─▶ explain ───────────────▶ ProvenList       refuses: a list of which no beginning adds up to the PCR,
//!   progress                                │                    one that goes on elsewhere than it was left (56, 58)
//!                                           ▼
//!             ProvenList::without_violations, from_this_boot, hashed_whole        what a policy may demand (57)
//! ```
//!
//! A list that is long comes in parts: [`Progress::past`] adds them up, and the last one is explained.
//!
//! The kernel goes on measuring while a TPM signs, so the list may be longer than the quote: what is proven is the
//! beginning that adds up to the PCR, and nothing else is shown.

mod aggregate;
mod ascii;
mod binary;
mod entry;
mod explain;

#[cfg(test)]
mod tests;

use crate::{HashAlg, Reject};

pub use entry::{Entry, FileDigest};
pub use explain::{Hashing, Progress, ProvenList, Quoted, explain};

use binary::{Entries, Layout};

/// The PCR that IMA extends, unless its policy or the kernel's configuration names another.
pub const PCR: u8 = 10;

/// A measurement list that parsed: as long as its bytes, and not yet believed.
#[derive(Clone, Debug)]
pub struct MeasurementList {
    bytes: Box<[u8]>,
    layout: Layout,
    len: u32,
}

impl MeasurementList {
    /// Longest list in bytes: a server that measures all that root reads has some megabytes.
    pub const MAX_LEN: usize = 32 << 20;
    /// Most entries of a list.
    pub const MAX_ENTRIES: u32 = 1 << 18;
    /// Most data of an entry in bytes: keys, signatures and policies have some kilobytes.
    pub const MAX_DATA: usize = 1 << 18;
    /// Longest path in bytes (`PATH_MAX` of the kernel).
    pub const MAX_PATH: usize = 4096;

    /// Parses `binary_runtime_measurements` or `ascii_runtime_measurements`, as the kernel shows them, also with a
    /// digest of another hash than SHA-1 in front of each entry. An empty list is one of no entries.
    ///
    /// # Errors
    ///
    /// [`Reject::ImaLimit`], [`Reject::ImaMalformed`], or [`Reject::ImaTemplateDigest`] if an entry's fields do not
    /// have its digest.
    pub fn parse(bytes: &[u8]) -> Result<Self, Reject> {
        if bytes.len() > Self::MAX_LEN {
            return Err(Reject::ImaLimit);
        }
        match bytes.first() {
            // A binary list begins with the number of a PCR, of which there are 24.
            Some(b' ' | b'0'..=b'9') => {
                let (layout, bytes) = ascii::to_binary(bytes)?;
                Self::read(bytes.into(), layout)
            }
            _ => {
                let layout = Layout::detect(bytes);
                // A file that went through an editor ends with a line feed.
                let bytes = match Entries::new(bytes, layout).find(Result::is_err) {
                    Some(_) => bytes.strip_suffix(b"\n").unwrap_or(bytes),
                    None => bytes,
                };
                Self::read(bytes.into(), layout)
            }
        }
    }

    /// Parses `binary_runtime_measurements`, or a part of it, as it travels: nothing else passes for it.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse).
    pub fn parse_binary(bytes: &[u8]) -> Result<Self, Reject> {
        if bytes.len() > Self::MAX_LEN {
            return Err(Reject::ImaLimit);
        }
        Self::read(bytes.into(), Layout::detect(bytes))
    }

    /// How many of the first `most` bytes of a binary list are whole entries. Their fields are not looked at.
    #[must_use]
    pub fn whole_entries(bytes: &[u8], most: usize) -> usize {
        let mut entries = Entries::new(bytes, Layout::detect(bytes));
        let mut whole = 0;
        while entries.next().is_some_and(|entry| entry.is_ok()) {
            let read = bytes.len() - entries.left();
            if read > most {
                break;
            }
            whole = read;
        }
        whole
    }

    fn read(bytes: Box<[u8]>, layout: Layout) -> Result<Self, Reject> {
        let mut len = 0;
        for entry in Entries::new(&bytes, layout) {
            entry?.check(layout.digest)?;
            len += 1;
        }
        Ok(Self { bytes, layout, len })
    }

    /// How many entries it has.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// How many bytes its first `entries` entries take, in the binary form.
    #[must_use]
    pub fn len_of(&self, entries: u32) -> usize {
        let mut reading = Entries::new(&self.bytes, self.layout);
        let mut left = entries;
        while left > 0 && reading.next().is_some() {
            left -= 1;
        }
        self.bytes.len() - reading.left()
    }

    /// Whether it has no entries.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The hash of the digest that stands in front of each entry: SHA-1 but on the newest kernels.
    #[must_use]
    pub const fn digest_alg(&self) -> HashAlg {
        self.layout.digest
    }

    /// The entries in their order, not yet proven.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> + Clone {
        // All of them were read before, by `parse`: none fails.
        Entries::new(&self.bytes, self.layout).filter_map(Result::ok)
    }
}
