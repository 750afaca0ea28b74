//! All policies, with the generations of each that are in use. Cheap to clone.

use std::sync::Arc;

use attest::policy::{Generation, GenerationsError, PolicyName, Stage};
use imbl::OrdMap;
use plugin_api::{Host, HostPolicies};
use svid::Timestamp;

/// All policies.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    by_name: OrdMap<PolicyName, Arc<StoredPolicy>>,
    /// What hosts are held to that have no policies of their own.
    for_all: HostPolicies,
    /// The names of these, also of those of which nothing is in use.
    defaults: Arc<[PolicyName]>,
}

/// A policy, as operators applied it. Its name stays known when nothing of it is in use any more, so that no older
/// version comes back.
#[derive(Clone, Debug)]
pub struct StoredPolicy {
    /// Its name.
    pub name: PolicyName,
    /// The newest version that was ever applied.
    pub newest_version: u32,
    /// Whether hosts are held to it that have no policies of their own.
    pub is_default: bool,
    /// Those in use, the ones that are enforced first.
    generations: Vec<StoredGeneration>,
    /// The same, as hosts are compared with; `None` where nothing is in use.
    compiled: Option<Arc<attest::policy::Generations>>,
}

/// A generation, with where it comes from.
#[derive(Clone, Debug)]
pub struct StoredGeneration {
    /// What it says, and whether it counts.
    pub generation: Generation,
    /// The text that was applied.
    pub text: Arc<str>,
    /// Since when it has its stage.
    pub since: Timestamp,
    /// When it was applied.
    pub applied_at: Timestamp,
    /// Who applied it.
    pub applied_by: String,
    /// Whether a configured key signed it.
    pub is_signed: bool,
}

impl Policies {
    /// Most policies.
    pub const MAX: usize = 1000;

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether nothing was changed between the two.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.by_name.ptr_eq(&other.by_name)
    }

    /// The policy of this name.
    #[must_use]
    pub fn get(&self, name: &PolicyName) -> Option<&Arc<StoredPolicy>> {
        self.by_name.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<StoredPolicy>> {
        self.by_name.values()
    }

    /// Adds a policy, or replaces the one of its name.
    pub fn insert(&mut self, policy: StoredPolicy) {
        self.by_name.insert(policy.name.clone(), Arc::new(policy));
        let defaults = || self.by_name.values().filter(|policy| policy.is_default);
        let for_all = defaults().filter_map(|policy| policy.compiled.clone());
        (self.for_all, self.defaults) = (
            HostPolicies::new(for_all.collect()),
            defaults().map(|policy| policy.name.clone()).collect(),
        );
    }

    /// What a host is held to: its own policies, or else those that are for all.
    #[must_use]
    pub fn of(&self, host: &Host) -> HostPolicies {
        if host.policies.is_empty() {
            return self.for_all.clone();
        }
        let own = host.policies.iter().filter_map(|name| self.by_name.get(name));
        HostPolicies::new(own.filter_map(|policy| policy.compiled.clone()).collect())
    }

    /// The names of the policies that `host` is held to, also of those of which nothing is in use.
    #[must_use]
    pub fn names_of<'a>(&'a self, host: &'a Host) -> &'a [PolicyName] {
        if host.policies.is_empty() {
            &self.defaults
        } else {
            &host.policies
        }
    }
}

impl StoredPolicy {
    /// A policy with these generations.
    ///
    /// # Errors
    ///
    /// They do not belong together, or are too many.
    pub fn new(
        name: PolicyName,
        newest_version: u32,
        is_default: bool,
        mut generations: Vec<StoredGeneration>,
    ) -> Result<Self, GenerationsError> {
        generations.sort_by_key(|stored| stored.generation.stage);
        let all: Vec<_> = generations
            .iter()
            .map(|stored| stored.generation.clone())
            .collect();
        let compiled = if all.is_empty() {
            None
        } else {
            Some(Arc::new(attest::policy::Generations::new(all)?))
        };
        if compiled.as_ref().is_some_and(|compiled| *compiled.name() != name) {
            return Err(GenerationsError::Name);
        }
        Ok(Self {
            name,
            newest_version,
            is_default,
            generations,
            compiled,
        })
    }

    /// The generations in use, the ones that are enforced first.
    #[must_use]
    pub fn generations(&self) -> &[StoredGeneration] {
        &self.generations
    }

    /// The same, for all hosts that have no policies of their own, or not.
    #[must_use]
    pub fn with_default(&self, is_default: bool) -> Self {
        Self {
            is_default,
            ..self.clone()
        }
    }

    /// The newest generation in use.
    #[must_use]
    pub fn newest(&self) -> Option<&StoredGeneration> {
        let mut newest = self.generations.iter();
        let first = newest.next()?;
        Some(newest.fold(first, |one, other| {
            if other.version() > one.version() {
                other
            } else {
                one
            }
        }))
    }
}

impl StoredGeneration {
    /// For people.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.generation.policy.version
    }

    /// Whether hosts have to meet it.
    #[must_use]
    pub fn is_enforced(&self) -> bool {
        self.generation.stage == Stage::Enforced
    }

    /// The same at another stage.
    #[must_use]
    pub fn at(&self, stage: Stage, since: Timestamp) -> Self {
        let generation = Generation::new(self.generation.policy.clone(), stage);
        Self {
            generation,
            since,
            ..self.clone()
        }
    }
}
