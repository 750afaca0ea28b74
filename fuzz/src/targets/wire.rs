//! Messages on the wire, and what becomes of them at the door.

use agent::cache::CachedEntry;
use plugin_api::EnrolledEk;
use prost::Message;
use proto::{plastron::host::v1::NewHost, spire::api::types};
use server::convert;
use svid::{Timestamp, TrustDomain};

use super::{example_org, svid::check_bundle};

/// A protobuf message: what was decoded encodes, and decodes to the same.
pub fn message<M: Message + Default + PartialEq>(bytes: &[u8]) {
    if let Some(message) = decode::<M>(bytes) {
        let again = M::decode(&*message.encode_to_vec());
        assert!(
            again.is_ok_and(|again| again == message),
            "encoded, it is another message"
        );
    }
}

fn decode<M: Message + Default>(bytes: &[u8]) -> Option<M> {
    M::decode(bytes).ok()
}

/// An entry that an administrator sends to the server.
pub fn server_entry(bytes: &[u8]) {
    let Some(wire) = decode::<types::Entry>(bytes) else {
        return;
    };
    let ours = example_org();
    let Ok(entry) = convert::entry_from_store(&ours, &wire) else {
        return;
    };
    let printed = convert::entry_to_wire(&ours, &entry);
    let again = convert::entry_from_store(&ours, &printed);
    assert!(
        again.is_ok_and(|again| convert::entry_to_wire(&ours, &again) == printed),
        "it does not read back"
    );
}

/// A host that an administrator enrols.
pub fn new_host(bytes: &[u8]) {
    let Some(wire) = decode::<NewHost>(bytes) else {
        return;
    };
    if let Ok(host) = convert::new_host_from_wire("id".into(), &example_org(), wire) {
        let is_known = |key: &EnrolledEk| key.hash.is_some() || key.certificate.is_some();
        assert!(!host.endorsement_keys.is_empty() && host.endorsement_keys.iter().all(is_known));
    }
}

/// An entry that the server sends to an agent.
pub fn agent_entry(bytes: &[u8]) {
    let Some(wire) = decode::<types::Entry>(bytes) else {
        return;
    };
    let Ok(entry) = CachedEntry::try_from(wire) else {
        return;
    };
    assert!(entry.selectors.is_subset(&entry.selectors));
}

/// The time that a caller filters agents by: printed in UTC, it reads back.
pub fn go_time(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let Some(time) = server::api::go_time(text) else {
        return;
    };
    if time < Timestamp::default() {
        return;
    }
    // A timestamp prints as RFC 3339, which has no years before Christ.
    let printed = time.to_string().replace('T', " ").replace('Z', " +0000 +00");
    assert_eq!(server::api::go_time(&printed), Some(time), "{printed}");
}

/// A bundle that the server sends to an agent.
pub fn agent_bundle(bytes: &[u8]) {
    let Some(wire) = decode::<types::Bundle>(bytes) else {
        return;
    };
    let Ok(trust_domain) = TrustDomain::parse(&wire.trust_domain) else {
        return;
    };
    let Ok(bundle) = agent::wire::bundle(wire, &trust_domain) else {
        return;
    };
    check_bundle(&bundle);
}

/// What a load balancer says in front of a connection: no more than one address comes of it, and never of a part.
pub fn proxy_header(bytes: &[u8]) {
    if let Ok(Some(_)) = server::api::read_header(bytes) {
        let cut = bytes.split_last().map_or(bytes, |(_, rest)| rest);
        assert!(
            server::api::read_header(cut).is_err(),
            "a part of a header was read"
        );
    }
}
