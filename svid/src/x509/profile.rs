//! What makes a certificate an X509-SVID.

use rustls_pki_types::CertificateDer;
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, KeyUsage},
    prelude::FromDer,
};

use super::SerialNumber;
use crate::{SpiffeId, SpiffeIdError, Timestamp};

/// What a leaf certificate says. Nothing of it is verified: see [`verify`](super::verify()).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct X509Svid {
    /// Whom it names.
    pub id: SpiffeId,
    /// Its serial number.
    pub serial: SerialNumber,
    /// First second of validity.
    pub not_before: Timestamp,
    /// Last second of validity.
    pub not_after: Timestamp,
}

/// Why a certificate is no X509-SVID that may authenticate somebody.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProfileError {
    /// A signing certificate does not authenticate (§5.2).
    #[error("certificate is a CA certificate")]
    IsCa,
    /// `digitalSignature` is missing (§4.3).
    #[error("key usage lacks digitalSignature")]
    LacksDigitalSignature,
    /// Not an X.509 certificate in DER, or something follows it.
    #[error("certificate is not X.509 in DER")]
    Malformed,
    /// `keyCertSign` or `cRLSign` is set (§4.3).
    #[error("key usage allows signing certificates or CRLs")]
    MaySign,
    /// The ID has no path (§3.1).
    #[error("SPIFFE ID has no path")]
    NoPath,
    /// The URI name is no SPIFFE ID (§5.2).
    #[error("URI name is no SPIFFE ID")]
    NoSpiffeId(#[from] SpiffeIdError),
    /// None, or more than one (§2).
    #[error("certificate does not have exactly one URI name")]
    NotOneUri,
}

impl X509Svid {
    /// Reads a leaf certificate and checks that it has the form of one.
    ///
    /// # Errors
    ///
    /// The first rule of the standard that the certificate breaks.
    pub fn parse(leaf: &CertificateDer<'_>) -> Result<Self, ProfileError> {
        let (rest, certificate) = X509Certificate::from_der(leaf).map_err(|_| ProfileError::Malformed)?;
        if !rest.is_empty() {
            return Err(ProfileError::Malformed);
        }
        if certificate.is_ca() {
            return Err(ProfileError::IsCa);
        }
        check_key_usage(&certificate)?;
        let id = SpiffeId::parse(only_uri(&certificate)?)?;
        if id.path().is_empty() {
            return Err(ProfileError::NoPath);
        }
        Ok(Self {
            id,
            serial: SerialNumber::from_bytes(&certificate.serial.to_bytes_be()),
            not_before: Timestamp::from_unix(certificate.validity().not_before.timestamp()),
            not_after: Timestamp::from_unix(certificate.validity().not_after.timestamp()),
        })
    }
}

fn check_key_usage(certificate: &X509Certificate<'_>) -> Result<(), ProfileError> {
    let usage: Option<&KeyUsage> = certificate
        .key_usage()
        .map_err(|_| ProfileError::Malformed)?
        .map(|extension| extension.value);
    let usage = usage.ok_or(ProfileError::LacksDigitalSignature)?;
    if usage.key_cert_sign() || usage.crl_sign() {
        return Err(ProfileError::MaySign);
    }
    if usage.digital_signature() {
        Ok(())
    } else {
        Err(ProfileError::LacksDigitalSignature)
    }
}

fn only_uri<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, ProfileError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| ProfileError::Malformed)?;
    let names = names
        .map(|extension| extension.value.general_names.as_slice())
        .unwrap_or_default();
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => Ok(uri),
        _ => Err(ProfileError::NotOneUri),
    }
}
