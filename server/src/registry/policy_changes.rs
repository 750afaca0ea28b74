//! The changes of policies: what an operator wants becomes the policies as they will be, or is refused.

mod refused;

use std::sync::Arc;

use attest::policy::{Change, Generation, Policy, PolicyName, Stage, diff};
use plugin_api::{Host, HostPolicies};
use svid::Timestamp;

use super::{Draft, Policies, StoredGeneration, StoredPolicy};
use crate::journal::Record;
pub use refused::PolicyRefused;

/// What an operator wants.
#[derive(Clone, Debug)]
pub enum PolicyOrder {
    /// Hosts that have no policies of their own are held to these, and to no others.
    Default(Vec<PolicyName>),
    /// A generation is enforced.
    Promote {
        /// Which one.
        which: Which,
        /// Whether those that were enforced before are forgotten.
        retires_others: bool,
    },
    /// A generation, or all of a policy, is forgotten.
    Retire(Which),
    /// A generation is watched again.
    Stage(Which),
}

/// A generation of a policy.
#[derive(Clone, Debug)]
pub struct Which {
    /// The policy.
    pub name: PolicyName,
    /// How the generation's identifier begins; empty where only one can be meant.
    pub generation: String,
}

/// A policy that is to be stored.
#[derive(Clone, Debug)]
pub struct NewPolicy {
    /// What it says.
    pub policy: Policy,
    /// As it was written.
    pub text: String,
    /// Whether a configured key signed it.
    pub is_signed: bool,
}

/// What changes from the newest generation in use.
fn changes(known: Option<&StoredPolicy>, policy: &Policy) -> Vec<String> {
    let newest = known.and_then(StoredPolicy::newest);
    let changes = newest.map(|newest| diff(&newest.generation.policy, policy));
    changes
        .into_iter()
        .flatten()
        .map(|change: Change| change.to_string())
        .collect()
}

/// Stores a policy for `actor`, as a staged generation. Answers with what changes.
///
/// # Errors
///
/// It is not newer than what is known, or there is no room.
pub fn apply(
    draft: &mut Draft,
    new: NewPolicy,
    actor: &str,
) -> Result<(StoredPolicy, Vec<String>), PolicyRefused> {
    let policies = &draft.state().policies;
    let name = new.policy.name.clone();
    let known = policies.get(&name).map(|known| (**known).clone());
    if known.is_none() && policies.len() >= Policies::MAX {
        let max = Policies::MAX;
        return Err(PolicyRefused::TooMany {
            what: "the server",
            max,
        });
    }
    let changes = changes(known.as_ref(), &new.policy);
    let version = new.policy.version;
    let newest = known.as_ref().map_or(0, |known| known.newest_version);
    if known.is_some() && version <= newest {
        let found = version;
        return Err(PolicyRefused::NotNewer {
            name,
            found,
            newest,
            changes,
        });
    }
    let stored = StoredGeneration {
        generation: Generation::new(new.policy, Stage::Staged),
        text: new.text.into(),
        since: draft.now(),
        applied_at: draft.now(),
        applied_by: actor.into(),
        is_signed: new.is_signed,
    };
    let is_default = known.as_ref().is_some_and(|known| known.is_default);
    let mut generations = known.map_or_else(Vec::new, |known| known.generations().to_vec());
    let record = record("policy_applied", &stored, actor).with("signed", &new.is_signed);
    generations.push(stored);
    let policy = StoredPolicy::new(name, version, is_default, generations)?;
    draft.audit(record);
    draft.put_policy(policy.clone());
    Ok((policy, changes))
}

/// Carries out an order for `actor`. Answers with the policies that it changed.
///
/// # Errors
///
/// It makes no sense; nothing is changed.
pub fn order(draft: &mut Draft, order: &PolicyOrder, actor: &str) -> Result<Vec<PolicyName>, PolicyRefused> {
    let (changed, records) = planned(&draft.state().policies, order, draft.now(), actor)?;
    records.into_iter().for_each(|record| draft.audit(record));
    let names = changed.iter().map(|policy| policy.name.clone()).collect();
    changed.into_iter().for_each(|policy| draft.put_policy(policy));
    Ok(names)
}

/// The policies as they would be.
///
/// # Errors
///
/// The order makes no sense.
pub fn foreseen(policies: &Policies, order: &PolicyOrder, now: Timestamp) -> Result<Policies, PolicyRefused> {
    let (changed, _) = planned(policies, order, now, "")?;
    let mut foreseen = policies.clone();
    changed.into_iter().for_each(|policy| foreseen.insert(policy));
    Ok(foreseen)
}

type Planned = (Vec<StoredPolicy>, Vec<Record>);

fn planned(
    policies: &Policies,
    order: &PolicyOrder,
    now: Timestamp,
    actor: &str,
) -> Result<Planned, PolicyRefused> {
    match order {
        PolicyOrder::Default(names) => defaults(policies, names, actor),
        PolicyOrder::Promote {
            which,
            retires_others,
        } => promote(policies, which, *retires_others, now, actor),
        PolicyOrder::Retire(which) => retire(policies, which, actor),
        PolicyOrder::Stage(which) => {
            let policy = find(policies, which)?;
            let chosen = choose(policy, which, Stage::Enforced)?;
            let staged = chosen.at(Stage::Staged, now);
            let record = record("policy_staged", &staged, actor);
            let generations = policy.generations().iter();
            let generations = generations.map(|known| if is_same(known, chosen) { &staged } else { known });
            let changed = with(policy, generations.cloned().collect())?;
            Ok((vec![changed], vec![record]))
        }
    }
}

