//! Which bytes of an event's data have its digest (check 48).

use super::EfiVariable;
use crate::HashAlg;

/// What was measured, as far as the log shows it.
///
/// The forms are tried on each event, whatever the log calls it: bytes that have the digest are what
/// was measured, and no type can make others of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Content<'a> {
    /// Not in the log: code, a file, a table. The digest alone tells what it was; the data is a remark.
    Absent,
    /// These bytes, a part of the data: what stands before them, such as the name of a boot variable or
    /// GRUB's `grub_cmd: `, is a remark.
    Part(&'a [u8]),
    /// The data.
    Whole(&'a [u8]),
}

impl<'a> Content<'a> {
    /// Finds the bytes of `data` that have the digest `digest`.
    pub(crate) fn find(alg: HashAlg, digest: &[u8], data: &'a [u8]) -> Self {
        let measured = |bytes: &&[u8]| alg.digest(&[bytes]).as_bytes() == digest;
        if let Some(whole) = whole(data).find(measured) {
            return Self::Whole(whole);
        }
        parts(data).find(measured).map_or(Self::Absent, Self::Part)
    }

    /// The measured bytes.
    #[must_use]
    pub const fn bytes(&self) -> Option<&'a [u8]> {
        match self {
            Self::Absent => None,
            Self::Part(bytes) | Self::Whole(bytes) => Some(bytes),
        }
    }

    /// The measured bytes as a variable, its name included.
    #[must_use]
    pub fn variable(&self) -> Option<EfiVariable<'a>> {
        match self {
            Self::Whole(bytes) => EfiVariable::parse(bytes),
            Self::Absent | Self::Part(_) => None,
        }
    }
}

/// The data; and all but its last byte, which is how old shims measured the certificate that they used.
fn whole(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    [Some(data), data.split_last().map(|(_, whole)| whole)]
        .into_iter()
        .flatten()
}

/// The value of a variable, which is how nearly all firmware measures boot variables; and what follows `: `
/// without the NUL, which is how GRUB measures commands.
fn parts(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    [
        EfiVariable::parse(data).map(|variable| variable.data),
        command(data),
    ]
    .into_iter()
    .flatten()
}

fn command(data: &[u8]) -> Option<&[u8]> {
    let start = data.windows(2).position(|pair| pair == b": ")?;
    data.get(start + 2..)?.strip_suffix(b"\0")
}
