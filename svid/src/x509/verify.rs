//! Verification of an X509-SVID against the bundle of the trust domain it names.

use std::borrow::Borrow;

use rustls_pki_types::CertificateDer;
use webpki::{
    ALL_VERIFICATION_ALGS, EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter,
    anchor_from_trusted_cert,
};

use super::{ProfileError, X509Svid};
use crate::{Bundle, Timestamp, TrustDomain};

/// An X509-SVID that chains to a root of its own trust domain and is valid now. Only [`verify()`] makes one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifiedSvid {
    svid: X509Svid,
}

impl VerifiedSvid {
    /// What the SVID says.
    #[must_use]
    pub fn svid(&self) -> &X509Svid {
        &self.svid
    }
}

/// Why an X509-SVID is not believed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// The path to a root does not verify, or does not verify now.
    #[error("certificate chain does not verify")]
    Chain(#[source] webpki::Error),
    /// There is no certificate at all.
    #[error("certificate chain is empty")]
    Empty,
    /// A certificate of the path has ended.
    #[error(
        "certificate ended at {not_after}, and the clock here shows {now}; are the clocks of both ends right?"
    )]
    Ended {
        /// When it ended.
        not_after: Timestamp,
        /// The time here.
        now: Timestamp,
    },
    /// A certificate of the path is for later.
    #[error(
        "certificate begins at {not_before}, and the clock here shows {now}; are the clocks of both ends right?"
    )]
    NotBegun {
        /// When it begins.
        not_before: Timestamp,
        /// The time here.
        now: Timestamp,
    },
    /// The leaf is no X509-SVID.
    #[error("leaf certificate is no X509-SVID")]
    Profile(#[from] ProfileError),
    /// There is no bundle for the trust domain that the SVID names.
    #[error("no bundle for trust domain `{0}`")]
    UnknownTrustDomain(TrustDomain),
}

/// Most certificates in a chain; more are refused unread.
const MAX_CHAIN: usize = 8;

/// Verifies `chain` (leaf first) at `now`, with the bundle that `bundle_of` has for the trust domain named in
/// the leaf, and with no other (X509-SVID §5; Federation §7.3).
///
/// # Errors
///
/// Why the SVID is not believed.
pub fn verify<B: Borrow<Bundle>>(
    chain: &[CertificateDer<'_>],
    bundle_of: impl FnOnce(&TrustDomain) -> Option<B>,
    now: Timestamp,
) -> Result<VerifiedSvid, Refused> {
    let (leaf, intermediates) = chain.split_first().ok_or(Refused::Empty)?;
    if chain.len() > MAX_CHAIN {
        return Err(Refused::Chain(webpki::Error::MaximumPathDepthExceeded));
    }
    let svid = X509Svid::parse(leaf)?;
    let bundle = bundle_of(svid.id.trust_domain())
        .ok_or_else(|| Refused::UnknownTrustDomain(svid.id.trust_domain().clone()))?;
    let bundle: &Bundle = bundle.borrow();
    let roots: Vec<_> = bundle
        .x509_authorities
        .iter()
        .map(|authority| &authority.certificate)
        .collect();
    let anchors: Vec<_> = roots
        .iter()
        .filter_map(|root| anchor_from_trusted_cert(root).ok())
        .collect();
    EndEntityCert::try_from(leaf)
        .and_then(|leaf| {
            leaf.verify_for_usage(
                ALL_VERIFICATION_ALGS,
                &anchors,
                intermediates,
                now.to_pki(),
                AnyUsage,
                None,
                None,
            )
            .map(drop)
        })
        .map_err(|error| refused(error, now))?;
    Ok(VerifiedSvid { svid })
}

fn refused(error: webpki::Error, now: Timestamp) -> Refused {
    match error {
        webpki::Error::CertExpired { not_after, .. } => Refused::Ended {
            not_after: not_after.into(),
            now,
        },
        webpki::Error::CertNotValidYet { not_before, .. } => Refused::NotBegun {
            not_before: not_before.into(),
            now,
        },
        error => Refused::Chain(error),
    }
}

/// X509-SVIDs serve both ends of a connection, and may leave extended key usage out (X509-SVID §4.4).
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _usages: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}
