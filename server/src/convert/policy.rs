//! Policies.

use std::collections::HashMap;

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

/// How the hosts that are held to each policy stand by what they showed last.
#[derive(Debug, Default)]
pub struct Tallies<'a>(HashMap<&'a PolicyName, Tally<'a>>);

#[derive(Debug, Default)]
struct Tally<'a> {
    hosts: u32,
    /// By generation: how many meet it, and how many do not.
    judged: HashMap<&'a str, (u32, u32)>,
}

impl<'a> Tallies<'a> {
    /// Counts the enrolled hosts of `snapshot`, in one pass.
    #[must_use]
    pub fn of(snapshot: &'a Snapshot) -> Self {
        let mut tallies = Self::default();
        for host in snapshot.hosts.after("").filter(|host| host.is_enrolled()) {
            let names = snapshot.policies.names_of(host);
            names.iter().for_each(|name| tallies.count(host, name));
        }
        tallies
    }

    fn count(&mut self, host: &'a Host, name: &'a PolicyName) {
        let tally = self.0.entry(name).or_default();
        tally.hosts = tally.hosts.saturating_add(1);
        let appraised = host.appraised.iter().flat_map(|appraised| &appraised.policies);
        let standings = appraised.filter(|standing| standing.name == *name);
        for judgement in standings.flat_map(|standing| &standing.judgements) {
            let (met, not_met) = tally.judged.entry(&judgement.generation).or_default();
            let counted = if judgement.is_met() { met } else { not_met };
            *counted = counted.saturating_add(1);
        }
    }

    fn hosts(&self, name: &PolicyName) -> u32 {
        self.0.get(name).map_or(0, |tally| tally.hosts)
    }

    fn judged(&self, name: &PolicyName, generation: &str) -> (u32, u32) {
        let tally = self.0.get(name);
        let judged = tally.and_then(|tally| tally.judged.get(generation));
        judged.copied().unwrap_or_default()
    }
}

/// Writes a policy, and how its hosts stand; with texts where they are wanted.
#[must_use]
pub fn policy_to_wire(policy: &StoredPolicy, tallies: &Tallies<'_>, with_text: bool) -> wire::Policy {
    let generation = |known: &StoredGeneration| {
        let id = known.generation.id().to_string();
        let (met_by, not_met_by) = tallies.judged(&policy.name, &id);
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
            met_by,
            not_met_by,
            id,
        }
    };
    wire::Policy {
        name: policy.name.to_string(),
        generations: policy.generations().iter().map(generation).collect(),
        newest_version: policy.newest_version,
        is_default: policy.is_default,
        hosts: tallies.hosts(&policy.name),
    }
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

/// Writes of whom too little is on record to tell whether they fall out by a change.
#[must_use]
pub fn unknown_to_wire(fall_out: &FallOut) -> Vec<wire::UnknownHost> {
    let hosts = fall_out.unknown_hosts.iter();
    let host = hosts.map(|(host, why)| wire::UnknownHost {
        host_id: host.id.as_ref().into(),
        host_name: host.name.clone(),
        missing: why.to_string(),
    });
    host.collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use attest::policy::{Generation, Policy, Stage};
    use svid::TrustDomain;

    use super::*;
    use crate::registry::full_host;

    fn stored(name: &str, is_default: bool) -> StoredPolicy {
        let text = format!("format = 1\nname = \"{name}\"\nversion = 1\n[ima]\n");
        let policy = Policy::parse(text.as_bytes()).unwrap();
        let generation = StoredGeneration {
            generation: Generation::new(policy, Stage::Staged),
            text: text.into(),
            since: Timestamp::NEVER,
            applied_at: Timestamp::NEVER,
            applied_by: String::new(),
            is_signed: false,
        };
        StoredPolicy::new(name.parse().unwrap(), 1, is_default, vec![generation]).unwrap()
    }

    /// A host with `policies` of its own, of which this differs from a generation of `judged`.
    fn host(id: &str, policies: &[&str], judged: Option<(&StoredPolicy, &[&str])>) -> Host {
        let standing = |(policy, differences): (&StoredPolicy, &[&str])| PolicyStanding {
            name: policy.name.clone(),
            since: Timestamp::NEVER,
            judgements: vec![PolicyJudgement {
                generation: policy.generations()[0].generation.id().to_string(),
                version: 1,
                is_enforced: false,
                differences: differences.iter().map(ToString::to_string).collect(),
                more: 0,
            }],
        };
        let mut appraised = full_host().appraised.unwrap();
        appraised.policies = judged.map(standing).into_iter().collect();
        Host {
            appraised: Some(appraised),
            policies: policies.iter().map(|name| name.parse().unwrap()).collect(),
            ..Host::enrolled(id.into(), Timestamp::NEVER)
        }
    }

    #[test]
    fn hosts_are_counted_where_they_are_held_to_a_policy() {
        let (base, own) = (stored("base", true), stored("own", false));
        let mut snapshot = Snapshot::empty(TrustDomain::parse("td").unwrap());
        let waiting = Host {
            enrolment: plugin_api::Enrolment::Pending {
                expires_at: Timestamp::NEVER,
            },
            ..host("waiting", &[], Some((&base, &[])))
        };
        for host in [
            host("met", &[], Some((&base, &[]))),
            host("not-met", &[], Some((&base, &["PCR 4"]))),
            host("silent", &[], None),
            host("of-its-own", &["own"], Some((&own, &[]))),
            // What it was held to before counts no more.
            host("moved", &["own"], Some((&base, &["PCR 4"]))),
            waiting,
        ] {
            snapshot.hosts.insert(Arc::new(host));
        }
        let policies = [base, own, stored("other", false)];
        policies
            .iter()
            .for_each(|policy| snapshot.policies.insert(policy.clone()));
        let tallies = Tallies::of(&snapshot);
        let counted = policies.map(|policy| {
            let wire = policy_to_wire(&policy, &tallies, false);
            (
                wire.hosts,
                wire.generations[0].met_by,
                wire.generations[0].not_met_by,
            )
        });
        assert_eq!(counted, [(3, 1, 1), (2, 1, 0), (0, 0, 0)]);
    }
}
