//! The compact form of signed tokens (RFC 7515 §3.1), as far as JWT-SVIDs use it.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, de::IgnoredAny};

use super::MAX_LEN;
use crate::x509::PublicKey;

/// How a token is signed (JWT-SVID §2.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Algorithm {
    /// ECDSA over P-256 with SHA-256.
    Es256,
    /// ECDSA over P-384 with SHA-384.
    Es384,
    /// ECDSA over P-521 with SHA-512.
    Es512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
}

/// Why text is no signed token.
#[derive(Debug, thiserror::Error)]
pub enum JwsError {
    /// None, symmetric, or unknown (JWT-SVID §2.1).
    #[error("token is signed by an algorithm that JWT-SVIDs do not use")]
    Algorithm,
    /// A part is not base64url without padding.
    #[error("token is not base64url")]
    Base64(#[source] base64::DecodeError),
    /// An extension that must be understood, and is not (RFC 7515 §4.1.11).
    #[error("token has a critical extension")]
    Critical,
    /// The header is not JSON, or a member has the wrong type.
    #[error("header of the token is malformed")]
    Header(#[source] serde_json::Error),
    /// Not three parts: another serialization, or no token at all (JWT-SVID §5.1).
    #[error("token does not have three parts")]
    NotCompact,
    /// Longer than any real token.
    #[error("token is longer than {MAX_LEN} bytes")]
    TooLong,
    /// Neither `JWT` nor `JOSE` (JWT-SVID §2.3).
    #[error("token is of another type")]
    Type,
}

/// A token, its signature not yet checked.
#[derive(Debug)]
pub(super) struct Compact<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
    pub(super) payload: Vec<u8>,
    /// What is signed.
    message: &'a str,
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    crit: Option<IgnoredAny>,
    kid: Option<String>,
    typ: Option<String>,
}

impl Algorithm {
    const ALL: [Self; 9] = [
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
    ];

    /// What we sign with a key of this kind; nothing if JWT-SVIDs do not use such keys.
    #[must_use]
    pub fn of(key: &PublicKey) -> Option<Self> {
        key.jws_algorithm()
    }

    /// Its name in a header (RFC 7518 §3.1).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
        }
    }

    /// Bytes of each half of an ECDSA signature (RFC 7518 §3.4); nothing for RSA.
    pub(super) fn coordinate_len(self) -> Option<usize> {
        match self {
            Self::Es256 => Some(32),
            Self::Es384 => Some(48),
            Self::Es512 => Some(66),
            _ => None,
        }
    }
}

impl<'a> Compact<'a> {
    pub(super) fn parse(token: &'a str) -> Result<Self, JwsError> {
        if token.len() > MAX_LEN {
            return Err(JwsError::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(JwsError::NotCompact)?;
        let (header, payload) = message.split_once('.').ok_or(JwsError::NotCompact)?;
        if payload.contains('.') {
            return Err(JwsError::NotCompact);
        }
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(JwsError::Header)?;
        if header.crit.is_some() {
            return Err(JwsError::Critical);
        }
        if header.typ.is_some_and(|typ| typ != "JWT" && typ != "JOSE") {
            return Err(JwsError::Type);
        }
        let mut known = Algorithm::ALL.into_iter();
        let algorithm = known.find(|algorithm| algorithm.name() == header.alg);
        Ok(Self {
            algorithm: algorithm.ok_or(JwsError::Algorithm)?,
            key_id: header.kid,
            payload: decode(payload)?,
            message,
            signature: decode(signature)?,
        })
    }

    /// The proof that `key` signed it; nothing if it did not.
    pub(super) fn verify(&self, key: &PublicKey) -> Option<()> {
        key.verify_jws(self.algorithm, self.message.as_bytes(), &self.signature)
    }
}

fn decode(part: &str) -> Result<Vec<u8>, JwsError> {
    BASE64_URL_SAFE_NO_PAD.decode(part).map_err(JwsError::Base64)
}
