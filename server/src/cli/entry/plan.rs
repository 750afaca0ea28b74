//! What has to be done so that a server has the entries of a file: a pure decision.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
};

use proto::spire::api::types::Entry;

use super::{file::Listed, id_text};

/// What has to be done.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// What the server lacks.
    pub(super) create: Vec<Listed>,
    /// What it has otherwise.
    pub(super) update: Vec<Update>,
    /// What it has too much.
    pub(super) delete: Vec<Entry>,
    /// How many entries are as they should be.
    pub(super) unchanged: usize,
}

/// An entry that changes.
#[derive(Debug, PartialEq)]
pub(super) struct Update {
    /// How it will be, with the identifier that it has.
    pub(super) new: Listed,
    /// What differs; at least one field.
    pub(super) changes: Vec<Change>,
}

/// A field that changes.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Change {
    pub(super) field: &'static str,
    pub(super) old: String,
    pub(super) new: String,
}

/// Which entries that the file does not name are removed.
#[derive(Debug)]
pub(super) enum Prune {
    /// None.
    Nothing,
    /// Those whose parent the file names.
    ParentsOfFile,
    /// Those with one of these parents.
    Under(BTreeSet<String>),
}

/// A file can't be brought about.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// An entry of the file is another one on the server.
    #[error(
        "{at}: the server has an entry with this parent, SPIFFE ID and selectors as `{id}`; identifiers can't \
         change: give that one, or none"
    )]
    OtherId {
        /// Where the entry stands.
        at: String,
        /// The identifier on the server.
        id: String,
    },
    /// Two entries of the file are the same.
    #[error("{at}: is the same entry as {before}")]
    Twice {
        /// Where the second stands.
        at: String,
        /// Where the first stands.
        before: String,
    },
}

/// What makes two entries the same to the server.
#[derive(Eq, Hash, PartialEq)]
pub(super) struct Key {
    parent_id: String,
    spiffe_id: String,
    selectors: BTreeSet<(String, String)>,
}

/// Decides what has to be done so that `existing` becomes `wanted`.
///
/// An entry of the file is the one on the server with its identifier, or else with its parent, SPIFFE ID and
/// selectors, or else the only one with its parent, SPIFFE ID and hint.
///
/// # Errors
///
/// The file says a thing twice, or wants to change an identifier.
pub(super) fn decide(wanted: &[Listed], existing: &[Entry], prune: &Prune) -> Result<Plan, PlanError> {
    check_wanted(wanted)?;
    let found = pair(wanted, existing)?;
    let mut plan = Plan::default();
    for (listed, old) in wanted.iter().zip(&found) {
        plan.add(listed, *old);
    }
    let kept: HashSet<_> = found.iter().flatten().map(|entry| entry.id.as_str()).collect();
    let unnamed = existing.iter().filter(|entry| !kept.contains(entry.id.as_str()));
    let pruned = parents(wanted, prune);
    plan.delete = unnamed
        .filter(|entry| pruned.contains(&id_text(entry.parent_id.as_ref())))
        .cloned()
        .collect();
    Ok(plan)
}

fn check_wanted(wanted: &[Listed]) -> Result<(), PlanError> {
    let (mut keys, mut ids) = (HashMap::new(), HashMap::new());
    for Listed { at, entry } in wanted {
        let same_key = keys.insert(Key::of(entry), at);
        let same_id = (!entry.id.is_empty())
            .then(|| ids.insert(&entry.id, at))
            .flatten();
        if let Some(before) = same_key.or(same_id) {
            let (at, before) = (at.clone(), before.clone());
            return Err(PlanError::Twice { at, before });
        }
    }
    Ok(())
}

