//! Authorities of others in our bundle.

use svid::Bundle;

use super::Draft;
use crate::{
    ca::{Authority, JwtAuthority, X509Authority},
    journal::Record,
};

/// Authorities that others sign with.
#[derive(Clone, Debug, Default)]
pub struct Foreign {
    /// For X509-SVIDs.
    pub x509: Vec<X509Authority>,
    /// For JWT-SVIDs.
    pub jwt: Vec<JwtAuthority>,
}

/// Authorities can't be appended.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotAppended {
    /// Tokens could no longer be told apart by their `kid`.
    #[error("another JWT authority has the key ID `{0}`")]
    KeyIdTaken(String),
    /// The bundle would hold too many.
    #[error("bundle would hold more than {max} authorities", max = Bundle::MAX_KEYS)]
    TooMany,
}

/// Appends authorities to the bundle for `actor`; those that it has already stay as they are.
///
/// # Errors
///
/// They can't be appended; nothing is changed.
pub fn append(draft: &mut Draft, theirs: Foreign, actor: &str) -> Result<(), NotAppended> {
    let mut authorities = (*draft.state().authorities).clone();
    let mut records = Vec::new();
    let (now, sequence) = (draft.now(), authorities.sequence + 1);
    for authority in theirs.x509 {
        if authorities
            .x509
            .iter()
            .any(|known| known.material == authority.material)
        {
            continue;
        }
        records.push(record("x509", &authority, actor));
        authorities.x509.push(X509Authority {
            published_at: now,
            published_sequence: sequence,
            ..authority
        });
    }
    for authority in theirs.jwt {
        let mut known = authorities.jwt.iter();
        match known.find(|known| known.authority_id == authority.authority_id) {
            Some(known) if known.material == authority.material => continue,
            Some(known) => return Err(NotAppended::KeyIdTaken(known.authority_id.clone())),
            None => {}
        }
        records.push(record("jwt", &authority, actor));
        authorities.jwt.push(JwtAuthority {
            published_at: now,
            published_sequence: sequence,
            ..authority
        });
    }
    if authorities.count() > Bundle::MAX_KEYS {
        return Err(NotAppended::TooMany);
    }
    if !records.is_empty() {
        authorities.sequence = sequence;
        records.into_iter().for_each(|record| draft.audit(record));
        draft.put_authorities(authorities);
    }
    Ok(())
}

fn record<M>(kind: &'static str, authority: &Authority<M>, actor: &str) -> Record {
    Record::new("authority_appended", &actor)
        .with("kind", &kind)
        .with("authority_id", &authority.authority_id)
        .with("expires_at", &authority.not_after)
}
