//! Which key an authority gets: names of two slots in turn, as operators know them from SPIRE, and of further ones while
//! authorities follow each other faster than they end.

use std::{collections::BTreeSet, sync::Arc};

use svid::Timestamp;
use tokio::task::spawn_blocking;

use super::{Authorities, AuthorityState, Rotation, RotationError, authorities::Authority, steps::Kind};

impl Rotation {
    /// Destroys keys that no authority needs.
    pub(super) async fn discard_keys<K: Kind>(&self) -> Result<(), RotationError> {
        let authorities = Arc::clone(&self.registry.snapshot().authorities);
        let keys = Arc::clone(&self.keys);
        let now = self.clock.now();
        let discarded = spawn_blocking(move || {
            let needed = needed::<K>(&authorities, now);
            let kept = keys.keys()?.into_keys();
            let mut unneeded = kept.filter(|id| id.starts_with(K::KEYS) && !needed.contains(id.as_str()));
            unneeded.try_for_each(|id| keys.remove(&id))
        });
        Ok(discarded.await.map_err(|_| RotationError::Stopping)??)
    }
}

/// The first slot whose key nobody needs: `A`, `B`, and so on.
pub(super) fn free<K: Kind>(authorities: &Authorities, now: Timestamp) -> String {
    let needed = needed::<K>(authorities, now);
    let letters = ('A'..='Z').map(String::from);
    let mut slots = letters.chain((27..u32::MAX).map(|number| number.to_string()));
    let free = slots.find_map(|slot| {
        let id = format!("{}{slot}", K::KEYS);
        (!needed.contains(id.as_str())).then_some(id)
    });
    // There are more slots than authorities.
    free.unwrap_or_default()
}

fn needed<K: Kind>(authorities: &Authorities, now: Timestamp) -> BTreeSet<&str> {
    let own = K::of(authorities)
        .iter()
        .filter(|authority| needs_key(authority, now));
    own.map(|authority| authority.key_id.as_str()).collect()
}

/// An authority that is over signs nothing any more, CRLs neither: what it signed is over, too.
fn needs_key<K: Kind>(authority: &Authority<K>, now: Timestamp) -> bool {
    now < authority.not_after
        && match authority.state {
            AuthorityState::Active | AuthorityState::Prepared => true,
            AuthorityState::Foreign => false,
            AuthorityState::Old => K::KEY_OUTLIVES_SIGNING,
        }
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;
    use svid::x509::PublicKey;

    use super::*;
    use AuthorityState::{Active, Foreign, Old, Prepared};

    fn authority<M>(state: AuthorityState, key_id: &str, ends: i64, material: M) -> Authority<M> {
        Authority {
            key_id: key_id.into(),
            authority_id: String::new(),
            not_before: Timestamp::from_unix(0),
            not_after: Timestamp::from_unix(ends),
            published_at: Timestamp::from_unix(0),
            published_sequence: 0,
            state,
            tainted: false,
            material,
            upstream: None,
        }
    }

    fn check(taken: &[(AuthorityState, &str, i64)], expected: &str) {
        let x509 = taken
            .iter()
            .map(|(state, key, ends)| authority(*state, key, *ends, Vec::new().into()));
        let authorities = Authorities {
            x509: x509.collect(),
            ..Authorities::default()
        };
        let free = free::<CertificateDer<'static>>(&authorities, Timestamp::from_unix(50));
        assert_eq!(free, expected, "{taken:?}");
    }

    #[test]
    fn two_slots_take_turns() {
        check(&[], "x509-CA-A");
        check(&[(Active, "x509-CA-A", 100)], "x509-CA-B");
        check(&[(Old, "x509-CA-A", 50), (Active, "x509-CA-B", 100)], "x509-CA-A");
        check(&[(Foreign, "", 100)], "x509-CA-A");
    }

    #[test]
    fn the_key_of_one_whose_crl_may_grow_is_left_alone() {
        let (old, active) = ((Old, "x509-CA-A", 51), (Active, "x509-CA-B", 100));
        check(&[old, active], "x509-CA-C");
        check(&[old, active, (Prepared, "x509-CA-C", 100)], "x509-CA-D");
    }

    #[test]
    fn jwt_authorities_that_no_longer_sign_need_no_key() {
        let spki = rcgen::PublicKeyData::subject_public_key_info(&rcgen::KeyPair::generate().unwrap());
        let key = PublicKey::from_spki(&spki).unwrap();
        let authorities = Authorities {
            jwt: vec![
                authority(Old, "JWT-Signer-A", 100, key.clone()),
                authority(Active, "JWT-Signer-B", 100, key),
            ],
            ..Authorities::default()
        };
        let free = free::<PublicKey>(&authorities, Timestamp::from_unix(50));
        assert_eq!(free, "JWT-Signer-A");
    }
}
