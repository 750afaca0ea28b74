//! Endorsement keys, and the rows that have them.

use std::sync::Arc;

use plugin_api::{EnrolledEk, Host};

use super::AGENT_PATHS;
use crate::registry::Hosts;

/// Adds a key, or completes what is known of it.
pub(in crate::registry) fn learn(keys: &mut Vec<EnrolledEk>, new: EnrolledEk) {
    if !complete(keys, &new) {
        keys.push(new);
    }
}

/// Whether two say the same key: by its hash, or by its certificate.
pub(in crate::registry) fn is_same_key(one: &EnrolledEk, other: &EnrolledEk) -> bool {
    (one.hash.is_some() && one.hash == other.hash)
        || (one.certificate.is_some() && one.certificate == other.certificate)
}

/// Adds what is new of a key that is there; says whether it is.
pub(in crate::registry) fn complete(keys: &mut [EnrolledEk], new: &EnrolledEk) -> bool {
    let Some(known) = keys.iter_mut().find(|known| is_same_key(known, new)) else {
        return false;
    };
    known.hash = known.hash.or(new.hash);
    known.certificate = known.certificate.take().or_else(|| new.certificate.clone());
    known.is_certified |= new.is_certified;
    known.issuer_key = known.issuer_key.or(new.issuer_key);
    if new.attributes.is_some() {
        known.attributes.clone_from(&new.attributes);
    }
    known.name = known.name.take().or_else(|| new.name.clone());
    true
}

/// Path of the agent of a host with these keys, where nobody says another one.
pub(in crate::registry) fn path_of_first(keys: &[EnrolledEk]) -> Option<Arc<str>> {
    let first = keys.iter().find_map(|key| key.hash)?;
    Some(format!("{AGENT_PATHS}{first}").into())
}

/// The rows that have one of `keys`, each once.
pub(in crate::registry) fn rows_with(hosts: &Hosts, keys: &[EnrolledEk]) -> Vec<Arc<Host>> {
    let mut found: Vec<Arc<Host>> = Vec::new();
    for key in keys {
        let by_hash = key.hash.as_ref().and_then(|hash| hosts.with_ek(hash));
        let by_certificate = key.certificate.as_ref().and_then(|id| hosts.with_certificate(id));
        for host in [by_hash, by_certificate].into_iter().flatten() {
            if found.iter().all(|known| known.id != host.id) {
                found.push(Arc::clone(host));
            }
        }
    }
    found
}

/// What an endorsement key is called: by its hash, or by its certificate where that alone is known.
pub(in crate::registry) fn name_of_key(key: &EnrolledEk) -> String {
    let certificate = || key.certificate.as_ref().map(ToString::to_string);
    let hash = key.hash.map(|hash| hash.to_string());
    hash.or_else(certificate).unwrap_or_default()
}
