//! Policies.

use attest::{
    PcrSet,
    policy::{Difference, PolicyError, PolicyName},
};
use plugin_api::{Host, PolicyJudgement, PolicyStanding};
use proto::plastron::{host::v1 as host_wire, policy::v1 as wire};
use svid::Timestamp;

use crate::{
    appraisals::FallOut,
    registry::{Snapshot, StoredGeneration, StoredPolicy, policy_changes::Which},
};

/// A field of a request about policies is wrong.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PolicyFieldError {
    /// The name of a policy.
    #[error("`{0}` is no name of a policy: 1 to {max} of a-z, 0-9, `-`, `_`, `.`", max = PolicyName::MAX_LEN)]
    Name(String),
    /// There is no such PCR.
    #[error("pins: there is no PCR {0}")]
    Pin(u32),
}

/// Longest name that is repeated in an error.
const SHOWN: usize = 80;

/// Reads the name of a policy.
///
/// # Errors
///
/// It can't be one.
pub fn policy_name(text: &str) -> Result<PolicyName, PolicyFieldError> {
    let none = |_: PolicyError| PolicyFieldError::Name(text.chars().take(SHOWN).collect());
    text.parse().map_err(none)
}

/// Reads names of policies: each once, sorted.
///
/// # Errors
///
/// One of them can't be one.
pub fn policy_names(names: &[String]) -> Result<Vec<PolicyName>, PolicyFieldError> {
    let names: Result<std::collections::BTreeSet<_>, _> =
        names.iter().map(|name| policy_name(name)).collect();
    Ok(names?.into_iter().collect())
}

/// Reads which generation is meant.
///
/// # Errors
///
/// The policy's name can't be one.
pub fn which(name: &str, generation: &str) -> Result<Which, PolicyFieldError> {
    Ok(Which {
        name: policy_name(name)?,
        generation: generation.to_ascii_lowercase(),
    })
}

/// Reads which PCRs are to be pinned; `None` for those that are usual.
///
/// # Errors
///
/// There is no such PCR.
pub fn pins(pins: &[u32]) -> Result<Option<PcrSet>, PolicyFieldError> {
    let read = |pin: &u32| {
        let index = u8::try_from(*pin).ok().filter(|index| *index < PcrSet::COUNT);
        index.ok_or(PolicyFieldError::Pin(*pin))
    };
    let read: Result<PcrSet, _> = pins.iter().map(read).collect();
    Ok(Some(read?).filter(|_| !pins.is_empty()))
}

/// Writes a policy, and how its hosts stand; with texts where they are wanted.
#[must_use]
pub fn policy_to_wire(snapshot: &Snapshot, policy: &StoredPolicy, with_text: bool) -> wire::Policy {
    let hosts = || {
        let all = snapshot.hosts.after("");
        all.filter(|host| host.is_enrolled() && snapshot.policies.is_held_to(host, &policy.name))
    };
    let generation = |known: &StoredGeneration| {
        let id = known.generation.id().to_string();
        let judged = |is_met: bool| {
            let judgements = hosts().filter_map(|host| judgement(host, &policy.name, &id));
            count(judgements.filter(|judgement| judgement.is_met() == is_met))
        };
        wire::Generation {
            version: known.version(),
            stage: if known.is_enforced() {
                wire::Stage::Enforced
            } else {
                wire::Stage::Staged
            }
            .into(),
            since: known.since.as_unix(),
            applied_at: known.applied_at.as_unix(),
            applied_by: known.applied_by.clone(),
            is_signed: known.is_signed,
            text: if with_text {
                known.text.as_ref().into()
            } else {
                String::new()
            },
            met_by: judged(true),
            not_met_by: judged(false),
            id,
        }
    };
    wire::Policy {
        name: policy.name.to_string(),
        generations: policy.generations().iter().map(generation).collect(),
        newest_version: policy.newest_version,
        is_default: policy.is_default,
        hosts: count(hosts()),
    }
}

fn judgement<'a>(host: &'a Host, name: &PolicyName, generation: &str) -> Option<&'a PolicyJudgement> {
    let standings = &host.appraised.as_ref()?.policies;
    let standing = standings.iter().find(|standing| standing.name == *name)?;
    let mut judgements = standing.judgements.iter();
    judgements.find(|judgement| judgement.generation == generation)
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

/// Writes what became of a host under a policy.
#[must_use]
pub fn standing_to_wire(standing: &PolicyStanding) -> host_wire::Appraisal {
    let judgement = |judgement: &PolicyJudgement| host_wire::Judgement {
        generation: judgement.generation.clone(),
        version: judgement.version,
        is_enforced: judgement.is_enforced,
        differences: judgement.differences.clone(),
        more: judgement.more,
    };
    host_wire::Appraisal {
        policy: standing.name.to_string(),
        since: Timestamp::as_unix(standing.since),
        is_met: standing.is_met(),
        judgements: standing.judgements.iter().map(judgement).collect(),
    }
}

/// Writes what differs from a policy.
#[must_use]
pub fn difference_to_wire(difference: &Difference) -> wire::Difference {
    wire::Difference {
        code: difference.kind.code().into(),
        subject: difference.subject.clone(),
        expected: difference.expected.clone(),
        found: difference.found.clone(),
        place: difference.event.map(|place| wire::Place {
            event: place.index,
            pcr: place.pcr.into(),
        }),
        text: difference.to_string(),
    }
}

/// Writes who falls out by a change.
#[must_use]
pub fn fall_out_to_wire(fall_out: &FallOut) -> Vec<wire::FallOut> {
    let hosts = fall_out.hosts.iter();
    let host = hosts.map(|(host, not_met)| wire::FallOut {
        host_id: host.id.as_ref().into(),
        host_name: host.name.clone(),
        difference: not_met.to_string(),
    });
    host.collect()
}
