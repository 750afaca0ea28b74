//! IDs that stand for hardware: what a TPM vouches for is not to be had by less.
//!
//! An ID that a node alias gives by selectors of a TPM's attestor is *hardware-only*. No entry or token may give it
//! to agents of other attestors, and none that does all the same, because it was there before, counts; unless the
//! server's setting `mixed` says that IDs may be shared.

use std::sync::Arc;

use super::{Agent, Entry, EntryId, Snapshot};

/// The attestor whose selectors, and whose agents, stand for hardware: its name is the type of its selectors.
const ATTESTOR: &str = "tpm";
/// Where its agents have their IDs.
const AGENTS: &str = "/spire/agent/tpm/";

/// An ID would be given both by hardware and without.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "`{id}` stands for hardware by entry `{hardware}`, and not by {other}: whoever is no TPM could have it (mixed_id); \
     take another ID, add a `{ATTESTOR}:` selector or the ID of a TPM's agent as parent, or set `mixed` on the server"
)]
pub struct Mixed {
    /// The ID.
    id: String,
    /// The alias that makes it hardware-only.
    hardware: EntryId,
    /// What gives it without.
    other: Without,
}

/// What gives an ID without hardware.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Without {
    /// An entry that is there.
    Entry(EntryId),
    /// What is to be created.
    New,
}

impl std::fmt::Display for Without {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Entry(id) => write!(f, "entry `{id}`"),
            Self::New => f.write_str("what is asked for"),
        }
    }
}

impl Entry {
    /// Whether it makes its ID hardware-only.
    #[must_use]
    pub fn is_hardware_alias(&self) -> bool {
        self.is_node_alias() && self.selectors.iter().any(|selector| selector.kind() == ATTESTOR)
    }
}

/// Whether `entry` may be added, or take the place of the one with its identifier.
///
/// # Errors
///
/// Its ID would be given both by hardware and without.
pub(super) fn check(snapshot: &Snapshot, entry: &Entry) -> Result<(), Mixed> {
    if snapshot.mixed {
        return Ok(());
    }
    let namesakes = || {
        let all = snapshot.entries.with_spiffe_id(&entry.spiffe_id.path);
        all.filter(|other| other.id() != entry.id())
    };
    let (hardware, other) = if entry.is_hardware_alias() {
        let without = namesakes().find(|other| !stands_for_hardware(snapshot, other));
        (
            Some(entry.id()),
            without.map(|other| Without::Entry(Arc::clone(other.id()))),
        )
    } else {
        let alias = namesakes().find(|other| other.is_hardware_alias());
        let stands = alias.is_none() || stands_for_hardware(snapshot, entry);
        (alias.map(|alias| alias.id()), (!stands).then_some(Without::New))
    };
    match (hardware, other) {
        (Some(hardware), Some(other)) => Err(Mixed {
            id: format!("spiffe://{}{}", snapshot.trust_domain, entry.spiffe_id.path),
            hardware: Arc::clone(hardware),
            other,
        }),
        _ => Ok(()),
    }
}

/// How many entries give a hardware-only ID without hardware. They count for nothing.
#[must_use]
pub fn mixed_entries(snapshot: &Snapshot) -> usize {
    let ids = snapshot.entries.hardware_ids();
    let namesakes = ids.flat_map(|path| snapshot.entries.with_spiffe_id(path));
    namesakes
        .filter(|entry| !stands_for_hardware(snapshot, entry))
        .count()
}

/// Whether `agent` may have the ID with this path, as far as hardware goes.
pub(super) fn may_have(snapshot: &Snapshot, agent: &Agent, path: &Arc<str>) -> bool {
    snapshot.mixed || agent.attestation_type == ATTESTOR || !snapshot.entries.is_hardware(path)
}

/// Whether an entry gives its ID to nobody but TPMs' agents.
fn stands_for_hardware(snapshot: &Snapshot, entry: &Entry) -> bool {
    let parent = &entry.parent_id.path;
    entry.is_hardware_alias() || parent.starts_with(AGENTS) || snapshot.entries.is_hardware(parent)
}

#[cfg(test)]
mod tests {
    use svid::{Timestamp, TrustDomain, x509::SerialNumber};

    use super::{
        super::{AgentSvid, PathKey, authorized_entries, entry::SERVER_PATH, is_authorized},
        *,
    };

    const TOKENS_AGENT: &str = "/spire/agent/join_token/a";

    fn entry(id: &str, parent: &str, path: &str, selectors: &[&str]) -> Entry {
        let key = |path: &str| PathKey {
            path: path.into(),
            id: id.into(),
        };
        Entry {
            spiffe_id: key(path),
            parent_id: key(parent),
            selectors: selectors.iter().map(|text| text.parse().unwrap()).collect(),
            ..Entry::default()
        }
    }

    /// Two IDs: one that TPMs' nodes have, and one that tokens' nodes have.
    fn snapshot() -> Snapshot {
        let mut snapshot = Snapshot::empty(TrustDomain::parse("td").unwrap());
        for entry in [
            entry("hard", SERVER_PATH, "/vm", &["tpm:policy:vm"]),
            entry(
                "soft",
                SERVER_PATH,
                "/ci",
                &["spiffe_id:spiffe://td/spire/agent/join_token/a"],
            ),
            entry("child", "/vm", "/db", &["unix:uid:1"]),
        ] {
            snapshot.entries.insert(Arc::new(entry));
        }
        snapshot
    }