/// For each entry of the file, that of the server.
fn pair<'a>(wanted: &[Listed], existing: &'a [Entry]) -> Result<Vec<Option<&'a Entry>>, PlanError> {
    let by_id: HashMap<_, _> = existing.iter().map(|entry| (entry.id.as_str(), entry)).collect();
    let by_key: HashMap<_, _> = existing.iter().map(|entry| (Key::of(entry), entry)).collect();
    let mut found = Vec::with_capacity(wanted.len());
    for Listed { at, entry } in wanted {
        let same_id = by_id.get(entry.id.as_str()).copied();
        let same_key = by_key.get(&Key::of(entry)).copied();
        if let (false, None, Some(other)) = (entry.id.is_empty(), same_id, same_key) {
            let (at, id) = (at.clone(), other.id.clone());
            return Err(PlanError::OtherId { at, id });
        }
        found.push(same_id.or(same_key));
    }
    refuse_sharing(wanted, &found)?;
    pair_by_hint(wanted, existing, &mut found);
    Ok(found)
}

fn refuse_sharing(wanted: &[Listed], found: &[Option<&Entry>]) -> Result<(), PlanError> {
    let mut taken = HashMap::new();
    for (listed, old) in wanted.iter().zip(found) {
        let Some(old) = old else { continue };
        if let Some(before) = taken.insert(&old.id, &listed.at) {
            let (at, before) = (listed.at.clone(), before.clone());
            return Err(PlanError::Twice { at, before });
        }
    }
    Ok(())
}

/// A hint finds its entry when nothing else does, so that selectors may change; if it names one entry on either side.
fn pair_by_hint<'a>(wanted: &[Listed], existing: &'a [Entry], found: &mut [Option<&'a Entry>]) {
    let taken: HashSet<_> = found.iter().flatten().map(|entry| entry.id.clone()).collect();
    let free = existing.iter().filter(|entry| !taken.contains(&entry.id));
    let free = only_ones(free.map(|entry| (hinted(entry), entry)));
    let open = wanted.iter().zip(found).filter(|(_, old)| old.is_none());
    let open = open.filter(|(listed, _)| listed.entry.id.is_empty());
    for (hint, old) in only_ones(open.map(|(listed, old)| (hinted(&listed.entry), old))) {
        *old = free.get(&hint).copied();
    }
}

type Hinted = (String, String, String);

fn hinted(entry: &Entry) -> Option<Hinted> {
    let ids = (
        id_text(entry.parent_id.as_ref()),
        id_text(entry.spiffe_id.as_ref()),
    );
    (!entry.hint.is_empty()).then(|| (ids.0, ids.1, entry.hint.clone()))
}

/// Those whose name nobody else has.
fn only_ones<T>(items: impl Iterator<Item = (Option<Hinted>, T)>) -> HashMap<Hinted, T> {
    let mut found: HashMap<Hinted, Vec<T>> = HashMap::new();
    for (name, item) in items {
        if let Some(name) = name {
            found.entry(name).or_default().push(item);
        }
    }
    let alone = |(name, mut items): (Hinted, Vec<T>)| {
        let only = items.len() == 1;
        items.pop().filter(|_| only).map(|item| (name, item))
    };
    found.into_iter().filter_map(alone).collect()
}

fn parents(wanted: &[Listed], prune: &Prune) -> BTreeSet<String> {
    match prune {
        Prune::Nothing => BTreeSet::new(),
        Prune::ParentsOfFile => {
            let parents = wanted.iter().map(|listed| listed.entry.parent_id.as_ref());
            parents.map(id_text).collect()
        }
        Prune::Under(parents) => parents.clone(),
    }
}

impl Plan {
    fn add(&mut self, listed: &Listed, old: Option<&Entry>) {
        let Some(old) = old else {
            self.create.push(listed.clone());
            return;
        };
        let changes = changes(old, &listed.entry);
        if changes.is_empty() {
            self.unchanged += 1;
            return;
        }
        let mut new = listed.clone();
        new.entry.id.clone_from(&old.id);
        self.update.push(Update { new, changes });
    }

    /// Whether there is something to do.
    pub(super) fn is_empty(&self) -> bool {
        self.create.is_empty() && self.update.is_empty() && self.delete.is_empty()
    }
}

