//! What changes from one policy to another, in an operator's words.

use std::{collections::BTreeSet, fmt};

use super::{Policy, statements};

/// One thing that changes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// The new policy says this.
    Added(String),
    /// The old one said this.
    Removed(String),
}

/// What `new` says that `old` does not, and the other way round, in the order of the rules.
#[must_use]
pub fn diff(old: &Policy, new: &Policy) -> Vec<Change> {
    let (before, after) = (statements(old), statements(new));
    let (known, wanted): (BTreeSet<_>, BTreeSet<_>) = (before.iter().collect(), after.iter().collect());
    let removed = before.iter().filter(|statement| !wanted.contains(statement));
    let added = after.iter().filter(|statement| !known.contains(statement));
    removed
        .map(|statement| Change::Removed(statement.clone()))
        .chain(added.map(|statement| Change::Added(statement.clone())))
        .collect()
}

/// `no longer: …` or `new: …`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added(statement) => write!(f, "new: {statement}"),
            Self::Removed(statement) => write!(f, "no longer: {statement}"),
        }
    }
}
