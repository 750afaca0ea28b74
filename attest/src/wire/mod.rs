//! TPM structures, as the TPM marshals them (TCG TPM 2.0 Library, Part 2): big-endian, bounded, no recursion.
//! Parsing decides nothing: a value that parsed is not thereby believed.

mod attested;
mod public;
mod signature;

pub use attested::{Attest, Attested, ClockInfo};
pub use public::{Curve, EccKey, Public, PublicKey, RsaKey, Scheme, Symmetric};
pub use signature::Signature;

/// Bytes are no TPM structure of the expected kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WireError {
    /// A selection of PCRs names a bank more than once, and not in ascending order.
    #[error("a bank of PCRs is selected twice: select each once, as in `sha256:0-7+sha384:0-7`")]
    BankTwice,
    /// Something follows the structure.
    #[error("bytes follow the structure")]
    Trailing,
    /// The structure ends before it should.
    #[error("structure is cut short")]
    Truncated,
    /// A length, count or selector is out of the bounds that any TPM keeps.
    #[error("length or count is out of bounds")]
    OutOfBounds,
    /// An algorithm, curve or tag is unknown, or not allowed where it stands.
    #[error("algorithm or tag is not supported")]
    Unsupported,
}

/// Reads big-endian fields from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    ///
    /// There are not so many.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// A byte.
    ///
    /// # Errors
    ///
    /// There is none left.
    pub fn u8(&mut self) -> Result<u8, WireError> {
        self.array().map(u8::from_be_bytes)
    }

    /// A UINT16.
    ///
    /// # Errors
    ///
    /// Too few bytes are left.
    pub fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_be_bytes)
    }

    /// A UINT32.
    ///
    /// # Errors
    ///
    /// Too few bytes are left.
    pub fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A UINT64.
    ///
    /// # Errors
    ///
    /// Too few bytes are left.
    pub fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A TPM2B: a UINT16 length, `max` at most, and as many bytes.
    ///
    /// # Errors
    ///
    /// The length is out of bounds, or too few bytes are left.
    pub fn sized(&mut self, max: usize) -> Result<&'a [u8], WireError> {
        let len = usize::from(self.u16()?);
        if len > max {
            return Err(WireError::OutOfBounds);
        }
        self.take(len)
    }

    /// Ends reading.
    ///
    /// # Errors
    ///
    /// Something is left.
    pub const fn end(self) -> Result<(), WireError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(WireError::Trailing)
        }
    }
}
