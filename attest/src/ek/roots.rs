//! What endorsement certificates may lead to: the roots of vendors and of the operator, and what is known between.

use std::collections::HashMap;

use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::{
    CaCertificate, CaKey, Crl, EkCertificate, Freshness, VendorId,
    chain::{Issued, Search, Way, check_dates},
    crl::Crls,
    dn::NameKey,
};
use crate::Reject;

/// The roots that endorsement certificates may lead to, and certificates that may stand between.
#[derive(Clone, Debug, Default)]
pub struct EkRoots {
    roots: HashMap<NameKey, Vec<Root>>,
    intermediates: HashMap<NameKey, Vec<CaCertificate>>,
    pub(super) crls: Crls,
    pub(super) expiry: Expiry,
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

/// An endorsement certificate that leads to a root. Only [`EkRoots::verify`] makes one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TrustedCertificate {
    certificate: EkCertificate,
    way: Way,
}

/// A root, and for whose TPMs it may vouch.
#[derive(Clone, Debug)]
pub(super) struct Root {
    pub(super) certificate: CaCertificate,
    /// `None`: everybody's.
    vendors: Option<&'static [VendorId]>,
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

    /// Trusts a root, whoever made the TPM.
    pub fn add_root(&mut self, root: CaCertificate) {
        self.insert(Root {
            certificate: root,
            vendors: None,
        });
    }

    /// Trusts a root for the TPMs of these vendors (6).
    pub fn add_vendor_root(&mut self, root: CaCertificate, vendors: &'static [VendorId]) {
        self.insert(Root {
            certificate: root,
            vendors: Some(vendors),
        });
    }

    fn insert(&mut self, root: Root) {
        let subject = root.certificate.subject().clone();
        self.roots.entry(subject).or_default().push(root);
    }

    /// Knows a certificate that may stand on a way; it is not trusted by itself.
    pub fn add_intermediate(&mut self, intermediate: CaCertificate) {
        self.intermediates
            .entry(intermediate.subject().clone())
            .or_default()
            .push(intermediate);
    }

    /// Knows what a CA has revoked. A CRL that no CA on a way signed says nothing.
    pub fn add_crl(&mut self, crl: Crl) {
        self.crls.add(crl);
    }

    /// Sets what CRLs that have ended decide.
    pub fn set_freshness(&mut self, freshness: Freshness) {
        self.crls.freshness = freshness;
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
    /// that were sent along (1, 2, 6, 9–11). The key of the leaf is not to be weak either.
    ///
    /// # Errors
    ///
    /// There is none; of the ways that fail, the last says why, unless one is revoked.
    pub fn verify(
        &self,
        leaf: EkCertificate,
        sent: &[CaCertificate],
        now: i64,
    ) -> Result<TrustedCertificate, Reject> {
        let (_, certificate) =
            X509Certificate::from_der(leaf.as_der()).map_err(|_| Reject::EkCertificateMalformed)?;
        leaf.check_strength()?;
        let vendor = leaf.attributes().vendor();
        let validity = Issued::validity(&certificate);
        let way = self.find(&Issued::certificate(&certificate), validity, vendor, sent, now)?;
        Ok(TrustedCertificate {
            certificate: leaf,
            way,
        })
    }

    /// Finds a way from something that is valid from one time to the other.
    pub(super) fn find(
        &self,
        issued: &Issued<'_>,
        validity: [i64; 2],
        vendor: Option<VendorId>,
        sent: &[CaCertificate],
        now: i64,
    ) -> Result<Way, Reject> {
        check_dates(validity, self.expiry, now)?;
        Search::new(self, vendor, sent, now).find(issued)
    }

    pub(super) fn roots_of(&self, subject: &NameKey) -> &[Root] {
        self.roots.get(subject).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn intermediates_of(&self, subject: &NameKey) -> &[CaCertificate] {
        self.intermediates
            .get(subject)
            .map(Vec::as_slice)
            .unwrap_or_default()
    }
}

impl Root {
    /// Whether it may vouch for TPMs of `vendor`. Who names none in the form of the registry has only roots of
    /// the operator.
    pub(super) fn vouches_for(&self, vendor: Option<VendorId>) -> bool {
        let is_vendors = |vendors: &[VendorId]| {
            vendor.is_some_and(|vendor| vendors.iter().any(|allowed| allowed.is(vendor)))
        };
        self.vendors.is_none_or(is_vendors)
    }
}

impl TrustedCertificate {
    /// The certificate.
    #[must_use]
    pub const fn get(&self) -> &EkCertificate {
        &self.certificate
    }

    /// Key of the CA that issued it.
    #[must_use]
    pub const fn issuer_key(&self) -> CaKey {
        self.way.issuer
    }

    /// Key of the root that it leads to.
    #[must_use]
    pub const fn root_key(&self) -> CaKey {
        self.way.root
    }
}
