//! The way from an endorsement certificate to a root that an operator configured (1, 2). Never a root of the web,
//! or of the operating system.

use std::collections::HashMap;

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::{
    certificate::X509Certificate,
    oid_registry::{
        OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSASSAPSS, OID_PKCS1_SHA256WITHRSA,
        OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256,
        OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512,
        asn1_rs::{Oid, oid},
    },
    prelude::FromDer,
    signature_algorithm::RsaSsaPssParams,
    x509::{AlgorithmIdentifier, SubjectPublicKeyInfo},
};

use super::{EkCertificate, certificate::check_critical};
use crate::Reject;

/// A certificate of a CA: a root, or one between a root and an endorsement certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CaCertificate {
    der: Vec<u8>,
    /// Subject in DER.
    subject: Vec<u8>,
    is_self_issued: bool,
}

/// An endorsement certificate that leads to a root. Only [`EkRoots::verify`] makes one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TrustedCertificate(EkCertificate);

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

/// The roots that endorsement certificates may lead to, and certificates that may stand between.
#[derive(Clone, Debug, Default)]
pub struct EkRoots {
    roots: HashMap<Vec<u8>, Vec<CaCertificate>>,
    intermediates: HashMap<Vec<u8>, Vec<CaCertificate>>,
    expiry: Expiry,
}

/// What counts of the time until which certificates of vendors are valid.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Expiry {
    /// Ended ones are refused.
    #[default]
    Enforced,
    /// Ended ones are accepted: some vendors' CAs ended before the machines did.
    Ignored,
}

/// Most certificates between an endorsement certificate and a root.
const MAX_DEPTH: usize = 5;
/// Most signatures that are checked for one certificate.
const MAX_SIGNATURES: usize = 32;

impl CaCertificate {
    /// Parses a CA's certificate in DER.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn parse(der: &[u8]) -> Result<Self, CaError> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| CaError::Malformed)?;
        if !rest.is_empty() {
            return Err(CaError::Malformed);
        }
        // Version 1 has no extensions that would say so; it only serves as a root.
        if certificate.version() != x509_parser::x509::X509Version::V1 && !certificate.is_ca() {
            return Err(CaError::NotCa);
        }
        Ok(Self {
            der: der.into(),
            subject: certificate.subject().as_raw().into(),
            is_self_issued: certificate.subject().as_raw() == certificate.issuer().as_raw(),
        })
    }

    /// Whether it names itself as its issuer, as roots do.
    #[must_use]
    pub const fn is_self_issued(&self) -> bool {
        self.is_self_issued
    }

    fn parsed(&self) -> Result<X509Certificate<'_>, Reject> {
        let parsed = X509Certificate::from_der(&self.der).map_err(|_| Reject::EkCertificateMalformed)?;
        Ok(parsed.1)
    }
}

impl TrustedCertificate {
    /// The certificate.
    #[must_use]
    pub const fn get(&self) -> &EkCertificate {
        &self.0
    }
}

impl EkRoots {
    /// Nothing leads anywhere.
    #[must_use]
    pub fn new(expiry: Expiry) -> Self {
        Self {
            expiry,
            ..Self::default()
        }
    }

    /// Trusts a root.
    pub fn add_root(&mut self, root: CaCertificate) {
        self.roots.entry(root.subject.clone()).or_default().push(root);
    }

    /// Knows a certificate that may stand on a way; it is not trusted by itself.
    pub fn add_intermediate(&mut self, intermediate: CaCertificate) {
        self.intermediates
            .entry(intermediate.subject.clone())
            .or_default()
            .push(intermediate);
    }

