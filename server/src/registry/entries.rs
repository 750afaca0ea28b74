//! All entries, indexed by what is asked of them. Cheap to clone: clones share what they have in common.

use std::{borrow::Borrow, cmp::Ordering, sync::Arc};

use imbl::{OrdMap, OrdSet};
use svid::{Selector, Timestamp};

use super::{Entry, EntryId, PathKey};

/// All entries. Each index holds a pointer an entry, not a key.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    by_id: OrdSet<ById>,
    by_parent: OrdSet<ByParent>,
    by_spiffe_id: OrdSet<BySpiffeId>,
    /// Node aliases, by each of their selectors.
    aliases: OrdMap<(Selector, EntryId), Arc<Entry>>,
    /// Those of them that make their ID hardware-only.
    hardware: OrdSet<PathKey>,
    /// Entries that end, by when.
    ending: OrdMap<(Timestamp, EntryId), Arc<Entry>>,
}

impl Entries {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The entry with this identifier.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Arc<Entry>> {
        self.by_id.get(id).map(|entry| &entry.0)
    }

    /// All entries whose identifier comes after `id`, in order; from the first with an empty one.
    pub fn after<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Arc<Entry>> {
        self.by_id
            .range::<_, str>((std::ops::Bound::Excluded(id), std::ops::Bound::Unbounded))
            .map(|entry| &entry.0)
    }

    /// The entries whose parent has this path. Node aliases are no children of the server.
    pub fn children(&self, path: &Arc<str>) -> impl Iterator<Item = &Arc<Entry>> {
        self.with_parent(path).filter(|entry| !entry.is_node_alias())
    }

    /// The entries whose parent has this path, node aliases too.
    pub fn with_parent(&self, path: &Arc<str>) -> impl Iterator<Item = &Arc<Entry>> {
        let wanted = Arc::clone(path);
        let entries = self
            .by_parent
            .range::<_, PathKey>(first(path)..)
            .map(|entry| &entry.0);
        entries.take_while(move |entry| entry.parent_id.path == wanted)
    }

    /// The entries that give this path.
    pub fn with_spiffe_id(&self, path: &Arc<str>) -> impl Iterator<Item = &Arc<Entry>> {
        let wanted = Arc::clone(path);
        let entries = self
            .by_spiffe_id
            .range::<_, PathKey>(first(path)..)
            .map(|entry| &entry.0);
        entries.take_while(move |entry| entry.spiffe_id.path == wanted)
    }

    /// The node aliases that name `selector` among others. One that names several is found by each.
    pub fn aliases<'a>(&'a self, selector: &'a Selector) -> impl Iterator<Item = &'a Arc<Entry>> {
        let from = (selector.clone(), EntryId::from(""));
        let entries = self
            .aliases
            .range(from..)
            .take_while(move |((named, _), _)| named == selector);
        entries.map(|(_, entry)| entry)
    }

    /// Whether the ID with this path is hardware-only.
    #[must_use]
    pub fn is_hardware(&self, path: &Arc<str>) -> bool {
        let next = self.hardware.range(first(path)..).next();
        next.is_some_and(|key| key.path == *path)
    }

    /// Paths of the IDs that are hardware-only.
    pub fn hardware_ids(&self) -> impl Iterator<Item = &Arc<str>> {
        let mut last = None;
        self.hardware
            .iter()
            .map(|key| &key.path)
            .filter(move |path| last.replace(Arc::clone(path)).as_ref() != Some(*path))
    }

    /// The entries that have ended.
    pub fn ended(&self, now: Timestamp) -> impl Iterator<Item = &Arc<Entry>> {
        self.ending
            .iter()
            .take_while(move |((end, _), _)| *end <= now)
            .map(|(_, entry)| entry)
    }

    /// `entry`, sharing with those of the same node or SPIFFE ID what it has in common with them: paths and selectors.
    #[must_use]
    pub fn shared(&self, mut entry: Entry) -> Arc<Entry> {
        entry.parent_id.id = Arc::clone(&entry.spiffe_id.id);
        let neighbour = self.with_parent(&entry.parent_id.path).next().cloned();
        if let Some(other) = neighbour {
            entry.parent_id.path = Arc::clone(&other.parent_id.path);
            share_selectors(&mut entry, &other);
        }
        let namesake = self.with_spiffe_id(&entry.spiffe_id.path).next().cloned();
        if let Some(other) = namesake {
            entry.spiffe_id.path = Arc::clone(&other.spiffe_id.path);
            share_selectors(&mut entry, &other);
        }
        Arc::new(entry)
    }

