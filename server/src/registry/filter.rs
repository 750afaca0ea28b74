//! What a list is narrowed to.

use std::{collections::BTreeSet, sync::Arc};

use svid::{SelectorSet, Timestamp, TrustDomain};

use super::{Agent, Entries, Entry};

/// How a set in a filter is compared with that of an item.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Match {
    /// They share a member.
    Any,
    /// They are equal.
    Exact,
    /// The item's set lies within the filter's, and is not empty.
    Subset,
    /// The item's set holds the filter's.
    Superset,
}

/// A set, and how to compare with it.
#[derive(Clone, Debug)]
pub struct SetMatch<T> {
    /// The set.
    pub set: T,
    /// How.
    pub by: Match,
}

/// Narrows entries; all that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct EntryFilter {
    /// Path of the SPIFFE ID.
    pub spiffe_id: Option<Arc<str>>,
    /// Path of the parent's.
    pub parent_id: Option<Arc<str>>,
    /// Selectors.
    pub selectors: Option<SetMatch<SelectorSet>>,
    /// Trust domains it federates with.
    pub federates_with: Option<SetMatch<BTreeSet<TrustDomain>>>,
    /// Hint.
    pub hint: Option<String>,
    /// Downstream or not.
    pub downstream: Option<bool>,
}

/// Narrows agents; all that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct AgentFilter {
    /// Attestor.
    pub attestation_type: Option<String>,
    /// Selectors.
    pub selectors: Option<SetMatch<SelectorSet>>,
    /// Banned or not.
    pub banned: Option<bool>,
    /// Can attest again or not.
    pub can_reattest: Option<bool>,
    /// Its SVID ends before.
    pub expires_before: Option<Timestamp>,
}

impl SetMatch<SelectorSet> {
    fn matches(&self, theirs: &SelectorSet) -> bool {
        match self.by {
            Match::Any => self.set.intersects(theirs),
            Match::Exact => self.set == *theirs,
            Match::Subset => !theirs.is_empty() && theirs.is_subset(&self.set),
            Match::Superset => self.set.is_subset(theirs),
        }
    }
}

impl SetMatch<BTreeSet<TrustDomain>> {
    fn matches(&self, theirs: &[TrustDomain]) -> bool {
        let theirs: BTreeSet<_> = theirs.iter().cloned().collect();
        match self.by {
            Match::Any => !self.set.is_disjoint(&theirs),
            Match::Exact => self.set == theirs,
            Match::Subset => !theirs.is_empty() && theirs.is_subset(&self.set),
            Match::Superset => self.set.is_subset(&theirs),
        }
    }
}

impl EntryFilter {
    /// The entries that match, in the order of their identifiers, from the one after `after`. An index is used
    /// where the filter allows.
    pub fn select<'a>(
        &'a self,
        entries: &'a Entries,
        after: &'a str,
    ) -> Box<dyn Iterator<Item = &'a Arc<Entry>> + 'a> {
        let candidates: Box<dyn Iterator<Item = &Arc<Entry>>> = match (&self.spiffe_id, &self.parent_id) {
            (Some(path), _) => Box::new(entries.with_spiffe_id(path)),
            (None, Some(path)) => Box::new(entries.with_parent(path)),
            (None, None) => Box::new(entries.after(after)),
        };
        Box::new(candidates.filter(move |entry| entry.id().as_ref() > after && self.matches(entry)))
    }

    fn matches(&self, entry: &Entry) -> bool {
        self.parent_id
            .as_ref()
            .is_none_or(|path| *path == entry.parent_id.path)
            && self
                .selectors
                .as_ref()
                .is_none_or(|filter| filter.matches(&entry.selectors))
            && self
                .federates_with
                .as_ref()
                .is_none_or(|filter| filter.matches(&entry.federates_with))
            && self.hint.as_ref().is_none_or(|hint| *hint == entry.hint)
            && self
                .downstream
                .is_none_or(|downstream| downstream == entry.downstream)
    }
}

impl AgentFilter {
    /// Whether `agent` matches.
    #[must_use]
    pub fn matches(&self, agent: &Agent) -> bool {
        self.attestation_type
            .as_ref()
            .is_none_or(|kind| *kind == agent.attestation_type)
            && self
                .selectors
                .as_ref()
                .is_none_or(|filter| filter.matches(&agent.selectors))
            && self.banned.is_none_or(|banned| banned == agent.banned)
            && self.can_reattest.is_none_or(|can| can == agent.can_reattest)
            && self
                .expires_before
                .is_none_or(|end| agent.current.not_after < end)
    }
}