    /// How many roots there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.roots.values().map(Vec::len).sum()
    }

    /// Whether there are no roots.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// Finds a way from `leaf` to a root at `now` (seconds since the epoch), over known certificates and those
    /// that were sent along (1, 2).
    ///
    /// # Errors
    ///
    /// There is none; of the ways that fail, the last says why.
    pub fn verify(
        &self,
        leaf: EkCertificate,
        sent: &[CaCertificate],
        now: i64,
    ) -> Result<TrustedCertificate, Reject> {
        let (_, certificate) =
            X509Certificate::from_der(leaf.as_der()).map_err(|_| Reject::EkCertificateMalformed)?;
        self.check_dates(&certificate, now)?;
        Search {
            roots: self,
            sent,
            now,
            signatures: 0,
        }
        .find(&certificate, 0)?;
        Ok(TrustedCertificate(leaf))
    }

    fn check_dates(&self, certificate: &X509Certificate<'_>, now: i64) -> Result<(), Reject> {
        let validity = certificate.validity();
        let has_begun = validity.not_before.timestamp() <= now;
        let has_ended = validity.not_after.timestamp() < now && self.expiry == Expiry::Enforced;
        if has_begun && !has_ended {
            Ok(())
        } else {
            Err(Reject::EkChainExpired)
        }
    }
}

/// A search for a way, bounded in depth and in work.
struct Search<'a> {
    roots: &'a EkRoots,
    sent: &'a [CaCertificate],
    now: i64,
    signatures: usize,
}

impl<'a> Search<'a> {
    fn find(&mut self, certificate: &X509Certificate<'_>, depth: usize) -> Result<(), Reject> {
        let issuer = certificate.issuer().as_raw();
        let mut reason = Reject::EkChainUnknown;
        for root in self.roots.roots.get(issuer).into_iter().flatten() {
            match self.step(certificate, &root.parsed()?, depth) {
                Ok(()) => return Ok(()),
                Err(reject) => reason = reject,
            }
        }
        if depth >= MAX_DEPTH {
            return Err(reason);
        }
        for between in self.between(issuer) {
            let parsed = between.parsed()?;
            let found = check_says_ca(&parsed)
                .and_then(|()| self.step(certificate, &parsed, depth))
                .and_then(|()| self.find(&parsed, depth + 1));
            match found {
                Ok(()) => return Ok(()),
                Err(reject) => reason = reject,
            }
        }
        Err(reason)
    }

    fn between(&self, subject: &[u8]) -> Vec<&'a CaCertificate> {
        let known = self.roots.intermediates.get(subject).into_iter().flatten();
        known
            .chain(self.sent.iter().filter(|sent| sent.subject == subject))
            .collect()
    }

    /// Checks that `issuer` issued `certificate`, and may: dates, CA, certificate signing, depth below it.
    fn step(
        &mut self,
        certificate: &X509Certificate<'_>,
        issuer: &X509Certificate<'_>,
        depth: usize,
    ) -> Result<(), Reject> {
        check_issuer(issuer, depth)?;
        self.roots.check_dates(issuer, self.now)?;
        self.signatures += 1;
        if self.signatures > MAX_SIGNATURES {
            return Err(Reject::TooLarge);
        }
        // RFC 5280 §4.1.1.2: what names the algorithm is signed too.
        if certificate.signature_algorithm != certificate.tbs_certificate.signature {
            return Err(Reject::EkChainSignature);
        }
        let signature = &certificate.signature_value.data;
        verify(
            issuer.public_key(),
            &certificate.signature_algorithm,
            certificate.tbs_certificate.as_ref(),
            signature,
        )
        .ok_or(Reject::EkChainSignature)
    }
}

/// A root is a CA by configuration; a certificate between that does not say so may be anybody's.
fn check_says_ca(between: &X509Certificate<'_>) -> Result<(), Reject> {
    if between.is_ca() {
        Ok(())
    } else {
        Err(Reject::EkChainNotCa)
    }
}

fn check_issuer(issuer: &X509Certificate<'_>, depth: usize) -> Result<(), Reject> {
    check_critical(issuer)?;
    let constraints = issuer
        .basic_constraints()
        .map_err(|_| Reject::EkCertificateMalformed)?;
    if let Some(constraints) = constraints.map(|extension| extension.value) {
        let is_too_deep = constraints
            .path_len_constraint
            .is_some_and(|most| (most as usize) < depth);
        if !constraints.ca || is_too_deep {
            return Err(Reject::EkChainNotCa);
        }
    }
    let usage = issuer.key_usage().map_err(|_| Reject::EkCertificateMalformed)?;
    if usage.is_some_and(|extension| !extension.value.key_cert_sign()) {
        return Err(Reject::EkChainNotCa);
    }
    Ok(())
}