    /// Adds an entry, in place of the one with its identifier.
    pub fn insert(&mut self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let old = self.remove(entry.id());
        if entry.is_node_alias() {
            for selector in &entry.selectors {
                self.aliases
                    .insert((selector.clone(), Arc::clone(entry.id())), Arc::clone(&entry));
            }
        }
        if entry.is_hardware_alias() {
            self.hardware.insert(entry.spiffe_id.clone());
        }
        if let Some(end) = entry.expires_at {
            self.ending
                .insert((end, Arc::clone(entry.id())), Arc::clone(&entry));
        }
        self.by_parent.insert(ByParent(Arc::clone(&entry)));
        self.by_spiffe_id.insert(BySpiffeId(Arc::clone(&entry)));
        self.by_id.insert(ById(entry));
        old
    }

    /// Removes the entry with this identifier.
    pub fn remove(&mut self, id: &str) -> Option<Arc<Entry>> {
        let ById(entry) = self.by_id.remove(id)?;
        self.by_parent.remove(&entry.parent_id);
        self.by_spiffe_id.remove(&entry.spiffe_id);
        if let Some(end) = entry.expires_at {
            self.ending.remove(&(end, Arc::clone(entry.id())));
        }
        if entry.is_node_alias() {
            for selector in &entry.selectors {
                self.aliases.remove(&(selector.clone(), Arc::clone(entry.id())));
            }
        }
        if entry.is_hardware_alias() {
            self.hardware.remove(&entry.spiffe_id);
        }
        Some(entry)
    }
}

fn share_selectors(entry: &mut Entry, other: &Entry) {
    if entry.selectors == other.selectors {
        entry.selectors = other.selectors.clone();
    }
}

fn first(path: &Arc<str>) -> PathKey {
    PathKey {
        path: Arc::clone(path),
        id: EntryId::from(""),
    }
}

/// An entry that orders by one of its keys.
macro_rules! ordered_by {
    ($name:ident, $key:ty, $get:expr) => {
        #[derive(Clone, Debug)]
        struct $name(Arc<Entry>);

        impl Borrow<$key> for $name {
            fn borrow(&self) -> &$key {
                let get: fn(&Entry) -> &$key = $get;
                get(&self.0)
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                Borrow::<$key>::borrow(self).cmp(other.borrow())
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.cmp(other).is_eq()
            }
        }

        impl Eq for $name {}
    };
}

ordered_by!(ById, str, |entry| entry.id());
ordered_by!(ByParent, PathKey, |entry| &entry.parent_id);
ordered_by!(BySpiffeId, PathKey, |entry| &entry.spiffe_id);

#[cfg(test)]
mod tests {
    use svid::SelectorSet;

    use super::*;

    fn entry(id: &str, parent: &str, path: &str, selector: &str) -> Entry {
        let key = |path: &str| PathKey {
            path: path.into(),
            id: id.into(),
        };
        Entry {
            spiffe_id: key(path),
            parent_id: key(parent),
            selectors: std::iter::once(selector.parse::<Selector>().unwrap()).collect(),
            ..Entry::default()
        }
    }

    fn is_one(left: &SelectorSet, right: &SelectorSet) -> bool {
        std::ptr::eq(left.iter().as_slice(), right.iter().as_slice())
    }

    #[test]
    fn what_entries_have_in_common_is_kept_once() {
        let mut entries = Entries::default();
        let mut add = |entry: Entry| {
            let shared = entries.shared(entry.clone());
            assert_eq!(*shared, entry);
            entries.insert(Arc::clone(&shared));
            shared
        };
        let first = add(entry("1", "/node/a", "/web", "unix:uid:1"));
        let neighbour = add(entry("2", "/node/a", "/db", "unix:uid:1"));
        let elsewhere = add(entry("3", "/node/b", "/web", "unix:uid:1"));
        let other = add(entry("4", "/node/b", "/web", "unix:uid:2"));

        assert!(Arc::ptr_eq(&first.parent_id.path, &neighbour.parent_id.path));
        assert!(Arc::ptr_eq(&first.spiffe_id.path, &elsewhere.spiffe_id.path));
        assert!(is_one(&first.selectors, &neighbour.selectors));
        assert!(is_one(&first.selectors, &elsewhere.selectors));
        assert!(!is_one(&first.selectors, &other.selectors));
        assert!(Arc::ptr_eq(&other.parent_id.id, other.id()));
    }
}
