//! Issued SVIDs.

use proto::spire::api::types::X509svid;

use super::id_to_wire;
use crate::ca::IssuedSvid;

/// Writes an SVID: its chain without roots.
#[must_use]
pub fn svid_to_wire(svid: &IssuedSvid) -> X509svid {
    X509svid {
        cert_chain: svid
            .chain
            .iter()
            .map(|certificate| certificate.to_vec())
            .collect(),
        id: Some(id_to_wire(svid.id.trust_domain(), svid.id.path())),
        expires_at: svid.not_after.as_unix(),
        hint: String::new(),
    }
}
