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
    /// The data, and a NUL behind it that the log leaves out.
    Unended(&'a [u8]),
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
        if let Some(part) = parts(data).find(measured) {
            return Self::Part(part);
        }
        // systemd's boot loader counted a NUL that older versions of it did not log.
        if alg.digest(&[data, b"\0"]).as_bytes() == digest {
            Self::Unended(data)
        } else {
            Self::Absent
        }
    }

    /// The measured bytes, where the log has all of them.
    #[must_use]
    pub const fn bytes(&self) -> Option<&'a [u8]> {
        match self {
            Self::Absent | Self::Unended(_) => None,
            Self::Part(bytes) | Self::Whole(bytes) => Some(bytes),
        }
    }

    /// The measured bytes as a variable, its name included.
    #[must_use]
    pub fn variable(&self) -> Option<EfiVariable<'a>> {
        match self {
            Self::Whole(bytes) => EfiVariable::parse(bytes),
            Self::Absent | Self::Part(_) | Self::Unended(_) => None,
        }
    }
}

/// The data; and all but its last byte, which is how old shims measured the certificate that they used.
fn whole(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    [Some(data), data.split_last().map(|(_, whole)| whole)]
        .into_iter()
        .flatten()
}

/// The value of a variable, which is how nearly all firmware measures boot variables; and what follows the word of a
/// command, with the NUL at its end or without: GRUB without, but with it where its words have no colon.
fn parts(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let command = command(data);
    [
        EfiVariable::parse(data).map(|variable| variable.data),
        command.map(|command| command.strip_suffix(b"\0").unwrap_or(command)),
        command,
    ]
    .into_iter()
    .flatten()
}

/// What follows `grub_cmd: ` or `grub_cmd `.
fn command(data: &[u8]) -> Option<&[u8]> {
    let space = data.iter().position(|byte| *byte == b' ')?;
    let (word, rest) = data.split_at_checked(space)?;
    let word = word.strip_suffix(b":").unwrap_or(word);
    let is_word = !word.is_empty() && word.iter().all(|byte| byte.is_ascii_lowercase() || *byte == b'_');
    rest.get(1..).filter(|_| is_word)
}
