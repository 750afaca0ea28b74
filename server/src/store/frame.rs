//! The frame around every value: format version, checksum over key and value, value. A value that was moved to
//! another key does not check.

/// The format that this build writes.
pub(super) const VERSION: u8 = 1;

/// A value is not what was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FrameError {
    /// The checksum differs.
    #[error("checksum does not match")]
    Checksum,
    /// There is not even a whole frame.
    #[error("value is cut short")]
    Truncated,
    /// The version is one that this build does not know.
    #[error("value has unknown format {0}")]
    Version(u8),
}

/// Frames a value.
#[must_use]
pub fn close(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(5 + value.len());
    framed.push(VERSION);
    framed.extend(checksum(key, value));
    framed.extend(value);
    framed
}

/// Unframes a value.
///
/// # Errors
///
/// It is not what was framed for this key.
pub fn open<'a>(key: &[u8], framed: &'a [u8]) -> Result<&'a [u8], FrameError> {
    let (version, rest) = framed.split_first().ok_or(FrameError::Truncated)?;
    if *version != VERSION {
        return Err(FrameError::Version(*version));
    }
    let (expected, value) = rest.split_first_chunk().ok_or(FrameError::Truncated)?;
    if *expected == checksum(key, value) {
        Ok(value)
    } else {
        Err(FrameError::Checksum)
    }
}

fn checksum(key: &[u8], value: &[u8]) -> [u8; 4] {
    crc32c::crc32c_append(crc32c::crc32c(key), value).to_be_bytes()
}
