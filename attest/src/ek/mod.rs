//! Endorsement keys: what the maker of a TPM put into it, and by which a host is known.
//!
//! A key is proven either by a certificate that leads to a configured root, or by an operator who enrolled its
//! hash. Its certificate may be anybody's: what counts is the key.

mod advisory;
mod ca;
mod certificate;
mod chain;
mod crl;
mod der;
mod dn;
mod names;
mod platform;
mod roots;
mod shipped;
mod signed;
mod template;
mod vendor;

use std::{fmt, str::FromStr};

use crate::{
    Name, Part, Reject,
    wire::{Public, PublicKey},
};

pub use advisory::{Action, Advisories, Advisory, VersionError, VersionRange};
pub use ca::{CaCertificate, CaError, CaKey};
pub use certificate::{CertificateId, EkCertificate};
pub use crl::{Crl, CrlError, Freshness};
pub use names::TpmAttributes;
pub use platform::{Chassis, PlatformCertificate, PlatformHolder, PlatformRoots, VerifiedPlatform};
pub use roots::{EkRoots, Expiry, TrustedCertificate};
pub use vendor::{VendorId, VendorIdError};

pub(crate) use der::{ecdsa_signature, subject_public_key_info};

/// The public area of an endorsement key that is made by a known template, and not weak.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EndorsementKey {
    public: Public,
}

/// SHA-256 of an endorsement key's DER SubjectPublicKeyInfo, rebuilt from the key itself: certificates that name
/// the key's algorithm otherwise give the same. Prints in lower-case hex.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EkHash(pub [u8; 32]);

/// An endorsement key that is proven to be a TPM's, or that an operator vouched for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifiedEk {
    key: EndorsementKey,
    certificate: Option<TrustedCertificate>,
}

impl EndorsementKey {
    /// Reads a TPMT_PUBLIC, and checks that it is an endorsement key's (9, 10, 14).
    ///
    /// # Errors
    ///
    /// It is malformed, weak, or made by no template of the EK Credential Profile.
    pub fn parse(public: &[u8]) -> Result<Self, Reject> {
        let public = Public::parse(public).map_err(|error| Reject::Malformed(Part::EndorsementKey, error))?;
        template::check(&public)?;
        Ok(Self { public })
    }

    /// Its public area.
    #[must_use]
    pub const fn public(&self) -> &Public {
        &self.public
    }

    /// Its Name.
    #[must_use]
    pub fn name(&self) -> Name {
        self.public.name()
    }

    /// By which hosts are enrolled.
    #[must_use]
    pub fn hash(&self) -> EkHash {
        EkHash::of(&self.public.key)
    }

    /// Proves the key by a certificate that leads to a root, and is for this very key (13).
    ///
    /// # Errors
    ///
    /// [`Reject::EkMismatch`] if the certificate is for another key.
    pub fn certified(self, certificate: &TrustedCertificate) -> Result<VerifiedEk, Reject> {
        certificate.get().check_key(&self.public.key)?;
        Ok(VerifiedEk {
            key: self,
            certificate: Some(certificate.clone()),
        })
    }

    /// Takes the key on the word of an operator, who enrolled `hash`.
    ///
    /// # Errors
    ///
    /// [`Reject::EkMismatch`] if it is another key.
    pub fn vouched(self, hash: &EkHash) -> Result<VerifiedEk, Reject> {
        if self.hash() != *hash {
            return Err(Reject::EkMismatch);
        }
        Ok(VerifiedEk {
            key: self,
            certificate: None,
        })
    }
}

impl VerifiedEk {
    /// The key.
    #[must_use]
    pub const fn key(&self) -> &EndorsementKey {
        &self.key
    }

    /// The certificate that proved it, if one did.
    #[must_use]
    pub const fn certificate(&self) -> Option<&TrustedCertificate> {
        self.certificate.as_ref()
    }
}

impl EkHash {
    /// Of a key.
    #[must_use]
    pub fn of(key: &PublicKey) -> Self {
        let digest = crate::HashAlg::Sha256.digest(&[&subject_public_key_info(key)]);
        Self(digest.as_bytes().first_chunk().copied().unwrap_or_default())
    }
}

impl fmt::Display for EkHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for EkHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is no hash of an endorsement key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "an EK hash is 64 hex digits: SHA-256 of the key's SubjectPublicKeyInfo, as `plastron-agent tpm ek` prints it"
)]
pub struct EkHashError;

impl FromStr for EkHash {
    type Err = EkHashError;

    fn from_str(text: &str) -> Result<Self, EkHashError> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).map_err(|_| EkHashError)?;
        Ok(Self(hash))
    }
}
