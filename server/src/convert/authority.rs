//! Authorities of others.

use proto::spire::api::types;
use svid::{
    Timestamp,
    x509::{PublicKey, PublicKeyError},
};

use crate::{
    ca::{AuthorityState, JwtAuthority, X509Authority},
    registry::authority_changes::Foreign,
};

/// An authority on the wire can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Not one certificate, or none of an authority.
    #[error("X.509 authority {0} is no CA certificate in DER")]
    Certificate(usize),
    /// The time makes no sense.
    #[error("JWT authority {0:?} ends before the epoch")]
    ExpiresAt(String),
    /// The key can't be used.
    #[error("JWT authority {key_id:?} has no usable key")]
    Key {
        /// Its `kid`.
        key_id: String,
        /// Why.
        source: PublicKeyError,
    },
    /// Tokens name their key.
    #[error("JWT authority {0} must have a key ID of 1 to {MAX_KEY_ID} bytes")]
    KeyId(usize),
    /// There are none.
    #[error("no authorities to append")]
    Missing,
}

/// Longest `kid` in bytes.
const MAX_KEY_ID: usize = 255;

/// Reads authorities that somebody else signs with.
///
/// # Errors
///
/// There are none, or the first that can't be used.
pub fn authorities_from_wire(
    x509: &[types::X509Certificate],
    jwt: &[types::JwtKey],
) -> Result<Foreign, AuthorityError> {
    if x509.is_empty() && jwt.is_empty() {
        return Err(AuthorityError::Missing);
    }
    let x509 = x509.iter().enumerate().map(|(index, wire)| {
        let authority = X509Authority::foreign(&wire.asn1).ok_or(AuthorityError::Certificate(index))?;
        Ok(X509Authority {
            tainted: wire.tainted,
            ..authority
        })
    });
    let jwt = jwt
        .iter()
        .enumerate()
        .map(|(index, wire)| jwt_authority(index, wire));
    Ok(Foreign {
        x509: x509.collect::<Result<_, _>>()?,
        jwt: jwt.collect::<Result<_, _>>()?,
    })
}

fn jwt_authority(index: usize, wire: &types::JwtKey) -> Result<JwtAuthority, AuthorityError> {
    let key_id = || wire.key_id.clone();
    if wire.key_id.is_empty() || wire.key_id.len() > MAX_KEY_ID {
        return Err(AuthorityError::KeyId(index));
    }
    let material = PublicKey::from_spki(&wire.public_key).map_err(|source| AuthorityError::Key {
        key_id: key_id(),
        source,
    })?;
    let not_after = match wire.expires_at {
        0 => Timestamp::NEVER,
        ..0 => return Err(AuthorityError::ExpiresAt(key_id())),
        seconds => Timestamp::from_unix(seconds).min(Timestamp::NEVER),
    };
    Ok(JwtAuthority {
        key_id: String::new(),
        authority_id: key_id(),
        material,
        not_before: Timestamp::default(),
        not_after,
        published_at: Timestamp::default(),
        published_sequence: 0,
        state: AuthorityState::Foreign,
        tainted: wire.tainted,
        upstream: None,
    })
}
