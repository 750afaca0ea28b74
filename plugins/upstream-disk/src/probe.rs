//! Whether what the CA signs can be verified: an authority and an SVID are made for that, and thrown away.

use std::time::Duration;

use rcgen::{KeyPair, PublicKeyData};
use rustls_pki_types::CertificateDer;
use svid::{
    Bundle, SpiffeId, Timestamp, TrustDomain, X509Authority,
    x509::{self, Issuer, MintError, PublicKey, SerialNumber, Subject, Template, TemplateKind},
};

use crate::{DiskError, files::Ca};

/// Nobody's.
const PATH: &str = "/for/upstream/check/only";

pub(crate) fn verify(ca: &Ca, trust_domain: &TrustDomain, now: Timestamp) -> Result<(), DiskError> {
    let key = || KeyPair::generate().map_err(MintError::Sign);
    let (authority_key, key) = (key()?, key()?);
    let authority = template(trust_domain.id(), &authority_key, TemplateKind::Authority, now)?;
    let authority = ca.sign(authority)?;
    let issuer = Issuer::from_ca_cert_der(&authority, authority_key).map_err(MintError::Sign)?;
    let id = SpiffeId::new(trust_domain.clone(), PATH).map_err(|_| MintError::Name(PATH.into()))?;
    let leaf = x509::sign(&template(id, &key, TemplateKind::Leaf, now)?, &issuer)?;
    let chain: Vec<CertificateDer<'_>> = [leaf, authority]
        .into_iter()
        .chain(ca.chain.iter().cloned())
        .collect();
    let roots = ca.roots.iter().map(|certificate| X509Authority {
        certificate: certificate.clone(),
        tainted: false,
    });
    let bundle = Bundle {
        x509_authorities: roots.collect(),
        ..Bundle::empty(trust_domain.clone())
    };
    let verified = x509::verify(&chain, |_| Some(&bundle), now);
    verified.map(drop).map_err(DiskError::Unrooted)
}

fn template(id: SpiffeId, key: &KeyPair, kind: TemplateKind, now: Timestamp) -> Result<Template, DiskError> {
    let public_key = PublicKey::from_spki(&key.subject_public_key_info())
        .map_err(|error| MintError::Name(error.to_string()))?;
    Ok(Template {
        id,
        dns_names: Vec::new(),
        public_key,
        serial: SerialNumber::from_random([1; 16]),
        not_before: now,
        not_after: now.plus(Duration::from_secs(60)),
        subject: Subject {
            organization: "Plastron".into(),
            common_name: Some("thrown away".into()),
        },
        kind,
    })
}
