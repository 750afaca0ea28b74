//! The way from an endorsement certificate to a root (1, 2, 6). Never a root of the web, or of the operating system.

use x509_parser::certificate::X509Certificate;

use super::{
    CaCertificate, CaKey, EkRoots, Expiry, VendorId, ca::check_strength, certificate::check_critical,
    dn::NameKey, signed,
};
use crate::Reject;

/// Most certificates between an endorsement certificate and a root.
const MAX_DEPTH: usize = 5;
/// Most signatures that are checked for one certificate.
const MAX_SIGNATURES: usize = 32;

/// Who vouches for an endorsement certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Way {
    /// The CA that issued it.
    pub(super) issuer: CaKey,
    /// Where the way ends.
    pub(super) root: CaKey,
}

/// A search for a way, bounded in depth and in work.
pub(super) struct Search<'a> {
    roots: &'a EkRoots,
    /// Whose TPM it is, as the endorsement certificate says.
    vendor: Option<VendorId>,
    sent: &'a [CaCertificate],
    now: i64,
    signatures: usize,
}

impl<'a> Search<'a> {
    pub(super) const fn new(
        roots: &'a EkRoots,
        vendor: Option<VendorId>,
        sent: &'a [CaCertificate],
        now: i64,
    ) -> Self {
        Self {
            roots,
            vendor,
            sent,
            now,
            signatures: 0,
        }
    }

    /// Finds a way from an endorsement certificate.
    pub(super) fn find(mut self, leaf: &X509Certificate<'_>) -> Result<Way, Reject> {
        self.above(leaf, 0)
    }

    /// Finds a way from `certificate`, below which stand `depth` others. Its `issuer` is the CA above `certificate`.
    fn above(&mut self, certificate: &X509Certificate<'_>, depth: usize) -> Result<Way, Reject> {
        let issuer = &NameKey::of(certificate.issuer());
        let mut reason = Reject::EkChainUnknown;
        for root in self.roots.roots_of(issuer) {
            let key = root.certificate.key();
            match self.step(certificate, &root.certificate.parsed()?, depth) {
                Ok(()) if root.vouches_for(self.vendor) => {
                    return Ok(Way {
                        issuer: key,
                        root: key,
                    });
                }
                Ok(()) => reason = Reject::EkManufacturer,
                Err(reject) => reason = graver(reason, reject),
            }
        }
        if depth >= MAX_DEPTH {
            return Err(reason);
        }
        for between in self.between(issuer) {
            let parsed = between.parsed()?;
            let found = check_says_ca(&parsed)
                .and_then(|()| self.step(certificate, &parsed, depth))
                .and_then(|()| self.above(&parsed, depth + 1));
            match found {
                Ok(way) => {
                    return Ok(Way {
                        issuer: between.key(),
                        ..way
                    });
                }
                Err(reject) => reason = graver(reason, reject),
            }
        }
        Err(reason)
    }

    /// Certificates of this name. What was sent along is passed over where it gives a name that we know to another
    /// key: hosts are enrolled by the name of their issuer.
    fn between(&self, subject: &NameKey) -> Vec<&'a CaCertificate> {
        let (roots, sent) = (self.roots, self.sent);
        let known = roots.intermediates_of(subject);
        let keys = || {
            let of_roots = roots.roots_of(subject).iter().map(|root| root.certificate.key());
            of_roots.chain(known.iter().map(CaCertificate::key))
        };
        let is_new = |sent: &&CaCertificate| {
            sent.subject() == subject && (keys().next().is_none() || keys().any(|key| key == sent.key()))
        };
        known.iter().chain(sent.iter().filter(is_new)).collect()
    }

    /// Checks that `issuer` issued `certificate`, and may: dates, CA, certificate signing, depth below it, a key that
    /// is its own; and that it has not revoked it.
    fn step(
        &mut self,
        certificate: &X509Certificate<'_>,
        issuer: &X509Certificate<'_>,
        depth: usize,
    ) -> Result<(), Reject> {
        check_issuer(issuer, depth)?;
        check_dates(issuer, self.roots.expiry, self.now)?;
        self.signatures += 1;
        if self.signatures > MAX_SIGNATURES {
            return Err(Reject::TooLarge);
        }
        check_strength(issuer.public_key())?;
        check_signature(certificate, issuer)?;
        self.roots.crls.check(certificate, issuer, self.now)
    }
}

/// Of the ways that fail the last says why, unless one is revoked: that a CA of the same name did not sign changes nothing
/// about what was taken back.
fn graver(earlier: Reject, later: Reject) -> Reject {
    if earlier == Reject::EkRevoked {
        earlier
    } else {
        later
    }
}

pub(super) fn check_dates(certificate: &X509Certificate<'_>, expiry: Expiry, now: i64) -> Result<(), Reject> {
    let validity = certificate.validity();
    let has_begun = validity.not_before.timestamp() <= now;
    let has_ended = validity.not_after.timestamp() < now && expiry == Expiry::Enforced;
    if has_begun && !has_ended {
        Ok(())
    } else {
        Err(Reject::EkChainExpired)
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

fn check_signature(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> Result<(), Reject> {
    // RFC 5280 §4.1.1.2: what names the algorithm is signed too.
    if certificate.signature_algorithm != certificate.tbs_certificate.signature {
        return Err(Reject::EkChainSignature);
    }
    signed::verify(
        issuer.public_key(),
        &certificate.signature_algorithm,
        certificate.tbs_certificate.as_ref(),
        &certificate.signature_value.data,
    )
    .ok_or(Reject::EkChainSignature)
}