    #[test]
    fn what_hardware_has_is_given_to_nobody_else() {
        let tpm = "/spire/agent/tpm/0011";
        for (parent, path, selectors, stands_in_the_way) in [
            (SERVER_PATH, "/vm", &["spiffe_id:spiffe://td/x"][..], Some("hard")),
            (SERVER_PATH, "/vm", &["join_token:x"], Some("hard")),
            (TOKENS_AGENT, "/vm", &["unix:uid:1"], Some("hard")),
            ("/ci", "/vm", &["unix:uid:1"], Some("hard")),
            (SERVER_PATH, "/ci", &["tpm:policy:vm"], Some("new")),
            // More hardware, and IDs that are not hardware-only.
            (SERVER_PATH, "/vm", &["tpm:vendor:STM"], None),
            (
                SERVER_PATH,
                "/vm",
                &["tpm:vendor:STM", "spiffe_id:spiffe://td/x"],
                None,
            ),
            (tpm, "/vm", &["unix:uid:1"], None),
            ("/vm", "/vm", &["unix:uid:1"], None),
            (TOKENS_AGENT, "/db", &["unix:uid:1"], None),
            (TOKENS_AGENT, "/ci", &["unix:uid:1"], None),
        ] {
            let new = entry("new", parent, path, selectors);
            let mut snapshot = snapshot();
            let refused = check(&snapshot, &new).err();
            let hardware = refused.as_ref().map(|mixed| mixed.hardware.as_ref());
            assert_eq!(hardware, stands_in_the_way, "{parent} {path} {selectors:?}");
            snapshot.mixed = true;
            assert_eq!(check(&snapshot, &new), Ok(()), "{parent} {path} {selectors:?}");
        }
    }

    /// What was there before the rule gives nobody but hardware anything, by whatever way.
    #[test]
    fn an_agent_without_a_tpm_reaches_nothing_through_hardware() {
        let ids = |snapshot: &Snapshot, attestor: &str| {
            let agent = agent(attestor);
            let now = Timestamp::from_unix(0);
            let listed = authorized_entries(snapshot, &agent, now);
            for entry in snapshot.entries.after("") {
                let is_listed = listed.iter().any(|other| other.id() == entry.id());
                let is_authorized = is_authorized(snapshot, &agent, entry.id(), now).is_some();
                assert_eq!(is_authorized, is_listed, "{attestor} {}", entry.id());
            }
            let mut ids: Vec<_> = listed.iter().map(|entry| entry.id().to_string()).collect();
            ids.sort();
            ids
        };
        let mut snapshot = snapshot();
        for old in [
            entry(
                "alias",
                SERVER_PATH,
                "/vm",
                &["spiffe_id:spiffe://td/spire/agent/join_token/a"],
            ),
            entry("own", TOKENS_AGENT, "/vm", &["unix:uid:1"]),
            entry("web", "/ci", "/web", &["unix:uid:1"]),
        ] {
            snapshot.entries.insert(Arc::new(old));
        }
        assert_eq!(ids(&snapshot, "join_token"), ["web"]);
        assert_eq!(ids(&snapshot, ATTESTOR), ["child", "own", "web"]);
        snapshot.mixed = true;
        assert_eq!(ids(&snapshot, "join_token"), ["child", "own", "web"]);
    }

    fn agent(attestation_type: &str) -> Agent {
        Agent {
            path: TOKENS_AGENT.into(),
            attestation_type: attestation_type.into(),
            current: AgentSvid {
                serial: SerialNumber::from_bytes(&[1]),
                not_after: Timestamp::from_unix(1000),
            },
            next: None,
            banned: false,
            can_reattest: false,
            selectors: std::iter::once("spiffe_id:spiffe://td/spire/agent/join_token/a".parse().unwrap())
                .collect(),
            version: String::new(),
            host: None,
            attested_at: Timestamp::from_unix(0),
        }
    }

    #[test]
    fn an_entry_does_not_stand_in_its_own_way() {
        let snapshot = snapshot();
        assert_eq!(
            check(&snapshot, &entry("hard", SERVER_PATH, "/vm", &["join_token:x"])),
            Ok(())
        );
        assert_eq!(
            check(&snapshot, &entry("soft", SERVER_PATH, "/ci", &["tpm:policy:vm"])),
            Ok(())
        );
    }

    #[test]
    fn the_refusal_says_what_stands_in_the_way() {
        let new = entry("new", SERVER_PATH, "/ci", &["tpm:policy:vm"]);
        let said = check(&snapshot(), &new).unwrap_err().to_string();
        assert!(
            said.starts_with("`spiffe://td/ci` stands for hardware by entry `new`, and not by entry `soft`"),
            "{said}"
        );
        assert!(said.contains("mixed_id"), "{said}");
    }

    #[test]
    fn entries_from_before_are_counted() {
        let mut snapshot = snapshot();
        assert_eq!(mixed_entries(&snapshot), 0);
        snapshot
            .entries
            .insert(Arc::new(entry("old", TOKENS_AGENT, "/vm", &["unix:uid:1"])));
        assert_eq!(mixed_entries(&snapshot), 1);
        snapshot.entries.remove("hard");
        assert_eq!(mixed_entries(&snapshot), 0);
    }
}
