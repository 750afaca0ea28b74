//! Issued SVIDs.

use proto::spire::api::types::{Jwtsvid, X509svid};

use super::id_to_wire;
use crate::ca::{IssuedJwt, IssuedSvid};

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

/// Writes a JWT-SVID.
#[must_use]
pub fn jwt_to_wire(jwt: &IssuedJwt) -> Jwtsvid {
    let claims = &jwt.claims;
    Jwtsvid {
        token: jwt.token.clone(),
        id: Some(id_to_wire(claims.id.trust_domain(), claims.id.path())),
        expires_at: claims.expires_at.as_unix(),
        issued_at: claims.issued_at.as_unix(),
        hint: String::new(),
    }
}