fn promote(
    policies: &Policies,
    which: &Which,
    retires_others: bool,
    now: Timestamp,
    actor: &str,
) -> Result<Planned, PolicyRefused> {
    let policy = find(policies, which)?;
    let chosen = choose(policy, which, Stage::Staged)?;
    let enforced = chosen.at(Stage::Enforced, now);
    let mut records = vec![record("policy_promoted", &enforced, actor)];
    let mut generations = vec![enforced];
    for known in policy
        .generations()
        .iter()
        .filter(|known| !is_same(known, chosen))
    {
        if retires_others && known.is_enforced() {
            records.push(record("policy_retired", known, actor));
        } else {
            generations.push(known.clone());
        }
    }
    Ok((vec![with(policy, generations)?], records))
}

fn retire(policies: &Policies, which: &Which, actor: &str) -> Result<Planned, PolicyRefused> {
    let policy = find(policies, which)?;
    let is_retired = |known: &StoredGeneration| id(known).starts_with(&which.generation);
    if !policy.generations().iter().any(is_retired) {
        return Err(PolicyRefused::NoGeneration(which.name.clone()));
    }
    let (retired, kept): (Vec<_>, Vec<_>) = policy.generations().iter().cloned().partition(is_retired);
    if !which.generation.is_empty() && retired.len() > 1 {
        return Err(PolicyRefused::Ambiguous(which.name.clone()));
    }
    let records = retired.iter().map(|known| record("policy_retired", known, actor));
    Ok((vec![with(policy, kept)?], records.collect()))
}

fn defaults(policies: &Policies, names: &[PolicyName], actor: &str) -> Result<Planned, PolicyRefused> {
    check_names(policies, names, "the set of policies for all hosts")?;
    let changed = policies
        .iter()
        .filter(|policy| policy.is_default != names.contains(&policy.name));
    let changed = changed.map(|policy| policy.with_default(!policy.is_default));
    let record = Record::new("policies_assigned", &actor)
        .with("host_id", &"")
        .with("policies", &joined(names));
    Ok((changed.collect(), vec![record]))
}

/// Holds a host to these policies, for `actor`; none: to those that are for all. `None` if there is no such host.
///
/// # Errors
///
/// There is no such policy, or they are too many.
pub fn assign(
    draft: &mut Draft,
    host_id: &str,
    names: Vec<PolicyName>,
    actor: &str,
) -> Option<Result<(), PolicyRefused>> {
    let host = Arc::clone(draft.state().hosts.get(host_id)?);
    if let Err(refused) = check_names(&draft.state().policies, &names, "a host") {
        return Some(Err(refused));
    }
    if host.policies != names {
        let record = Record::new("policies_assigned", &actor)
            .with("host_id", &host.id)
            .with("host_name", &host.name)
            .with("policies", &joined(&names));
        draft.audit(record);
        draft.put_host(Host {
            policies: names,
            ..(*host).clone()
        });
    }
    Some(Ok(()))
}

/// Checks that a host can be held to `names`.
///
/// # Errors
///
/// There is no such policy, or they are too many.
pub fn check_names(
    policies: &Policies,
    names: &[PolicyName],
    what: &'static str,
) -> Result<(), PolicyRefused> {
    let max = HostPolicies::MAX;
    if names.len() > max {
        return Err(PolicyRefused::TooMany { what, max });
    }
    match names.iter().find(|name| policies.get(name).is_none()) {
        Some(unknown) => Err(PolicyRefused::NoPolicy(unknown.clone())),
        None => Ok(()),
    }
}

fn find<'a>(policies: &'a Policies, which: &Which) -> Result<&'a StoredPolicy, PolicyRefused> {
    let known = policies.get(&which.name);
    known
        .map(AsRef::as_ref)
        .ok_or_else(|| PolicyRefused::NoPolicy(which.name.clone()))
}

/// The generation that is meant, of those at `stage`.
fn choose<'a>(
    policy: &'a StoredPolicy,
    which: &Which,
    stage: Stage,
) -> Result<&'a StoredGeneration, PolicyRefused> {
    let is_meant = |known: &&StoredGeneration| {
        known.generation.stage == stage && id(known).starts_with(&which.generation)
    };
    let mut meant = policy.generations().iter().filter(is_meant);
    match (meant.next(), meant.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => Err(PolicyRefused::Ambiguous(policy.name.clone())),
        (None, _) => Err(PolicyRefused::NoGeneration(policy.name.clone())),
    }
}

fn with(policy: &StoredPolicy, generations: Vec<StoredGeneration>) -> Result<StoredPolicy, PolicyRefused> {
    let (name, newest) = (policy.name.clone(), policy.newest_version);
    Ok(StoredPolicy::new(name, newest, policy.is_default, generations)?)
}

fn is_same(one: &StoredGeneration, other: &StoredGeneration) -> bool {
    one.generation.id() == other.generation.id()
}

fn id(known: &StoredGeneration) -> String {
    known.generation.id().to_string()
}

fn joined(names: &[PolicyName]) -> String {
    let names: Vec<_> = names.iter().map(PolicyName::as_str).collect();
    names.join(",")
}

fn record(event: &'static str, known: &StoredGeneration, actor: &str) -> Record {
    Record::new(event, &actor)
        .with("policy", &known.generation.policy.name)
        .with("version", &known.version())
        .with("generation", &known.generation.id())
}

#[cfg(test)]
mod tests;
