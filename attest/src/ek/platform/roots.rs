//! Who may say which TPM is in which machine: the operator's choice alone, nothing is shipped.

use std::collections::{HashMap, HashSet};

use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::{Form, PlatformCertificate, attribute::AttributeCertificate};
use crate::{
    Reject,
    ek::{
        CaCertificate, CaError, CaKey, CertificateId, EkRoots, Expiry,
        chain::{Issued, Way},
        dn::NameKey,
    },
};

/// The roots that platform certificates may lead to, and what may stand between. They vouch for no endorsement key.
#[derive(Clone, Debug, Default)]
pub struct PlatformRoots {
    roots: EkRoots,
    /// By name as text, the names of those who may sign.
    signers: HashMap<String, HashSet<NameKey>>,
}

/// A platform certificate that leads to a root. Only [`PlatformRoots::verify`] makes one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifiedPlatform {
    certificate: PlatformCertificate,
    issuer: CaKey,
}

impl PlatformRoots {
    /// Nothing leads anywhere.
    #[must_use]
    pub fn new(expiry: Expiry) -> Self {
        Self {
            roots: EkRoots::new(expiry),
            ..Self::default()
        }
    }

    /// Adds a certificate in DER: a root if it issued itself, otherwise one that may stand between. It need not be a
    /// CA's: who signs attribute certificates has none (RFC 5755 §4.5).
    ///
    /// # Errors
    ///
    /// It is no certificate.
    pub fn add(&mut self, der: &[u8]) -> Result<(), CaError> {
        let certificate = CaCertificate::parse_signer(der)?;
        let parsed = certificate.parsed().map_err(|_| CaError::Malformed)?;
        let name = CertificateId::new(&parsed.subject().to_string(), &[]);
        self.signers
            .entry(name.issuer().into())
            .or_default()
            .insert(certificate.subject().clone());
        if certificate.is_self_issued() {
            self.roots.add_root(certificate);
        } else {
            self.roots.add_intermediate(certificate);
        }
        Ok(())
    }

    /// How many roots there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.roots.len()
    }

    /// Whether there are no roots.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// Finds a way from `certificate` to a root at `now` (seconds since the epoch) (61).
    ///
    /// # Errors
    ///
    /// There is none; of the ways that fail, the last says why.
    pub fn verify(&self, certificate: PlatformCertificate, now: i64) -> Result<VerifiedPlatform, Reject> {
        let way = match certificate.form {
            Form::Attribute => self.above_attributes(&certificate, now),
            Form::Key => {
                let (_, parsed) = X509Certificate::from_der(&certificate.der)
                    .map_err(|_| Reject::PlatformCertificateMalformed)?;
                let issued = Issued::certificate(&parsed);
                self.roots
                    .find(&issued, Issued::validity(&parsed), None, &[], now)
            }
        };
        let issuer = way.map_err(of_platform)?.issuer;
        Ok(VerifiedPlatform { certificate, issuer })
    }

    /// Makers of attribute certificates write their names in other types of string than their own certificates have:
    /// whoever is called the same may have signed it. That he did, the signature shows.
    fn above_attributes(&self, certificate: &PlatformCertificate, now: i64) -> Result<Way, Reject> {
        let parsed = AttributeCertificate::parse(&certificate.der)?;
        let mut found = Err(Reject::EkChainUnknown);
        for issuer in self.signers.get(certificate.id.issuer()).into_iter().flatten() {
            let issued = Issued {
                issuer: issuer.clone(),
                ..parsed.issued()
            };
            found = self.roots.find(&issued, parsed.validity, None, &[], now);
            if found.is_ok() {
                break;
            }
        }
        found
    }
}

impl VerifiedPlatform {
    /// The certificate.
    #[must_use]
    pub const fn get(&self) -> &PlatformCertificate {
        &self.certificate
    }

    /// Key of who signed it.
    #[must_use]
    pub const fn issuer_key(&self) -> CaKey {
        self.issuer
    }
}

/// The search is the same as for endorsement certificates; what it finds is said of platform certificates.
const fn of_platform(reject: Reject) -> Reject {
    match reject {
        Reject::EkChainExpired => Reject::PlatformChainExpired,
        Reject::EkChainNotCa | Reject::EkCertificateCritical => Reject::PlatformChainNotCa,
        Reject::EkChainSignature => Reject::PlatformChainSignature,
        Reject::EkChainUnknown => Reject::PlatformChainUnknown,
        Reject::EkChainWeak => Reject::PlatformChainWeak,
        other => other,
    }
}