/// As operators read it: `+`, `~` with each field, `-`, and the numbers.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Listed { entry, .. } in &self.create {
            writeln!(f, "+ {}", name(entry))?;
            for (field, value) in fields(entry).into_iter().skip(IDS) {
                if !value.is_empty() {
                    writeln!(f, "    {field}: {value}")?;
                }
            }
        }
        for Update { new, changes } in &self.update {
            writeln!(f, "~ {} [{}]", name(&new.entry), new.entry.id)?;
            for Change { field, old, new } in changes {
                writeln!(f, "    {field}: {} → {}", or_none(old), or_none(new))?;
            }
        }
        for entry in &self.delete {
            writeln!(f, "- {} [{}]", name(entry), entry.id)?;
        }
        write!(
            f,
            "{} to create, {} to update, {} to delete, {} unchanged",
            self.create.len(),
            self.update.len(),
            self.delete.len(),
            self.unchanged
        )
    }
}

fn or_none(value: &str) -> &str {
    if value.is_empty() { "none" } else { value }
}

/// What an entry is called in a line.
pub(super) fn name(entry: &Entry) -> String {
    let (id, parent) = (
        id_text(entry.spiffe_id.as_ref()),
        id_text(entry.parent_id.as_ref()),
    );
    format!("{id} (parent {parent})")
}

/// The identifiers of entries, by what makes them the same.
pub(super) fn ids_by_key(entries: &[Entry]) -> HashMap<Key, String> {
    let entries = entries.iter();
    entries.map(|entry| (Key::of(entry), entry.id.clone())).collect()
}

fn changes(old: &Entry, new: &Entry) -> Vec<Change> {
    let pairs = fields(old).into_iter().zip(fields(new));
    let differing = pairs.filter(|((_, old), (_, new))| old != new);
    let change = differing.map(|((field, old), (_, new))| Change { field, old, new });
    change.collect()
}

/// How many of the fields are said in an entry's name.
const IDS: usize = 2;

