//! Names: how a TPM and its verifier know a key (TCG TPM 2.0 Library, Part 1 §16).

use std::fmt;

use crate::{HashAlg, wire::WireError};

/// The hash algorithm of a public area and its digest. Prints in lower-case hex.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Name(Box<[u8]>);

/// TPM_RH_ENDORSEMENT: the parent of a primary key in the endorsement hierarchy.
const ENDORSEMENT: [u8; 4] = 0x4000_000B_u32.to_be_bytes();

impl Name {
    /// The Name of a public area.
    pub(crate) fn of(alg: HashAlg, public: &[u8]) -> Self {
        Self(
            [&alg.to_tpm().to_be_bytes(), alg.digest(&[public]).as_bytes()]
                .concat()
                .into(),
        )
    }

    /// Reads a Name: an algorithm of at least 256 bits, and a digest of its length.
    ///
    /// # Errors
    ///
    /// The algorithm is unknown or SHA-1, or the length is not its own.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let (id, digest) = bytes.split_first_chunk().ok_or(WireError::Truncated)?;
        let alg = HashAlg::from_tpm(u16::from_be_bytes(*id)).filter(|alg| *alg != HashAlg::Sha1);
        if digest.len() != alg.ok_or(WireError::Unsupported)?.digest_len() {
            return Err(WireError::OutOfBounds);
        }
        Ok(Self(bytes.into()))
    }

    /// The bytes, algorithm first.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The Qualified Name of this key as a primary of the endorsement hierarchy.
    #[must_use]
    pub fn qualified_under_endorsement(&self) -> Option<Self> {
        let id = self.0.first_chunk()?;
        let alg = HashAlg::from_tpm(u16::from_be_bytes(*id))?;
        let digest = alg.digest(&[&ENDORSEMENT, &self.0]);
        Some(Self([&id[..], digest.as_bytes()].concat().into()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