/// Checks a signature over a certificate; SHA-1 is not accepted.
fn verify(
    key: &SubjectPublicKeyInfo<'_>,
    algorithm: &AlgorithmIdentifier<'_>,
    message: &[u8],
    signature: &[u8],
) -> Option<()> {
    let verification = verification(key, algorithm)?;
    UnparsedPublicKey::new(verification, &key.subject_public_key.data)
        .verify(message, signature)
        .ok()
}

fn verification(
    key: &SubjectPublicKeyInfo<'_>,
    algorithm: &AlgorithmIdentifier<'_>,
) -> Option<&'static dyn VerificationAlgorithm> {
    let named = &algorithm.algorithm;
    if *named == OID_PKCS1_RSASSAPSS {
        return pss(algorithm);
    }
    let curve = key
        .algorithm
        .parameters
        .as_ref()
        .and_then(|parameters| parameters.as_oid().ok());
    let table: &[(Oid<'_>, Option<Oid<'_>>, &'static dyn VerificationAlgorithm)] = &[
        (
            OID_PKCS1_SHA256WITHRSA,
            None,
            &signature::RSA_PKCS1_2048_8192_SHA256,
        ),
        (
            OID_PKCS1_SHA384WITHRSA,
            None,
            &signature::RSA_PKCS1_2048_8192_SHA384,
        ),
        (
            OID_PKCS1_SHA512WITHRSA,
            None,
            &signature::RSA_PKCS1_2048_8192_SHA512,
        ),
        (
            OID_SIG_ECDSA_WITH_SHA256,
            Some(OID_EC_P256),
            &signature::ECDSA_P256_SHA256_ASN1,
        ),
        (
            OID_SIG_ECDSA_WITH_SHA384,
            Some(OID_EC_P256),
            &signature::ECDSA_P256_SHA384_ASN1,
        ),
        (
            OID_SIG_ECDSA_WITH_SHA256,
            Some(OID_NIST_EC_P384),
            &signature::ECDSA_P384_SHA256_ASN1,
        ),
        (
            OID_SIG_ECDSA_WITH_SHA384,
            Some(OID_NIST_EC_P384),
            &signature::ECDSA_P384_SHA384_ASN1,
        ),
        (
            OID_SIG_ECDSA_WITH_SHA512,
            Some(OID_NIST_EC_P384),
            &signature::ECDSA_P384_SHA512_ASN1,
        ),
        (
            OID_SIG_ECDSA_WITH_SHA256,
            Some(OID_NIST_EC_P521),
            &signature::ECDSA_P521_SHA256_ASN1,
        ),
        (
            OID_SIG_ECDSA_WITH_SHA384,
            Some(OID_NIST_EC_P521),
            &signature::ECDSA_P521_SHA384_ASN1,
        ),
        (
            OID_SIG_ECDSA_WITH_SHA512,
            Some(OID_NIST_EC_P521),
            &signature::ECDSA_P521_SHA512_ASN1,
        ),
    ];
    let fits = |(oid, wanted, _): &&(Oid<'_>, Option<Oid<'_>>, _)| {
        oid == named && (wanted.is_none() || *wanted == curve)
    };
    table.iter().find(fits).map(|(_, _, verification)| *verification)
}

const SHA256: Oid<'static> = oid!(2.16.840.1.101.3.4.2.1);
const SHA384: Oid<'static> = oid!(2.16.840.1.101.3.4.2.2);
const SHA512: Oid<'static> = oid!(2.16.840.1.101.3.4.2.3);

/// RSASSA-PSS names its hash in its parameters (RFC 4055 §3.1).
fn pss(algorithm: &AlgorithmIdentifier<'_>) -> Option<&'static dyn VerificationAlgorithm> {
    let parameters = RsaSsaPssParams::try_from(algorithm.parameters.as_ref()?).ok()?;
    match parameters.hash_algorithm_oid() {
        oid if *oid == SHA256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        oid if *oid == SHA384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        oid if *oid == SHA512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}