/// The fields that an operator sets, as text; empty for what is not set.
fn fields(entry: &Entry) -> [(&'static str, String); 14] {
    let number = |number: i64| match number {
        0 => String::new(),
        number => number.to_string(),
    };
    let switch = |on: bool| if on { "true".to_owned() } else { String::new() };
    let attributes = entry.additional_attributes.unwrap_or_default();
    [
        ("spiffe_id", id_text(entry.spiffe_id.as_ref())),
        ("parent_id", id_text(entry.parent_id.as_ref())),
        ("selectors", selectors(entry)),
        ("x509_svid_ttl", number(entry.x509_svid_ttl.into())),
        ("jwt_svid_ttl", number(entry.jwt_svid_ttl.into())),
        ("federates_with", federates_with(entry)),
        ("admin", switch(entry.admin)),
        ("downstream", switch(entry.downstream)),
        ("expires_at", number(entry.expires_at)),
        // The first becomes the common name: their order matters.
        ("dns_names", entry.dns_names.join(", ")),
        ("store_svid", switch(entry.store_svid)),
        ("hint", entry.hint.clone()),
        (
            "disable_x509_svid_prefetch",
            switch(attributes.disable_x509_svid_prefetch),
        ),
        ("jwt_svid_include_jti", switch(attributes.jwt_svid_include_jti)),
    ]
}

fn selectors(entry: &Entry) -> String {
    let selectors = Key::of(entry).selectors.into_iter();
    let text: Vec<_> = selectors.map(|(kind, value)| format!("{kind}:{value}")).collect();
    text.join(", ")
}

/// Names and IDs of trust domains are the same thing.
fn federates_with(entry: &Entry) -> String {
    let names = entry.federates_with.iter();
    let names: BTreeSet<_> = names
        .map(|name| name.strip_prefix("spiffe://").unwrap_or(name))
        .collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

impl Key {
    pub(super) fn of(entry: &Entry) -> Self {
        let selectors = entry.selectors.iter();
        Self {
            parent_id: id_text(entry.parent_id.as_ref()),
            spiffe_id: id_text(entry.spiffe_id.as_ref()),
            selectors: selectors
                .map(|one| (one.r#type.clone(), one.value.clone()))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::spire::api::types::{Selector, Spiffeid};

    use super::*;

    fn id(path: &str) -> Option<Spiffeid> {
        let (trust_domain, path) = ("td".into(), path.into());
        Some(Spiffeid { trust_domain, path })
    }

    /// `entry("e1", "/db", "/host", "u:1 u:2")`.
    fn entry(entry_id: &str, spiffe_id: &str, parent_id: &str, selectors: &str) -> Entry {
        let selector = |text: &str| {
            let (kind, value) = text.split_once(':').unwrap();
            let (r#type, value) = (kind.into(), value.into());
            Selector { r#type, value }
        };
        Entry {
            id: entry_id.into(),
            spiffe_id: id(spiffe_id),
            parent_id: id(parent_id),
            selectors: selectors.split(' ').map(selector).collect(),
            ..Entry::default()
        }
    }

    fn with_hint(hint: &str, mut entry: Entry) -> Entry {
        entry.hint = hint.into();
        entry
    }

    fn listed(entries: &[Entry]) -> Vec<Listed> {
        let listed = entries.iter().enumerate().map(|(index, entry)| Listed {
            at: format!("entries[{index}]"),
            entry: entry.clone(),
        });
        listed.collect()
    }

    /// The first letters of what is to be done, with the SPIFFE ID's path or the identifier.
    fn check(wanted: &[Entry], existing: &[Entry], prune: &Prune, expected: &str) {
        let plan = decide(&listed(wanted), existing, prune).unwrap();
        let path = |entry: &Entry| entry.spiffe_id.clone().unwrap().path;
        let create = plan.create.iter().map(|new| format!("+{}", path(&new.entry)));
        let update = plan.update.iter().map(|update| {
            let fields: Vec<_> = update.changes.iter().map(|change| change.field).collect();
            format!("~{}({})", update.new.entry.id, fields.join(","))
        });
        let delete = plan.delete.iter().map(|entry| format!("-{}", entry.id));
        let said: Vec<_> = create.chain(update).chain(delete).collect();
        assert_eq!(said.join(" "), expected, "{plan}");
        assert_eq!(plan.is_empty(), expected.is_empty());
    }

    #[test]
    fn entries_are_found_by_parent_id_and_selectors() {
        let here = [entry("e1", "/db", "/host", "u:1 u:2")];
        let nothing = Prune::Nothing;
        check(&[entry("", "/db", "/host", "u:2 u:1")], &here, &nothing, "");
        check(&[entry("", "/db", "/host", "u:1")], &here, &nothing, "+/db");
        check(&[entry("", "/db", "/other", "u:1 u:2")], &here, &nothing, "+/db");
        let admin = Entry {
            admin: true,
            x509_svid_ttl: 60,
            ..entry("", "/db", "/host", "u:1 u:2")
        };
        check(&[admin], &here, &nothing, "~e1(x509_svid_ttl,admin)");
    }

    #[test]
    fn entries_are_found_by_identifier_first() {
        let here = [
            entry("e1", "/db", "/host", "u:1"),
            entry("e2", "/db", "/host", "u:2"),
        ];
        let nothing = Prune::Nothing;
        check(
            &[entry("e1", "/db", "/host", "u:3")],
            &here,
            &nothing,
            "~e1(selectors)",
        );
        check(&[entry("e3", "/db", "/host", "u:3")], &here, &nothing, "+/db");
        check(
            &[entry("e1", "/web", "/rack", "u:1")],
            &here,
            &nothing,
            "~e1(spiffe_id,parent_id)",
        );
    }

    #[test]
    fn a_hint_finds_its_entry_when_selectors_changed() {
        let hinted = |id: &str, selectors: &str| with_hint("blue", entry(id, "/db", "/host", selectors));
        let nothing = Prune::Nothing;
        check(
            &[hinted("", "u:2")],
            &[hinted("e1", "u:1")],
            &nothing,
            "~e1(selectors)",
        );
        // Which of two is meant can't be known.
        let two = [hinted("e1", "u:1"), hinted("e2", "u:2")];
        check(&[hinted("", "u:3")], &two, &nothing, "+/db");
        check(
            &[hinted("", "u:3"), hinted("", "u:4")],
            &two[..1],
            &nothing,
            "+/db +/db",
        );
        // The one that is taken already is not in the way.
        check(
            &[hinted("", "u:3"), hinted("", "u:1")],
            &two,
            &nothing,
            "~e2(selectors)",
        );
        check(
            &[entry("", "/db", "/host", "u:2")],
            &[hinted("e1", "u:1")],
            &nothing,
            "+/db",
        );
    }

    #[test]
    fn only_entries_under_the_parents_of_the_file_are_pruned() {
        let here = [
            entry("e1", "/db", "/host", "u:1"),
            entry("e2", "/old", "/host", "u:1"),
            entry("e3", "/old", "/other", "u:1"),
        ];
        let wanted = [entry("", "/db", "/host", "u:1")];
        check(&wanted, &here, &Prune::Nothing, "");
        check(&wanted, &here, &Prune::ParentsOfFile, "-e2");
        let other = Prune::Under(["spiffe://td/other".to_owned()].into());
        check(&wanted, &here, &other, "-e3");
        check(&[], &here, &Prune::ParentsOfFile, "");
        check(&[], &here, &other, "-e3");
    }

    #[test]
    fn what_is_meant_twice_is_refused() {
        let here = [entry("e1", "/db", "/host", "u:1")];
        let check = |wanted: &[Entry], expected: &str| {
            let error = decide(&listed(wanted), &here, &Prune::Nothing).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error}");
        };
        let plain = |id: &str| entry(id, "/db", "/host", "u:1");
        check(
            &[plain(""), plain("")],
            "entries[1]: is the same entry as entries[0]",
        );
        check(
            &[plain("e9"), entry("e9", "/x", "/host", "u:1")],
            "entries[1]: is the same",
        );
        check(
            &[entry("e1", "/x", "/host", "u:1"), plain("")],
            "entries[1]: is the same",
        );
        check(&[plain("e9")], "entries[0]: the server has an entry");
    }

    #[test]
    fn forms_that_mean_the_same_are_no_change() {
        let mut here = entry("e1", "/db", "/host", "u:1");
        here.federates_with = vec!["b.org".into(), "a.org".into()];
        let mut wanted = entry("", "/db", "/host", "u:1");
        wanted.federates_with = vec!["spiffe://a.org".into(), "b.org".into()];
        wanted.additional_attributes = Some(proto::spire::api::types::entry::AdditionalAttributes::default());
        check(&[wanted.clone()], &[here.clone()], &Prune::Nothing, "");
        wanted.federates_with.pop();
        check(&[wanted], &[here], &Prune::Nothing, "~e1(federates_with)");
    }

    #[test]
    fn a_plan_reads_as_a_diff() {
        let here = [
            entry("e1", "/db", "/host", "u:1"),
            entry("e2", "/old", "/host", "u:1"),
        ];
        let changed = Entry {
            x509_svid_ttl: 60,
            ..with_hint("blue", entry("", "/db", "/host", "u:1"))
        };
        let wanted = [changed, entry("", "/new", "/host", "u:2 u:1")];
        let plan = decide(&listed(&wanted), &here, &Prune::ParentsOfFile).unwrap();
        let expected = "\
+ spiffe://td/new (parent spiffe://td/host)
    selectors: u:1, u:2
~ spiffe://td/db (parent spiffe://td/host) [e1]
    x509_svid_ttl: none → 60
    hint: none → blue
- spiffe://td/old (parent spiffe://td/host) [e2]
1 to create, 1 to update, 1 to delete, 0 unchanged";
        assert_eq!(plan.to_string(), expected);
    }
}
