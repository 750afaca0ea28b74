//! Which entries an agent may have, and which agents an entry concerns.
//!
//! An agent may have the entries whose parent it is, by its own ID or by that of a node alias it matches, and
//! the entries whose parent is one of those, and so on.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use svid::Timestamp;

use super::{Agent, Entry, Snapshot, hardware::may_have};

/// Every entry that `agent` may have, without those that ended.
#[must_use]
pub fn authorized_entries(snapshot: &Snapshot, agent: &Agent, now: Timestamp) -> Vec<Arc<Entry>> {
    let mut open = starting_points(snapshot, agent);
    let mut seen: HashSet<_> = open.iter().cloned().collect();
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        for entry in snapshot
            .entries
            .children(&path)
            .filter(|entry| !entry.is_expired(now))
            .filter(|entry| may_have(snapshot, agent, &entry.spiffe_id.path))
        {
            found.push(Arc::clone(entry));
            if seen.insert(Arc::clone(&entry.spiffe_id.path)) {
                open.push(Arc::clone(&entry.spiffe_id.path));
            }
        }
    }
    found
}

/// The entry with identifier `id`, if `agent` may have it.
///
/// Climbs from the entry instead of listing what the agent has: an agent of a million entries asks for one.
#[must_use]
pub fn is_authorized(snapshot: &Snapshot, agent: &Agent, id: &str, now: Timestamp) -> Option<Arc<Entry>> {
    let entry = snapshot
        .entries
        .get(id)
        .filter(|entry| !entry.is_node_alias() && !entry.is_expired(now))
        .filter(|entry| may_have(snapshot, agent, &entry.spiffe_id.path))?;
    let goals: HashSet<_> = starting_points(snapshot, agent).into_iter().collect();
    let passes = |path: &Arc<str>| may_have(snapshot, agent, path);
    let reached = climb(snapshot, entry, now, passes, |path| goals.contains(path));
    reached.then(|| Arc::clone(entry))
}

/// Whom changes of entries may concern.
#[derive(Clone, Debug, Default)]
pub struct Concerned {
    /// Paths of parents, theirs included: agents among them are concerned.
    paths: HashSet<Arc<str>>,
    /// Node aliases: agents that match one are concerned.
    aliases: BTreeMap<Arc<str>, Arc<Entry>>,
}

impl Concerned {
    /// Adds those whom the addition, change or removal of `entry` may concern.
    pub fn add(&mut self, snapshot: &Snapshot, entry: &Arc<Entry>) {
        self.add_one(snapshot, entry);
        // With it, the ID may become hardware-only, or cease to be.
        if entry.is_hardware_alias() {
            let namesakes = snapshot.entries.with_spiffe_id(&entry.spiffe_id.path);
            namesakes.for_each(|other| self.add_one(snapshot, other));
        }
    }

    fn add_one(&mut self, snapshot: &Snapshot, entry: &Arc<Entry>) {
        if entry.is_node_alias() {
            self.aliases.insert(Arc::clone(entry.id()), Arc::clone(entry));
        }
        climb(
            snapshot,
            entry,
            Timestamp::from_unix(i64::MIN),
            |_| true,
            |path| {
                let aliases = snapshot
                    .entries
                    .with_spiffe_id(path)
                    .filter(|entry| entry.is_node_alias());
                self.aliases
                    .extend(aliases.map(|alias| (Arc::clone(alias.id()), Arc::clone(alias))));
                self.paths.insert(Arc::clone(path));
                false
            },
        );
    }

    /// Whether the agent with this path is concerned.
    #[must_use]
    pub fn includes(&self, snapshot: &Snapshot, path: &Arc<str>) -> bool {
        if self.paths.contains(path) {
            return true;
        }
        let Some(agent) = snapshot.agents.get(path) else {
            return false;
        };
        self.aliases
            .values()
            .any(|alias| alias.selectors.is_subset(&agent.selectors))
    }
}

/// The agent's own path, and those of the node aliases that it matches.
fn starting_points(snapshot: &Snapshot, agent: &Agent) -> Vec<Arc<str>> {
    let mut paths = BTreeSet::from([Arc::clone(&agent.path)]);
    for selector in &agent.selectors {
        let aliases = snapshot.entries.aliases(selector);
        let matching = aliases.filter(|alias| alias.selectors.is_subset(&agent.selectors));
        let matching = matching.filter(|alias| may_have(snapshot, agent, &alias.spiffe_id.path));
        paths.extend(matching.map(|alias| Arc::clone(&alias.spiffe_id.path)));
    }
    paths.into_iter().collect()
}

/// Goes from an entry to its parents, and to theirs, as far as `passes` lets it, until `is_goal` accepts a path.
fn climb(
    snapshot: &Snapshot,
    entry: &Arc<Entry>,
    now: Timestamp,
    passes: impl Fn(&Arc<str>) -> bool,
    mut is_goal: impl FnMut(&Arc<str>) -> bool,
) -> bool {
    let mut open = vec![Arc::clone(&entry.parent_id.path)];
    let mut seen = HashSet::new();
    while let Some(path) = open.pop() {
        if is_goal(&path) {
            return true;
        }
        if !passes(&path) || !seen.insert(Arc::clone(&path)) {
            continue;
        }
        let parents = snapshot.entries.with_spiffe_id(&path);
        let workloads = parents.filter(|parent| !parent.is_node_alias() && !parent.is_expired(now));
        open.extend(workloads.map(|parent| Arc::clone(&parent.parent_id.path)));
    }
    false
}
