//! What server and agent read back from their disks: damage is refused, or found by a checksum.

use std::path::Path;

use agent::{state::KeptSvid, trust};
use server::{
    ca, journal,
    registry::{Snapshot, read_record},
    store::frame,
};

use super::{example_org, svid::check_bundle};
use crate::parts::Parts;

/// The frame around a value of the store: key, framed value.
pub fn frame(bytes: &[u8]) {
    let mut parts = Parts::new(bytes);
    let (key, framed) = (parts.part(), parts.rest());
    if let Ok(value) = frame::open(key, framed) {
        assert_eq!(frame::close(key, value), framed);
    }
    let closed = frame::close(key, framed);
    assert_eq!(frame::open(key, &closed), Ok(framed));
}

/// A record of the store: key, value.
pub fn record(bytes: &[u8]) {
    let mut parts = Parts::new(bytes);
    let mut state = Snapshot::empty(example_org());
    let _malformed = read_record(&mut state, parts.part(), parts.rest());
}

/// The record of the authorities.
pub fn authorities(bytes: &[u8]) {
    let Ok(authorities) = ca::decode(bytes) else {
        return;
    };
    let encoded = ca::encode(&authorities);
    let again = ca::decode(&encoded).map(|again| ca::encode(&again));
    assert!(again.is_ok_and(|again| again == encoded), "it does not read back");
}

/// A file of the audit trail.
pub fn journal(bytes: &[u8]) {
    let path = Path::new("00000000000000000001.journal");
    let Ok(end) = journal::end_of_chain(path, bytes) else {
        return;
    };
    let kept = bytes
        .get(..end)
        .unwrap_or_else(|| panic!("it ends at {end} of {}", bytes.len()));
    assert_eq!(
        journal::end_of_chain(path, kept).ok(),
        Some(end),
        "what is kept is whole"
    );
}

/// The agent's SVID with its key.
pub fn kept_svid(bytes: &[u8]) {
    let Some(svid) = KeptSvid::parse(bytes) else {
        return;
    };
    let length: usize = svid.chain.iter().map(Vec::len).sum();
    assert!(length + svid.key.len() <= bytes.len());
}

/// The roots that an operator gave to an agent, in PEM or as a JWK Set.
pub fn trust_bundle(bytes: &[u8]) {
    let Ok(bundle) = trust::parse(Path::new("bundle"), bytes, &example_org()) else {
        return;
    };
    assert!(!bundle.x509_authorities.is_empty());
    check_bundle(&bundle);
}
