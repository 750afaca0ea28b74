//! What the file holds: between the agent's state and a message.

use std::sync::Arc;

use prost::Message;
use proto::{
    plastron::agent::v1::{SealedState, SealedSvid},
    spire::api::types,
};
use svid::{Bundle, DnsName, DnsNameError, Roots, SpiffeId, SpiffeIdError, Timestamp, TrustDomain};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    cache::{Cache, CachedEntry, EntryError},
    wire::{self, UnusableBundle},
    workload_svid::WorkloadSvid,
};

/// What a file held.
#[derive(Clone, Debug)]
pub struct Content {
    /// When it was written.
    pub written_at: Timestamp,
    /// The state.
    pub cache: Cache,
}

/// What is in a file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The bundle is unusable.
    #[error(transparent)]
    Bundle(#[from] UnusableBundle),
    /// A DNS name is unusable.
    #[error("DNS name is not usable")]
    DnsName(#[from] DnsNameError),
    /// An entry is unusable.
    #[error("entry is not usable")]
    Entry(#[from] EntryError),
    /// A SPIFFE ID is unusable.
    #[error("SPIFFE ID is not usable")]
    Id(#[from] SpiffeIdError),
    /// It is no such message.
    #[error("it can't be decoded")]
    Malformed(#[from] prost::DecodeError),
    /// There is no bundle.
    #[error("it has no bundle")]
    NoBundle,
    /// An SVID is that of no entry, or names something else.
    #[error("an SVID in it belongs to no entry")]
    Stray,
}

impl Content {
    /// Reads what [`encode`] wrote.
    ///
    /// # Errors
    ///
    /// It is not that.
    pub fn decode(bytes: &[u8], trust_domain: &TrustDomain) -> Result<Self, ContentError> {
        let state = SealedState::decode(bytes)?;
        let bundle = wire::bundle(state.bundle.ok_or(ContentError::NoBundle)?, trust_domain)?;
        let mut cache = Cache {
            roots: Arc::new(Roots::of(&bundle)),
            bundle: Some(Arc::new(bundle)),
            crls: state.crls.into(),
            ..Cache::default()
        };
        for entry in state.entries {
            let entry = CachedEntry::try_from(entry)?;
            cache.entries.insert(Arc::clone(&entry.id), Arc::new(entry));
        }
        for kept in state.svids {
            let id: Arc<str> = kept.entry_id.as_str().into();
            let svid = svid(kept)?;
            let entry = cache.entries.get(&id).filter(|entry| svid.is_of(entry));
            entry.ok_or(ContentError::Stray)?;
            cache.svids.insert(id, Arc::new(svid));
        }
        Ok(Self {
            written_at: Timestamp::from_unix(state.written_at),
            cache,
        })
    }
}

/// The state, as it is encrypted.
#[must_use]
pub fn encode(cache: &Cache, now: Timestamp) -> Zeroizing<Vec<u8>> {
    let svids = cache.svids.iter();
    let mut state = SealedState {
        written_at: now.as_unix(),
        bundle: cache.bundle.as_deref().map(bundle),
        crls: cache.crls.to_vec(),
        entries: cache.entries.values().map(|kept| entry(kept)).collect(),
        svids: svids.map(|(id, svid)| kept(id, svid)).collect(),
    };
    let encoded = Zeroizing::new(state.encode_to_vec());
    for svid in &mut state.svids {
        svid.key.zeroize();
    }
    encoded
}

fn svid(kept: SealedSvid) -> Result<WorkloadSvid, ContentError> {
    let key = Zeroizing::new(kept.key);
    let dns_names = kept.dns_names.iter().map(|name| name.parse());
    Ok(WorkloadSvid {
        spiffe_id: SpiffeId::parse(&kept.spiffe_id)?,
        dns_names: dns_names.collect::<Result<_, _>>()?,
        chain: kept.chain,
        key,
        not_before: Timestamp::from_unix(kept.not_before),
        not_after: Timestamp::from_unix(kept.not_after),
        renew_at: Timestamp::from_unix(kept.renew_at),
        signed_by: Some(kept.signed_by).filter(|key| !key.is_empty()),
        revision: kept.revision,
    })
}

fn kept(entry_id: &str, svid: &WorkloadSvid) -> SealedSvid {
    let WorkloadSvid {
        spiffe_id,
        dns_names,
        chain,
        key,
        not_before,
        not_after,
        renew_at,
        signed_by,
        revision,
    } = svid;
    SealedSvid {
        entry_id: entry_id.into(),
        spiffe_id: spiffe_id.to_string(),
        dns_names: texts(dns_names),
        chain: chain.clone(),
        key: key.to_vec(),
        not_before: not_before.as_unix(),
        not_after: not_after.as_unix(),
        renew_at: renew_at.as_unix(),
        signed_by: signed_by.clone().unwrap_or_default(),
        revision: *revision,
    }
}

fn entry(kept: &CachedEntry) -> types::Entry {
    let CachedEntry {
        id,
        spiffe_id,
        dns_names,
        selectors,
        revision,
        created_at,
        hint,
        on_demand,
        is_for_store,
    } = kept;
    let attributes = types::entry::AdditionalAttributes {
        disable_x509_svid_prefetch: *on_demand,
        ..types::entry::AdditionalAttributes::default()
    };
    let selectors = selectors.iter().map(|selector| types::Selector {
        r#type: selector.kind().into(),
        value: selector.value().into(),
    });
    types::Entry {
        id: id.as_ref().into(),
        spiffe_id: Some(types::Spiffeid {
            trust_domain: spiffe_id.trust_domain().as_str().into(),
            path: spiffe_id.path().into(),
        }),
        dns_names: texts(dns_names),
        selectors: selectors.collect(),
        revision_number: *revision,
        created_at: *created_at,
        hint: hint.clone(),
        additional_attributes: Some(attributes),
        store_svid: *is_for_store,
        ..types::Entry::default()
    }
}

fn bundle(kept: &Bundle) -> types::Bundle {
    let roots = kept.x509_authorities.iter().map(|root| types::X509Certificate {
        asn1: root.certificate.to_vec(),
        tainted: root.tainted,
    });
    let keys = kept.jwt_authorities.iter().map(|key| types::JwtKey {
        public_key: key.public_key.clone(),
        key_id: key.key_id.clone(),
        expires_at: key.expires_at.map(Timestamp::as_unix).unwrap_or_default(),
        tainted: key.tainted,
    });
    let hint = kept.refresh_hint.map(|hint| hint.as_secs()).unwrap_or_default();
    types::Bundle {
        trust_domain: kept.trust_domain.as_str().into(),
        x509_authorities: roots.collect(),
        jwt_authorities: keys.collect(),
        refresh_hint: i64::try_from(hint).unwrap_or(i64::MAX),
        sequence_number: kept.sequence,
        ..types::Bundle::default()
    }
}

fn texts(names: &[DnsName]) -> Vec<String> {
    names.iter().map(DnsName::to_string).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proto::bytes::Bytes;
    use svid::{JwtAuthority, X509Authority};

    use super::*;
    use crate::cache::testing;

    fn td() -> TrustDomain {
        TrustDomain::parse("td").unwrap()
    }

    fn state() -> Cache {
        let key = rcgen::KeyPair::generate().unwrap();
        let root = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        let bundle = Bundle {
            x509_authorities: vec![X509Authority {
                certificate: root.der().clone(),
                tainted: true,
            }],
            jwt_authorities: vec![JwtAuthority {
                key_id: "kid".into(),
                public_key: vec![1],
                expires_at: Some(Timestamp::from_unix(9)),
                tainted: false,
            }],
            refresh_hint: Some(Duration::from_secs(7)),
            sequence: 3,
            ..Bundle::empty(td())
        };
        let entry = CachedEntry {
            dns_names: ["a.test".parse().unwrap()].into(),
            revision: 2,
            created_at: 4,
            hint: "h".into(),
            on_demand: true,
            ..testing::entry("a", "/a")
        };
        let lazy = CachedEntry {
            is_for_store: true,
            ..testing::entry("b", "/b")
        };
        let svid = WorkloadSvid {
            chain: Bytes::from_static(b"chain"),
            key: Zeroizing::new(b"key".to_vec()),
            not_before: Timestamp::from_unix(10),
            not_after: Timestamp::from_unix(30),
            renew_at: Timestamp::from_unix(20),
            signed_by: Some(vec![5]),
            revision: 1,
            ..testing::svid(&entry)
        };
        Cache {
            roots: Arc::new(Roots::of(&bundle)),
            bundle: Some(Arc::new(bundle)),
            crls: [Bytes::from_static(b"crl")].into(),
            entries: [("a".into(), Arc::new(entry)), ("b".into(), Arc::new(lazy))].into(),
            svids: [("a".into(), Arc::new(svid))].into(),
            ..Cache::default()
        }
    }

    #[test]
    fn what_is_kept_comes_back() {
        let kept = state();
        let read = Content::decode(&encode(&kept, Timestamp::from_unix(15)), &td()).unwrap();
        assert_eq!(read.written_at, Timestamp::from_unix(15));
        let cache = read.cache;
        assert_eq!(cache.bundle, kept.bundle);
        assert_eq!(cache.roots, kept.roots);
        assert_eq!(cache.crls, kept.crls);
        assert_eq!(cache.entries, kept.entries);
        assert_eq!(cache.svids.len(), 1);
        // As messages, which have every field.
        let svids = |cache: &Cache| super::kept("a", cache.svids.get("a").unwrap());
        assert_eq!(svids(&cache), svids(&kept));
        assert_eq!(svids(&cache).key, b"key");
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let check = |change: fn(&mut SealedState), expected: &str| {
            let mut state = SealedState::decode(encode(&state(), Timestamp::NEVER).as_slice()).unwrap();
            change(&mut state);
            let refused = Content::decode(&state.encode_to_vec(), &td()).unwrap_err();
            assert!(refused.to_string().contains(expected), "{refused}");
        };
        check(|state| state.bundle = None, "no bundle");
        check(
            |state| state.bundle.as_mut().unwrap().trust_domain = "other".into(),
            "trust domain `other`",
        );
        check(|state| drop(state.entries.remove(0)), "belongs to no entry");
        check(
            |state| state.svids[0].spiffe_id = "spiffe://td/other".into(),
            "belongs to no entry",
        );
        check(|state| state.svids[0].dns_names.clear(), "belongs to no entry");
        check(|state| state.svids[0].spiffe_id = "none".into(), "SPIFFE ID");
        check(|state| state.entries[0].spiffe_id = None, "entry");
        assert!(Content::decode(b"\xff", &td()).is_err());
    }
}
