//! Hash algorithms, by the numbers that the TPM gives them (TCG Algorithm Registry, table 3).

use std::fmt;

use aws_lc_rs::digest;

/// A hash algorithm of a PCR bank, a Name or a signature scheme.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum HashAlg {
    /// 20 bytes. Read in logs, never trusted for a decision.
    Sha1,
    /// 32 bytes.
    Sha256,
    /// 48 bytes.
    Sha384,
    /// 64 bytes.
    Sha512,
}

impl HashAlg {
    /// Longest digest in bytes.
    pub const MAX_LEN: usize = 64;

    /// By TPM_ALG_ID.
    #[must_use]
    pub const fn from_tpm(id: u16) -> Option<Self> {
        match id {
            0x0004 => Some(Self::Sha1),
            0x000B => Some(Self::Sha256),
            0x000C => Some(Self::Sha384),
            0x000D => Some(Self::Sha512),
            _ => None,
        }
    }

    /// Its TPM_ALG_ID.
    #[must_use]
    pub const fn to_tpm(self) -> u16 {
        match self {
            Self::Sha1 => 0x0004,
            Self::Sha256 => 0x000B,
            Self::Sha384 => 0x000C,
            Self::Sha512 => 0x000D,
        }
    }

    /// Length of a digest in bytes.
    #[must_use]
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The digest of `parts`, one after the other.
    #[must_use]
    pub fn digest(self, parts: &[&[u8]]) -> Digest {
        let mut context = digest::Context::new(self.provider());
        parts.iter().for_each(|part| context.update(part));
        Digest::from_slice(context.finish().as_ref())
    }

    fn provider(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }
}

/// `sha256`, as TCG's tools print it.
impl fmt::Display for HashAlg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        })
    }
}

/// A digest of up to 64 bytes, held inline. Prints in lower-case hex.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Digest {
    bytes: [u8; HashAlg::MAX_LEN],
    len: u8,
}

impl Digest {
    /// A digest whose every byte is `value`.
    #[must_use]
    pub fn filled(value: u8, alg: HashAlg) -> Self {
        std::iter::repeat_n(value, alg.digest_len()).collect()
    }

    /// Of up to 64 bytes.
    pub(crate) fn from_slice(slice: &[u8]) -> Self {
        let mut digest = Self {
            bytes: [0; HashAlg::MAX_LEN],
            len: 0,
        };
        for (to, from) in digest.bytes.iter_mut().zip(slice) {
            *to = *from;
            digest.len += 1;
        }
        digest
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Whether every byte is `value`.
    #[must_use]
    pub fn is_filled(&self, value: u8) -> bool {
        self.as_bytes().iter().all(|byte| *byte == value)
    }
}

impl FromIterator<u8> for Digest {
    /// What exceeds 64 bytes is left out.
    fn from_iter<I: IntoIterator<Item = u8>>(bytes: I) -> Self {
        let mut digest = Self {
            bytes: [0; HashAlg::MAX_LEN],
            len: 0,
        };
        for (to, from) in digest.bytes.iter_mut().zip(bytes) {
            *to = from;
            digest.len += 1;
        }
        digest
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.as_bytes()))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
