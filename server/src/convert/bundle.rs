//! Bundles.

use proto::spire::api::types;
use svid::{Bundle, Timestamp};

/// Writes a bundle.
#[must_use]
pub fn bundle_to_wire(bundle: &Bundle) -> types::Bundle {
    let x509 = bundle
        .x509_authorities
        .iter()
        .map(|authority| types::X509Certificate {
            asn1: authority.certificate.to_vec(),
            tainted: authority.tainted,
        });
    let jwt = bundle.jwt_authorities.iter().map(|authority| types::JwtKey {
        public_key: authority.public_key.clone(),
        key_id: authority.key_id.clone(),
        expires_at: authority.expires_at.map_or(0, Timestamp::as_unix),
        tainted: authority.tainted,
    });
    types::Bundle {
        trust_domain: bundle.trust_domain.to_string(),
        x509_authorities: x509.collect(),
        jwt_authorities: jwt.collect(),
        refresh_hint: bundle
            .refresh_hint
            .map_or(0, |hint| i64::try_from(hint.as_secs()).unwrap_or(i64::MAX)),
        sequence_number: bundle.sequence,
        wit_authorities: Vec::new(),
    }
}
