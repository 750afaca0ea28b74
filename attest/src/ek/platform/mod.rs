//! Platform certificates: the maker of a machine says which TPM he put into it (61).
//!
//! They come as attribute certificates, which name the certificate of the endorsement key as their holder (TCG Platform
//! Certificate Profile, RFC 5755), or as certificates for the endorsement key itself. Whoever signs them says nothing of
//! the TPM: that one is genuine, its own certificate shows.

mod attribute;
mod chassis;
mod element;
mod roots;

use std::fmt;

use x509_parser::{
    certificate::X509Certificate,
    extensions::{ParsedExtension, X509Extension},
    oid_registry::asn1_rs::{Oid, oid},
    prelude::FromDer,
};

use self::{
    attribute::AttributeCertificate,
    element::{Elements, INTEGER, SEQUENCE},
};
use super::{CertificateId, EkCertificate, EkHash, der};
use crate::Reject;

pub use chassis::Chassis;
pub use roots::{PlatformRoots, VerifiedPlatform};

/// A parsed platform certificate. Nothing of it is verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlatformCertificate {
    der: Vec<u8>,
    form: Form,
    id: CertificateId,
    holder: PlatformHolder,
    chassis: Chassis,
}

/// The TPM that a platform certificate is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PlatformHolder {
    /// That of the endorsement certificate with this issuer and serial number.
    Certificate(CertificateId),
    /// That of this endorsement key.
    Key(EkHash),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    Attribute,
    Key,
}

/// Longest certificate in bytes: some list each part of the machine.
const MAX_LEN: usize = 60 * 1024;
/// tcg-kp-PlatformAttributeCertificate, also of those that are no attribute certificates.
const PLATFORM: Oid<'static> = oid!(2.23.133.8.2);

impl PlatformCertificate {
    /// Parses a certificate in DER, of either form.
    ///
    /// # Errors
    ///
    /// It is malformed, about no endorsement key, or says only what became of a machine since (a delta).
    pub fn parse(der: &[u8]) -> Result<Self, Reject> {
        if der.len() > MAX_LEN {
            return Err(Reject::TooLarge);
        }
        if is_attribute_certificate(der) {
            Self::of_attribute(der)
        } else {
            Self::of_key(der)
        }
    }

    /// By which it is told apart.
    #[must_use]
    pub const fn id(&self) -> &CertificateId {
        &self.id
    }

    /// Whose TPM it is about.
    #[must_use]
    pub const fn holder(&self) -> &PlatformHolder {
        &self.holder
    }

    /// What it says of the machine.
    #[must_use]
    pub const fn chassis(&self) -> &Chassis {
        &self.chassis
    }

    /// Checks that it is about the TPM with this certificate (61).
    ///
    /// # Errors
    ///
    /// [`Reject::PlatformCertificateHolder`] if it is about another one.
    pub fn check_holder(&self, ek: &EkCertificate) -> Result<(), Reject> {
        let is_holder = match &self.holder {
            PlatformHolder::Certificate(id) => *id == ek.id(),
            PlatformHolder::Key(hash) => ek.key_hash() == Some(*hash),
        };
        if is_holder {
            Ok(())
        } else {
            Err(Reject::PlatformCertificateHolder)
        }
    }

    fn of_attribute(der: &[u8]) -> Result<Self, Reject> {
        let certificate = AttributeCertificate::parse(der)?;
        check_critical(&certificate.extensions)?;
        Ok(Self {
            chassis: Chassis::of(&certificate.extensions)?,
            id: certificate.id,
            holder: PlatformHolder::Certificate(certificate.holder),
            der: der.into(),
            form: Form::Attribute,
        })
    }

    fn of_key(der: &[u8]) -> Result<Self, Reject> {
        let malformed = Reject::PlatformCertificateMalformed;
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| malformed)?;
        let purposes = certificate.extended_key_usage().map_err(|_| malformed)?;
        let is_platforms = purposes.is_some_and(|purposes| purposes.value.other.contains(&PLATFORM));
        if !rest.is_empty() || !is_platforms || certificate.is_ca() {
            return Err(malformed);
        }
        check_critical(certificate.extensions())?;
        let key = der::public_key(&certificate.public_key().subject_public_key.data);
        let key = key.ok_or(Reject::PlatformCertificateHolder)?;
        Ok(Self {
            id: CertificateId::of(&certificate),
            chassis: Chassis::of(certificate.extensions())?,
            holder: PlatformHolder::Key(EkHash::of(&key)),
            der: der.into(),
            form: Form::Key,
        })
    }
}

/// Whether the signed part begins with a number, as that of attribute certificates does; that of others begins with a
/// tagged version.
fn is_attribute_certificate(der: &[u8]) -> bool {
    let signed = || Elements(Elements(der).expect(SEQUENCE)?.content).expect(SEQUENCE);
    signed().is_some_and(|signed| signed.content.first() == Some(&INTEGER))
}

/// Critical extensions are those that we process. One that names targets says for whom the certificate is: we are nobody
/// by name.
fn check_critical(extensions: &[X509Extension<'_>]) -> Result<(), Reject> {
    let is_processed = |extension: &X509Extension<'_>| {
        matches!(
            extension.parsed_extension(),
            ParsedExtension::AuthorityKeyIdentifier(_)
                | ParsedExtension::BasicConstraints(_)
                | ParsedExtension::CertificatePolicies(_)
                | ParsedExtension::ExtendedKeyUsage(_)
                | ParsedExtension::KeyUsage(_)
                | ParsedExtension::SubjectAlternativeName(_)
        )
    };
    let mut critical = extensions.iter().filter(|extension| extension.critical);
    if critical.all(is_processed) {
        Ok(())
    } else {
        Err(Reject::PlatformCertificateCritical)
    }
}

/// `serial 0a1b of CN=…`, or `key 00ff…`.
impl fmt::Display for PlatformHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(id) => id.fmt(f),
            Self::Key(hash) => write!(f, "key {hash}"),
        }
    }
}
