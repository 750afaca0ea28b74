//! Digests as an operator writes them.

use std::{fmt, str::FromStr};

use serde::Deserialize;

use crate::{
    Digest, HashAlg,
    event_log::{Signature, SignatureKind},
};

/// A digest in lower-case hex; its length says of which hash. SHA-1 is none to decide on.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "String")]
pub struct Reference {
    alg: HashAlg,
    digest: Digest,
}

/// A text is no reference value.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReferenceError {
    /// Not a digest.
    #[error("a digest is 64, 96 or 128 hex digits: SHA-256, SHA-384 or SHA-512")]
    Digest,
    /// Not a key of Secure Boot.
    #[error(
        "a key of Secure Boot reads `x509:HEX` (SHA-256 of the certificate), `sha256:HEX` (an image) or `other:HEX`"
    )]
    Key,
}

impl Reference {
    /// The digest of a hash; nothing of SHA-1, or if its length is another.
    #[must_use]
    pub fn new(alg: HashAlg, digest: &[u8]) -> Option<Self> {
        (alg != HashAlg::Sha1 && digest.len() == alg.digest_len()).then(|| Self {
            alg,
            digest: Digest::from_slice(digest),
        })
    }

    /// Its hash.
    #[must_use]
    pub const fn alg(&self) -> HashAlg {
        self.alg
    }

    /// The digest.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let bytes = hex::decode(text).map_err(|_| ReferenceError::Digest)?;
        [HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512]
            .into_iter()
            .find_map(|alg| Self::new(alg, &bytes))
            .ok_or(ReferenceError::Digest)
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.digest, f)
    }
}

/// A key or digest of `PK`, `KEK`, `db` or `dbx`: `x509:`, `sha256:` or `other:`, and SHA-256 in hex. Kinds are told
/// apart, so that no digest passes for a certificate that has it. Who enrolled it does not count.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "String")]
pub struct KeyReference {
    kind: KeyKind,
    digest: Digest,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum KeyKind {
    Other,
    Sha256,
    X509,
}

impl KeyKind {
    const ALL: [Self; 3] = [Self::Other, Self::Sha256, Self::X509];

    const fn name(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Sha256 => "sha256",
            Self::X509 => "x509",
        }
    }
}

impl KeyReference {
    /// Of an entry that was measured.
    #[must_use]
    pub fn of(entry: &Signature<'_>) -> Self {
        let (kind, digest) = match entry.kind {
            SignatureKind::Sha256 => (KeyKind::Sha256, entry.fingerprint()),
            SignatureKind::X509 => (KeyKind::X509, entry.fingerprint()),
            SignatureKind::Other(guid) => (KeyKind::Other, HashAlg::Sha256.digest(&[&guid, entry.data])),
        };
        Self { kind, digest }
    }
}

impl FromStr for KeyReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (kind, hex) = text.split_once(':').ok_or(ReferenceError::Key)?;
        let kind = KeyKind::ALL
            .into_iter()
            .find(|known| known.name() == kind)
            .ok_or(ReferenceError::Key)?;
        let reference: Reference = hex.parse().map_err(|_| ReferenceError::Key)?;
        match reference.alg {
            HashAlg::Sha256 => Ok(Self {
                kind,
                digest: reference.digest,
            }),
            _ => Err(ReferenceError::Key),
        }
    }
}

impl TryFrom<String> for KeyReference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl fmt::Display for KeyReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.name(), self.digest)
    }
}
