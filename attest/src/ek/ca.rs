//! Certificates of CAs: roots, and what may stand between a root and an endorsement certificate.

use std::fmt;

use x509_parser::{
    certificate::X509Certificate,
    prelude::FromDer,
    public_key::PublicKey,
    x509::{SubjectPublicKeyInfo, X509Version},
};

use super::dn::NameKey;
use crate::{HashAlg, Reject, strength};

/// A certificate of a CA: a root, or one between a root and an endorsement certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CaCertificate {
    der: Vec<u8>,
    subject: NameKey,
    is_self_issued: bool,
    key: CaKey,
}

/// SHA-256 of a CA's DER SubjectPublicKeyInfo, as its certificate has it. Unlike its name, nobody else can take it.
/// Prints in lower-case hex.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CaKey(pub [u8; 32]);

/// Bytes are no certificate of a CA.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CaError {
    /// Not X.509 in DER, or something follows it.
    #[error("not an X.509 certificate in DER")]
    Malformed,
    /// It may not issue.
    #[error("not a CA certificate")]
    NotCa,
}

impl CaCertificate {
    /// Parses a CA's certificate in DER.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn parse(der: &[u8]) -> Result<Self, CaError> {
        let parsed = Self::parse_signer(der)?;
        let certificate = parsed.parsed().map_err(|_| CaError::Malformed)?;
        // Version 1 has no extensions that would say so; it only serves as a root.
        if certificate.version() != X509Version::V1 && !certificate.is_ca() {
            return Err(CaError::NotCa);
        }
        Ok(parsed)
    }

    /// Parses the certificate of somebody who signs, a CA or not, in DER.
    pub(super) fn parse_signer(der: &[u8]) -> Result<Self, CaError> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| CaError::Malformed)?;
        if !rest.is_empty() {
            return Err(CaError::Malformed);
        }
        let subject = NameKey::of(certificate.subject());
        Ok(Self {
            der: der.into(),
            is_self_issued: NameKey::of(certificate.issuer()) == subject,
            subject,
            key: CaKey::of(certificate.public_key()),
        })
    }

    /// Whether it names itself as its issuer, as roots do.
    #[must_use]
    pub const fn is_self_issued(&self) -> bool {
        self.is_self_issued
    }

    /// Its key.
    #[must_use]
    pub const fn key(&self) -> CaKey {
        self.key
    }

    /// Its subject.
    pub(super) const fn subject(&self) -> &NameKey {
        &self.subject
    }

    pub(super) fn parsed(&self) -> Result<X509Certificate<'_>, Reject> {
        let parsed = X509Certificate::from_der(&self.der).map_err(|_| Reject::EkCertificateMalformed)?;
        Ok(parsed.1)
    }
}

impl CaKey {
    pub(super) fn of(key: &SubjectPublicKeyInfo<'_>) -> Self {
        let digest = HashAlg::Sha256.digest(&[key.raw]);
        Self(digest.as_bytes().first_chunk().copied().unwrap_or_default())
    }
}

impl fmt::Display for CaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for CaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A CA's RSA key is not one that anybody can factor (9, 10). Its length is checked with the signature.
pub(super) fn check_strength(key: &SubjectPublicKeyInfo<'_>) -> Result<(), Reject> {
    let Ok(PublicKey::RSA(key)) = key.parsed() else {
        return Ok(());
    };
    strength::check_modulus(key.modulus).map_err(|_| Reject::EkChainWeak)
}
