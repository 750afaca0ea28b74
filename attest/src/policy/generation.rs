//! Generations of a policy: which one counts, and which one is only watched.

use std::fmt;

use super::{Policy, PolicyName};
use crate::{Digest, HashAlg};

/// What a generation is known by: SHA-256 of its canonical form, in lower-case hex. Comments do not count.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct GenerationId(Digest);

impl GenerationId {
    /// As bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Display for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Whether a generation counts.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Stage {
    /// Hosts have to meet it, or the other one that is enforced.
    Enforced,
    /// What differs is noted, and nothing follows from it.
    Staged,
}

/// A policy at a stage.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Generation {
    id: GenerationId,
    /// The reference values.
    pub policy: Policy,
    /// Whether they count.
    pub stage: Stage,
}

impl Generation {
    /// Of a policy.
    #[must_use]
    pub fn new(policy: Policy, stage: Stage) -> Self {
        Self {
            id: policy.generation_id(),
            policy,
            stage,
        }
    }

    /// What it is known by.
    #[must_use]
    pub const fn id(&self) -> GenerationId {
        self.id
    }
}

impl Policy {
    /// What this generation is known by.
    #[must_use]
    pub fn generation_id(&self) -> GenerationId {
        GenerationId(HashAlg::Sha256.digest(&[self.canonical().as_bytes()]))
    }
}

/// The generations of one policy that are in use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Generations {
    name: PolicyName,
    all: Vec<Generation>,
}

/// Generations do not belong together.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum GenerationsError {
    /// There is none.
    #[error("a policy has at least one generation")]
    Empty,
    /// They have different names.
    #[error("generations of different policies")]
    Name,
    /// Too many of a stage.
    #[error("{max} generations can be enforced and {max} staged at a time: retire one", max = Generations::MAX)]
    TooMany,
    /// The same one comes twice.
    #[error("a generation is there twice")]
    Twice,
}

impl Generations {
    /// Most of each stage: the old and the new one during a roll-out.
    pub const MAX: usize = 2;

    /// Those of one policy; the ones that are enforced come first.
    ///
    /// # Errors
    ///
    /// [`GenerationsError`] if they do not belong together.
    pub fn new(mut all: Vec<Generation>) -> Result<Self, GenerationsError> {
        let name = all.first().ok_or(GenerationsError::Empty)?.policy.name.clone();
        if all.iter().any(|generation| generation.policy.name != name) {
            return Err(GenerationsError::Name);
        }
        let count = |stage| all.iter().filter(|generation| generation.stage == stage).count();
        if count(Stage::Enforced) > Self::MAX || count(Stage::Staged) > Self::MAX {
            return Err(GenerationsError::TooMany);
        }
        all.sort_by_key(|generation| generation.stage);
        let is_twice = |(position, generation): (usize, &Generation)| {
            all.iter()
                .take(position)
                .any(|earlier| earlier.id == generation.id)
        };
        if all.iter().enumerate().any(is_twice) {
            return Err(GenerationsError::Twice);
        }
        Ok(Self { name, all })
    }

    /// The policy's name.
    #[must_use]
    pub const fn name(&self) -> &PolicyName {
        &self.name
    }

    /// All of them, enforced ones first.
    pub fn iter(&self) -> impl Iterator<Item = &Generation> {
        self.all.iter()
    }
}
