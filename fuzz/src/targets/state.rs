//! What server and agent read back from their disks: damage is refused, or found by a checksum.

use std::path::Path;

use agent::{
    sealed::{
        content::{Content, encode},
        file::Envelope,
    },
    state::KeptSvid,
    trust,
};
use plugin_api::SealedKey;
use server::{
    backup::{Part, Reader, Renewal, Renewed},
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
    let (key, value) = (parts.part(), parts.rest());
    let mut state = Snapshot::empty(example_org());
    let read = read_record(&mut state, key, value);
    let renewed = renew(&mut Renewal::new(example_org()), key, value);
    assert!(read.is_ok() || !renewed, "what can't be read is restored");
}

/// Whether a record of a backup is restored; then a server can read it.
fn renew(renewal: &mut Renewal, key: &[u8], value: &[u8]) -> bool {
    let Ok(Renewed::Kept(value)) = renewal.record(key, value.into()) else {
        return false;
    };
    let mut state = Snapshot::empty(example_org());
    let read = read_record(&mut state, key, &value);
    assert!(read.is_ok(), "a restored record can't be read");
    true
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

/// A backup file: it is read to its end, or refused; and each record becomes one that a server can read, or none.
pub fn backup(bytes: &[u8]) {
    let Ok((mut reader, _)) = Reader::open(bytes) else {
        return;
    };
    let mut renewal = Renewal::new(example_org());
    loop {
        let part = reader.next();
        assert!(reader.bytes() <= bytes.len() as u64);
        match part {
            Ok(Part::Record(record)) => {
                renew(&mut renewal, &record.key, &record.value);
            }
            Ok(Part::End(_)) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// The agent's SVID with its key.
pub fn kept_svid(bytes: &[u8]) {
    let Some(svid) = KeptSvid::parse(bytes) else {
        return;
    };
    let length: usize = svid.chain.iter().map(Vec::len).sum();
    assert!(length + svid.key.len() <= bytes.len());
}

/// The key of the files among the seeds.
pub const SEALED_KEY: [u8; 32] = [7; 32];

/// The file that an agent keeps over a restart, encrypted: it opens with its key, or not at all.
pub fn sealed_file(bytes: &[u8]) {
    let Ok(file) = Envelope::parse(bytes, &example_org()) else {
        return;
    };
    let key = SealedKey::new(SEALED_KEY);
    assert_eq!(&file.key().sealed.pcrs, file.key().sealing.pcrs());
    let Ok((content, sealed)) = file.open(&key) else {
        return;
    };
    assert!(content.len() < bytes.len());
    let again = sealed.close(&key, content.clone(), &example_org());
    let again = again.and_then(|again| Envelope::parse(&again, &example_org())?.open(&key));
    assert_eq!(again, Ok((content, sealed)), "it does not read back");
}

/// What is in it, decrypted.
pub fn sealed_content(bytes: &[u8]) {
    let Ok(content) = Content::decode(bytes, &example_org()) else {
        return;
    };
    let cache = &content.cache;
    let known = |id| cache.entries.contains_key(id);
    assert!(cache.svids.keys().all(known), "an SVID without an entry");
    let again = Content::decode(&encode(cache, content.written_at), &example_org());
    let again = again.unwrap_or_else(|error| panic!("it does not read back: {error}"));
    assert_eq!(again.written_at, content.written_at);
    assert_eq!(
        (&again.cache.bundle, &again.cache.entries, &again.cache.crls),
        (&cache.bundle, &cache.entries, &cache.crls)
    );
    assert_eq!(again.cache.svids.len(), cache.svids.len());
}

/// The roots that an operator gave to an agent, in PEM or as a JWK Set.
pub fn trust_bundle(bytes: &[u8]) {
    let Ok(bundle) = trust::parse(Path::new("bundle"), bytes, &example_org()) else {
        return;
    };
    assert!(!bundle.x509_authorities.is_empty());
    check_bundle(&bundle);
}

/// The file with the server's signing keys.
pub fn keys_file(bytes: &[u8]) {
    let keys = keys_disk::count(bytes);
    assert!(keys.is_err() || bytes.contains(&b'{'), "{keys:?}");
}

/// A file of entries, as an operator keeps it.
pub fn entry_list(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(count) = server::cli::count_listed_entries(text)
    {
        assert!(count <= bytes.len());
    }
}

/// A list of hosts, as an operator keeps it.
pub fn host_list(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(count) = server::cli::count_listed_hosts(text)
    {
        assert!(0 < count && count <= bytes.len());
    }
}
