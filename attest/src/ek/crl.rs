//! CRLs of vendors (RFC 5280 §5): files that an operator keeps, never fetched (11, 12).

use std::collections::{HashMap, HashSet};

use x509_parser::{
    certificate::X509Certificate,
    extensions::{ParsedExtension, X509Extension},
    prelude::FromDer,
    revocation_list::CertificateRevocationList,
};

use super::{dn::NameKey, signed};
use crate::Reject;

/// A parsed CRL. Whose it is, nobody has shown.
#[derive(Clone, Debug)]
pub struct Crl {
    der: Vec<u8>,
    issuer: NameKey,
    /// When the next one was to come; seconds since the epoch.
    next_update: Option<i64>,
    /// Without leading zeros.
    revoked: HashSet<Vec<u8>>,
}

/// Bytes are no CRL that can be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CrlError {
    /// Not a CRL in DER, or something follows it.
    #[error("not a CRL in DER")]
    Malformed,
    /// A critical extension that we do not process: a CRL of changes, of other issuers, or of some certificates only.
    #[error("CRL has a critical extension that is not supported: only whole CRLs of one CA are")]
    Unsupported,
}

/// What CRLs decide.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Freshness {
    /// What a CRL names is revoked for good, whether or not the CRL has ended: vendors let theirs end.
    #[default]
    Ignored,
    /// A CA whose CRLs have all ended vouches for nothing; one without any does.
    Enforced,
    /// Each CA on the way needs a CRL that has not ended.
    Required,
}

/// CRLs, by issuer.
#[derive(Clone, Debug, Default)]
pub(super) struct Crls {
    by_issuer: HashMap<NameKey, Vec<Crl>>,
    pub(super) freshness: Freshness,
}

impl Crl {
    /// Parses a CRL in DER.
    ///
    /// # Errors
    ///
    /// It is none, or says less than what is revoked by one CA.
    pub fn parse(der: &[u8]) -> Result<Self, CrlError> {
        let (rest, crl) = CertificateRevocationList::from_der(der).map_err(|_| CrlError::Malformed)?;
        if !rest.is_empty() {
            return Err(CrlError::Malformed);
        }
        let entries = || crl.iter_revoked_certificates();
        let of_entries = entries().flat_map(|entry| entry.extensions());
        if crl.extensions().iter().chain(of_entries).any(is_unknown) {
            return Err(CrlError::Unsupported);
        }
        Ok(Self {
            der: der.into(),
            issuer: NameKey::of(crl.issuer()),
            next_update: crl.next_update().map(|time| time.timestamp()),
            revoked: entries().map(|entry| significant(entry.raw_serial())).collect(),
        })
    }

    /// Whether `issuer` signed it, and may.
    fn is_by(&self, issuer: &X509Certificate<'_>) -> bool {
        let usage = issuer.key_usage().ok().flatten();
        if usage.is_some_and(|usage| !usage.value.crl_sign()) {
            return false;
        }
        let Ok((_, crl)) = CertificateRevocationList::from_der(&self.der) else {
            return false;
        };
        let signature = &crl.signature_value.data;
        crl.signature_algorithm == crl.tbs_cert_list.signature
            && signed::verify(
                issuer.public_key(),
                &crl.signature_algorithm,
                crl.tbs_cert_list.as_ref(),
                signature,
            )
            .is_some()
    }

    fn is_fresh(&self, now: i64) -> bool {
        self.next_update.is_some_and(|next| now <= next)
    }
}

impl Crls {
    pub(super) fn add(&mut self, crl: Crl) {
        self.by_issuer.entry(crl.issuer.clone()).or_default().push(crl);
    }

    /// Checks that `issuer` has not revoked what has this serial number, as far as we can know (11).
    pub(super) fn check(&self, serial: &[u8], issuer: &X509Certificate<'_>, now: i64) -> Result<(), Reject> {
        let named = self
            .by_issuer
            .get(&NameKey::of(issuer.subject()))
            .into_iter()
            .flatten();
        let crls: Vec<&Crl> = named.filter(|crl| crl.is_by(issuer)).collect();
        let serial = significant(serial);
        if crls.iter().any(|crl| crl.revoked.contains(&serial)) {
            return Err(Reject::EkRevoked);
        }
        let is_fresh = crls.iter().any(|crl| crl.is_fresh(now));
        match self.freshness {
            Freshness::Ignored => Ok(()),
            Freshness::Enforced if is_fresh || crls.is_empty() => Ok(()),
            Freshness::Required if is_fresh => Ok(()),
            Freshness::Enforced | Freshness::Required => Err(Reject::EkCrlStale),
        }
    }
}

/// Extensions that say of less than of all certificates of one CA are critical (RFC 5280 §5.2, §5.3.3).
fn is_unknown(extension: &X509Extension<'_>) -> bool {
    let is_harmless = matches!(
        extension.parsed_extension(),
        ParsedExtension::AuthorityKeyIdentifier(_)
            | ParsedExtension::CRLNumber(_)
            | ParsedExtension::InvalidityDate(_)
            | ParsedExtension::ReasonCode(_)
    );
    extension.critical && !is_harmless
}

fn significant(serial: &[u8]) -> Vec<u8> {
    serial.iter().copied().skip_while(|byte| *byte == 0).collect()
}
