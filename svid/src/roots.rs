//! What became of the authority that an X509-SVID rests on: many SVIDs are looked up in few roots, by the key
//! identifiers of RFC 5280 §4.2.1.1 and §4.2.1.2, without a signature being checked anew.

use std::collections::HashMap;

use rustls_pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, extensions::ParsedExtension, prelude::FromDer};

use crate::Bundle;

/// The roots of a bundle, by key identifier.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Roots {
    /// Whether each is tainted.
    by_key: HashMap<Vec<u8>, bool>,
    /// Some root does not say what its key is called: what is not found may rest on it.
    is_partial: bool,
}

/// What a bundle makes of an SVID.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// It is trusted, as far as can be told.
    Good,
    /// It is trusted, and to be replaced now.
    Tainted,
    /// Nobody with this bundle trusts it.
    Void,
}

impl Roots {
    /// The roots of `bundle`.
    #[must_use]
    pub fn of(bundle: &Bundle) -> Self {
        let mut roots = Self::default();
        for root in &bundle.x509_authorities {
            match subject_key_id(&root.certificate) {
                Some(key) => drop(roots.by_key.insert(key, root.tainted)),
                None => roots.is_partial = true,
            }
        }
        roots
    }

    /// What they make of an SVID that rests on the key called `signed_by`, if it says so.
    #[must_use]
    pub fn standing(&self, signed_by: Option<&[u8]>) -> Standing {
        match signed_by.and_then(|key| self.by_key.get(key)) {
            Some(true) => Standing::Tainted,
            None if signed_by.is_some() && !self.is_partial => Standing::Void,
            Some(false) | None => Standing::Good,
        }
    }
}

/// What the last certificate of `chain` calls the key that signed it: that of the root.
#[must_use]
pub fn signed_by(chain: &[impl AsRef<[u8]>]) -> Option<Vec<u8>> {
    let (_, last) = X509Certificate::from_der(chain.last()?.as_ref()).ok()?;
    let mut extensions = last.iter_extensions();
    extensions.find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(authority) => {
            Some(authority.key_identifier.as_ref()?.0.into())
        }
        _ => None,
    })
}

fn subject_key_id(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let mut extensions = parsed.iter_extensions();
    extensions.find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(key) => Some(key.0.into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    use super::*;
    use crate::{TrustDomain, X509Authority};

    fn root(is_ca: IsCa) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = is_ca;
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn leaf(issuer: &CertifiedIssuer<'static, KeyPair>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, issuer).unwrap().der().to_vec()
    }

    fn bundle(roots: &[(&CertifiedIssuer<'static, KeyPair>, bool)]) -> Bundle {
        let mut bundle = Bundle::empty(TrustDomain::parse("td").unwrap());
        for (root, tainted) in roots {
            bundle.x509_authorities.push(X509Authority {
                certificate: root.der().clone(),
                tainted: *tainted,
            });
        }
        bundle
    }

    #[test]
    fn an_svid_stands_as_the_root_that_it_rests_on() {
        let ca = || root(IsCa::Ca(BasicConstraints::Unconstrained));
        let (first, second) = (ca(), ca());
        let signed = signed_by(&[leaf(&first)]);
        assert!(signed.is_some());
        let check = |roots: &[_], expected| {
            let standing = Roots::of(&bundle(roots)).standing(signed.as_deref());
            assert_eq!(standing, expected);
        };
        check(&[(&first, false), (&second, false)], Standing::Good);
        check(&[(&first, true), (&second, false)], Standing::Tainted);
        check(&[(&first, false), (&second, true)], Standing::Good);
        check(&[(&second, false)], Standing::Void);
        // A root without identifier may be anybody's.
        check(&[(&second, false), (&root(IsCa::NoCa), false)], Standing::Good);
    }

    #[test]
    fn an_svid_that_does_not_say_is_left_alone() {
        let without = root(IsCa::NoCa).der().to_vec();
        assert_eq!(signed_by(&[without]), None);
        assert_eq!(signed_by(&[] as &[Vec<u8>]), None);
        assert_eq!(Roots::default().standing(None), Standing::Good);
    }
}
