//! Keys and values of the registry's records in the store.

use std::sync::Arc;

use prost::Message;
use proto::{plastron::store::v1 as stored, spire::api::types};
use svid::{Selector, SelectorError, Timestamp, TrustDomain, x509::SerialNumber};

use super::{
    Agent, AgentSvid, JoinToken, LoadError, PolicyCodecError, Snapshot, TokenHash, host_codec, policy_codec,
    revocation_codec,
};
use crate::{
    ca::{self, Authorities},
    convert::{self, EntryFieldError},
    registry::Entry,
    store::Store,
};

pub(super) const AUTHORITIES: &[u8] = b"authorities";
const ENTRY: &[u8] = b"entry/";
const AGENT: &[u8] = b"agent/";
const TOKEN: &[u8] = b"token/";

/// A record can't be understood.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// It is not protobuf of its kind.
    #[error("not a message of its kind")]
    Decode(#[from] prost::DecodeError),
    /// A field of an entry is wrong.
    #[error(transparent)]
    Entry(#[from] EntryFieldError),
    /// A field is missing.
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    /// A policy is wrong.
    #[error(transparent)]
    Policy(#[from] PolicyCodecError),
    /// A selector is wrong.
    #[error(transparent)]
    Selector(#[from] SelectorError),
    /// A part of a host's evidence is wrong.
    #[error(transparent)]
    Tpm(#[from] attest::wire::WireError),
}

/// Reads everything.
pub(super) fn load(store: &Store, trust_domain: TrustDomain) -> Result<Snapshot, LoadError> {
    let mut state = Snapshot::empty(trust_domain);
    state.revision = store.revision();
    let prefixes = [
        ENTRY,
        AGENT,
        host_codec::PREFIX,
        policy_codec::POLICY,
        TOKEN,
        AUTHORITIES,
        revocation_codec::CRL,
        revocation_codec::WITHDRAWAL,
    ];
    for prefix in prefixes {
        store.scan(prefix, |key, value| {
            read_record(&mut state, key, value).map_err(|source| LoadError::Record {
                key: key.escape_ascii().to_string(),
                source,
            })
        })?;
    }
    Ok(state)
}

/// Kinds of record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// An agent.
    Agent,
    /// The authorities.
    Authorities,
    /// The CRL of an authority.
    Crl,
    /// An entry.
    Entry,
    /// An event log of hosts.
    EventLog,
    /// A host.
    Host,
    /// A policy.
    Policy,
    /// A join token.
    Token,
    /// An agent that lost its standing.
    Withdrawal,
}

/// Which kind of record has this key, if the registry knows it.
#[must_use]
pub fn kind(key: &[u8]) -> Option<Kind> {
    let prefixes = [
        (AGENT, Kind::Agent),
        (AUTHORITIES, Kind::Authorities),
        (revocation_codec::CRL, Kind::Crl),
        (ENTRY, Kind::Entry),
        (policy_codec::EVENT_LOG, Kind::EventLog),
        (host_codec::PREFIX, Kind::Host),
        (policy_codec::POLICY, Kind::Policy),
        (TOKEN, Kind::Token),
        (revocation_codec::WITHDRAWAL, Kind::Withdrawal),
    ];
    let found = prefixes.into_iter().find(|(prefix, _)| key.starts_with(prefix));
    found.map(|(_, kind)| kind)
}

/// Reads a record of the store into `state`. Keys of no known kind are left out.
///
/// # Errors
///
/// The value is none of its key's kind.
pub fn read_record(state: &mut Snapshot, key: &[u8], value: &[u8]) -> Result<(), CodecError> {
    match kind(key) {
        Some(Kind::Agent) => {
            let agent = decode_agent(value)?;
            state.agents.insert(Arc::clone(&agent.path), Arc::new(agent));
        }
        Some(Kind::Authorities) => state.authorities = Arc::new(ca::decode(value)?),
        Some(Kind::Crl) => {
            let id = revocation_codec::name(key, revocation_codec::CRL)?;
            let crl = revocation_codec::decode_crl(value)?;
            state.crls.insert(id, Arc::new(crl));
        }
        Some(Kind::Entry) => {
            let entry = decode_entry(&state.trust_domain, value)?;
            let entry = state.entries.shared(entry);
            state.entries.insert(entry);
        }
        // They are read when they are wanted: together they are long.
        Some(Kind::EventLog) => drop(policy_codec::decode_event_log(value)?),
        Some(Kind::Policy) => state.policies.insert(policy_codec::decode_policy(key, value)?),
        Some(Kind::Host) => state.hosts.insert(Arc::new(host_codec::decode_host(value)?)),
        Some(Kind::Token) => {
            let suffix = key.strip_prefix(TOKEN).and_then(<[u8]>::first_chunk);
            let hash = suffix.ok_or(CodecError::Missing("token hash"))?;
            state.tokens.insert(TokenHash(*hash), decode_token(value)?);
        }
        Some(Kind::Withdrawal) => {
            let path = revocation_codec::name(key, revocation_codec::WITHDRAWAL)?;
            let withdrawal = revocation_codec::decode_withdrawal(value)?;
            state.withdrawals.insert(path, withdrawal);
        }
        None => {}
    }
    Ok(())
}

pub(super) fn entry_key(id: &str) -> Vec<u8> {
    [ENTRY, id.as_bytes()].concat()
}

pub(super) fn encode_entry(trust_domain: &TrustDomain, entry: &Entry) -> Vec<u8> {
    let entry = convert::entry_to_wire(trust_domain, entry);
    stored::Entry { entry: Some(entry) }.encode_to_vec()
}

fn decode_entry(trust_domain: &TrustDomain, value: &[u8]) -> Result<Entry, CodecError> {
    let entry = stored::Entry::decode(value)?
        .entry
        .ok_or(CodecError::Missing("entry"))?;
    Ok(convert::entry_from_store(trust_domain, &entry)?)
}

pub(super) fn agent_key(path: &str) -> Vec<u8> {
    [AGENT, path.as_bytes()].concat()
}

pub(super) fn encode_agent(agent: &Agent) -> Vec<u8> {
    let svid = |svid: &AgentSvid| stored::AgentSvid {
        serial: svid.serial.as_bytes().into(),
        not_after: svid.not_after.as_unix(),
    };
    let record = stored::Agent {
        path: agent.path.as_ref().into(),
        attestation_type: agent.attestation_type.clone(),
        current: Some(svid(&agent.current)),
        next: agent.next.as_ref().map(svid),
        banned: agent.banned,
        can_reattest: agent.can_reattest,
        selectors: convert::selectors_to_wire(&agent.selectors),
        agent_version: agent.version.clone(),
        attested_at: agent.attested_at.as_unix(),
        host_id: agent
            .host
            .as_ref()
            .map(|id| id.as_ref().into())
            .unwrap_or_default(),
    };
    record.encode_to_vec()
}

fn decode_agent(value: &[u8]) -> Result<Agent, CodecError> {
    let record = stored::Agent::decode(value)?;
    let svid = |svid: stored::AgentSvid| AgentSvid {
        serial: SerialNumber::from_bytes(&svid.serial),
        not_after: Timestamp::from_unix(svid.not_after),
    };
    let selector = |selector: &types::Selector| Selector::new(&selector.r#type, &selector.value);
    Ok(Agent {
        path: record.path.into(),
        attestation_type: record.attestation_type,
        current: record.current.map(svid).ok_or(CodecError::Missing("current"))?,
        next: record.next.map(svid),
        banned: record.banned,
        can_reattest: record.can_reattest,
        selectors: record.selectors.iter().map(selector).collect::<Result<_, _>>()?,
        version: record.agent_version,
        host: (!record.host_id.is_empty()).then(|| record.host_id.into()),
        attested_at: Timestamp::from_unix(record.attested_at),
    })
}

pub(super) fn token_key(hash: &TokenHash) -> Vec<u8> {
    [TOKEN, &hash.0].concat()
}

pub(super) fn encode_token(token: JoinToken) -> Vec<u8> {
    stored::JoinToken {
        expires_at: token.expires_at.as_unix(),
    }
    .encode_to_vec()
}

fn decode_token(value: &[u8]) -> Result<JoinToken, CodecError> {
    let record = stored::JoinToken::decode(value)?;
    Ok(JoinToken {
        expires_at: Timestamp::from_unix(record.expires_at),
    })
}

pub(super) fn encode_authorities(authorities: &Authorities) -> Vec<u8> {
    ca::encode(authorities)
}
