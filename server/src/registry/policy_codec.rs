//! Policies in the store, and the event logs that hosts are compared with them by.

use std::sync::Arc;

use attest::policy::{Generation, GenerationsError, Policy, PolicyError, PolicyName, Stage};
use plugin_api::{PolicyJudgement, PolicyStanding};
use prost::Message;
use proto::plastron::store::v1 as stored;
use svid::Timestamp;

use super::{CodecError, StoredGeneration, StoredPolicy};

pub(super) const POLICY: &[u8] = b"policy/";
pub(super) const EVENT_LOG: &[u8] = b"event_log/";

/// A policy in the store is none.
#[derive(Debug, thiserror::Error)]
pub enum PolicyCodecError {
    /// Generations that do not belong together.
    #[error(transparent)]
    Generations(#[from] GenerationsError),
    /// Its name.
    #[error("the key is no name of a policy")]
    Name,
    /// A text that is not understood.
    #[error(transparent)]
    Policy(Box<PolicyError>),
}

pub(super) fn policy_key(name: &PolicyName) -> Vec<u8> {
    [POLICY, name.as_str().as_bytes()].concat()
}

/// Where the event log with this SHA-256 is.
pub(super) fn event_log_key(sha256: &[u8; 32]) -> Vec<u8> {
    [EVENT_LOG, sha256].concat()
}

pub(super) fn encode_event_log(content: &[u8]) -> Vec<u8> {
    stored::EventLog {
        content: content.into(),
    }
    .encode_to_vec()
}

pub(super) fn decode_event_log(value: &[u8]) -> Result<Vec<u8>, CodecError> {
    Ok(stored::EventLog::decode(value)?.content)
}

pub(super) fn encode_policy(policy: &StoredPolicy) -> Vec<u8> {
    let generation = |known: &StoredGeneration| stored::PolicyGeneration {
        text: known.text.as_ref().into(),
        enforced: known.is_enforced(),
        since: known.since.as_unix(),
        applied_at: known.applied_at.as_unix(),
        applied_by: known.applied_by.clone(),
        signed: known.is_signed,
    };
    let record = stored::Policy {
        newest_version: policy.newest_version,
        is_default: policy.is_default,
        generations: policy.generations().iter().map(generation).collect(),
    };
    record.encode_to_vec()
}

pub(super) fn decode_policy(key: &[u8], value: &[u8]) -> Result<StoredPolicy, CodecError> {
    let name = key
        .strip_prefix(POLICY)
        .and_then(|name| str::from_utf8(name).ok());
    let name = name.and_then(|name| name.parse().ok());
    let name: PolicyName = name.ok_or(PolicyCodecError::Name)?;
    let record = stored::Policy::decode(value)?;
    let generations: Result<Vec<_>, _> = record.generations.into_iter().map(decode_generation).collect();
    let policy = StoredPolicy::new(name, record.newest_version, record.is_default, generations?);
    Ok(policy.map_err(PolicyCodecError::from)?)
}

fn decode_generation(record: stored::PolicyGeneration) -> Result<StoredGeneration, PolicyCodecError> {
    let policy =
        Policy::parse(record.text.as_bytes()).map_err(|error| PolicyCodecError::Policy(Box::new(error)))?;
    let stage = if record.enforced {
        Stage::Enforced
    } else {
        Stage::Staged
    };
    Ok(StoredGeneration {
        generation: Generation::new(policy, stage),
        text: Arc::from(record.text),
        since: Timestamp::from_unix(record.since),
        applied_at: Timestamp::from_unix(record.applied_at),
        applied_by: record.applied_by,
        is_signed: record.signed,
    })
}

pub(super) fn encode_standing(standing: &PolicyStanding) -> stored::PolicyStanding {
    let judgement = |judgement: &PolicyJudgement| stored::PolicyJudgement {
        generation: judgement.generation.clone(),
        version: judgement.version,
        enforced: judgement.is_enforced,
        differences: judgement.differences.clone(),
        more: judgement.more,
    };
    stored::PolicyStanding {
        name: standing.name.to_string(),
        since: standing.since.as_unix(),
        judgements: standing.judgements.iter().map(judgement).collect(),
    }
}

pub(super) fn decode_standing(record: stored::PolicyStanding) -> Result<PolicyStanding, CodecError> {
    let judgement = |judgement: stored::PolicyJudgement| PolicyJudgement {
        generation: judgement.generation,
        version: judgement.version,
        is_enforced: judgement.enforced,
        differences: judgement.differences,
        more: judgement.more,
    };
    Ok(PolicyStanding {
        name: decode_name(&record.name)?,
        since: Timestamp::from_unix(record.since),
        judgements: record.judgements.into_iter().map(judgement).collect(),
    })
}

pub(super) fn decode_name(text: &str) -> Result<PolicyName, CodecError> {
    Ok(text.parse().map_err(|_: PolicyError| PolicyCodecError::Name)?)
}
