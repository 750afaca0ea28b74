//! The way from an endorsement certificate to a root (1, 2, 6). Never a root of the web, or of the operating system.

use x509_parser::{certificate::X509Certificate, extensions::KeyUsage, x509::AlgorithmIdentifier};

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

/// What somebody signed who may be on a way.
#[derive(Clone, Debug)]
pub(super) struct Issued<'a> {
    pub(super) kind: Kind,
    /// Name of the issuer.
    pub(super) issuer: NameKey,
    pub(super) serial: &'a [u8],
    /// As it is signed, and as it stands beside the signature.
    pub(super) algorithms: [&'a AlgorithmIdentifier<'a>; 2],
    /// What the signature is over.
    pub(super) message: &'a [u8],
    pub(super) signature: &'a [u8],
}

/// What was issued, by which its issuer is judged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// By who signs attribute certificates, and is on the operator's list: a CA or not.
    AttributeCertificate,
    /// By a CA.
    Certificate,
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

    /// Finds a way from what stands at its beginning.
    pub(super) fn find(mut self, leaf: &Issued<'_>) -> Result<Way, Reject> {
        self.above(leaf, 0)
    }

    /// Finds a way from `issued`, below which stand `depth` others. Its `issuer` is who stands above `issued`.
    fn above(&mut self, issued: &Issued<'_>, depth: usize) -> Result<Way, Reject> {
        let mut reason = Reject::EkChainUnknown;
        for root in self.roots.roots_of(&issued.issuer) {
            let key = root.certificate.key();
            match self.step(issued, &root.certificate.parsed()?, depth) {
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
        for between in self.between(&issued.issuer) {
            let parsed = between.parsed()?;
            let found = check_says_ca(&parsed, issued.kind)
                .and_then(|()| self.step(issued, &parsed, depth))
                .and_then(|()| self.above(&Issued::certificate(&parsed), depth + 1));
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

    /// Checks that `issuer` issued it, and may: dates, CA, certificate signing, depth below it, a key that is its own;
    /// and that it has not revoked it.
    fn step(
        &mut self,
        issued: &Issued<'_>,
        issuer: &X509Certificate<'_>,
        depth: usize,
    ) -> Result<(), Reject> {
        match issued.kind {
            Kind::AttributeCertificate => check_signer(issuer)?,
            Kind::Certificate => check_issuer(issuer, depth)?,
        }
        check_dates(Issued::validity(issuer), self.roots.expiry, self.now)?;
        self.signatures += 1;
        if self.signatures > MAX_SIGNATURES {
            return Err(Reject::TooLarge);
        }
        check_strength(issuer.public_key())?;
        check_signature(issued, issuer)?;
        self.roots.crls.check(issued.serial, issuer, self.now)
    }
}

impl<'a> Issued<'a> {
    /// A certificate, as its issuer signed it.
    pub(super) fn certificate(certificate: &'a X509Certificate<'a>) -> Self {
        Self {
            kind: Kind::Certificate,
            issuer: NameKey::of(certificate.issuer()),
            serial: certificate.raw_serial(),
            algorithms: [
                &certificate.tbs_certificate.signature,
                &certificate.signature_algorithm,
            ],
            message: certificate.tbs_certificate.as_ref(),
            signature: &certificate.signature_value.data,
        }
    }

    /// From when to when a certificate is valid; seconds since the epoch.
    pub(super) fn validity(certificate: &X509Certificate<'_>) -> [i64; 2] {
        let validity = certificate.validity();
        [validity.not_before, validity.not_after].map(|time| time.timestamp())
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

/// Checks that what is valid from one time to the other is so now.
pub(super) fn check_dates([not_before, not_after]: [i64; 2], expiry: Expiry, now: i64) -> Result<(), Reject> {
    let has_begun = not_before <= now;
    let has_ended = not_after < now && expiry == Expiry::Enforced;
    if has_begun && !has_ended {
        Ok(())
    } else {
        Err(Reject::EkChainExpired)
    }
}

/// A root is a CA by configuration; a certificate between that does not say so may be anybody's.
fn check_says_ca(between: &X509Certificate<'_>, below: Kind) -> Result<(), Reject> {
    if below == Kind::AttributeCertificate || between.is_ca() {
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

/// Who signs attribute certificates need be no CA (RFC 5755 §4.5); a key that is marked for something else alone signs
/// none. Nothing is sent along with them: who stands above is on the operator's list.
fn check_signer(signer: &X509Certificate<'_>) -> Result<(), Reject> {
    check_critical(signer)?;
    let usage = signer.key_usage().map_err(|_| Reject::EkCertificateMalformed)?;
    let may_sign = |usage: &KeyUsage| usage.digital_signature() || usage.key_cert_sign();
    if usage.is_some_and(|extension| !may_sign(extension.value)) {
        return Err(Reject::EkChainNotCa);
    }
    Ok(())
}

fn check_signature(issued: &Issued<'_>, issuer: &X509Certificate<'_>) -> Result<(), Reject> {
    // RFC 5280 §4.1.1.2: what names the algorithm is signed too.
    let [signed, beside] = issued.algorithms;
    if signed != beside {
        return Err(Reject::EkChainSignature);
    }
    signed::verify(issuer.public_key(), beside, issued.message, issued.signature)
        .ok_or(Reject::EkChainSignature)
}
