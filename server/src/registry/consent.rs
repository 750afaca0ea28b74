//! Orders that count once two people gave them: the first is noted in the host's row, another person completes it by
//! ordering the same. Each a decision on a [`Draft`].

use std::{sync::Arc, time::Duration};

use plugin_api::{Host, Proposal};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::Draft;
use crate::journal::Record;

/// How many people it takes to let a host in: to enrol it, to lift its quarantine, to give it another endorsement key.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Approvals {
    /// Whoever administers.
    #[default]
    One,
    /// Two different ones.
    Two,
}

/// Who gives an order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Orderer {
    /// As the audit trail has it.
    pub actor: String,
    /// By which people are told apart.
    pub person: String,
    /// How many it takes.
    pub needed: Approvals,
}

/// How long the first order waits for the second.
const WAITS_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// Carries `order` out on the host `id`, or notes it until another person orders the same `what`. What can't be carried out
/// is refused at once.
///
/// # Errors
///
/// Those of the order.
pub fn with_consent<E>(
    draft: &mut Draft,
    id: &str,
    what: &str,
    by: &Orderer,
    order: impl Fn(&mut Draft) -> Result<Arc<Host>, E>,
) -> Result<Arc<Host>, E> {
    let host = draft.state().hosts.get(id).cloned();
    let host = host.filter(|_| by.needed == Approvals::Two);
    let Some(host) = host.filter(|_| order(&mut draft.rehearsal()).is_ok()) else {
        return order(draft);
    };
    if is_second(draft, &host, what, by) {
        let done = order(draft)?;
        return Ok(draft.put_host(Host {
            proposal: None,
            ..(*done).clone()
        }));
    }
    Ok(note(draft, &host, what, by))
}

fn is_second(draft: &Draft, host: &Host, what: &str, by: &Orderer) -> bool {
    host.proposal.as_ref().is_some_and(|first| {
        first.what == what && first.by != by.person && draft.now().since(first.at) < WAITS_FOR
    })
}

/// Notes the order of the first person. The same once more is no news.
fn note(draft: &mut Draft, host: &Arc<Host>, what: &str, by: &Orderer) -> Arc<Host> {
    let is_same = |first: &&Proposal| first.what == what && first.by == by.person;
    if host.proposal.as_ref().filter(is_same).is_some() {
        return Arc::clone(host);
    }
    let record = Record::new("host_order_noted", &by.actor)
        .with("host_id", &host.id)
        .with("host_name", &host.name)
        .with("order", &what);
    draft.audit(record);
    draft.put_host(Host {
        proposal: Some(Proposal {
            what: what.into(),
            by: by.person.clone(),
            at: draft.now(),
        }),
        ..(**host).clone()
    })
}

impl<'de> Deserialize<'de> for Approvals {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            1 => Ok(Self::One),
            2 => Ok(Self::Two),
            _ => Err(D::Error::custom("it takes 1 or 2 people to let a host in")),
        }
    }
}

#[cfg(test)]
mod tests {
    use svid::{Timestamp, TrustDomain};

    use super::*;
    use crate::registry::Snapshot;

    const START: i64 = 1_000_000;

    fn person(name: &str, needed: Approvals) -> Orderer {
        Orderer {
            actor: format!("{name} pid=7"),
            person: name.into(),
            needed,
        }
    }

    struct World(Snapshot);

    impl World {
        fn new() -> Self {
            let mut state = Snapshot::empty(TrustDomain::parse("td").unwrap());
            let host = Host::enrolled("h".into(), Timestamp::from_unix(START));
            state.hosts.insert(Arc::new(host));
            Self(state)
        }

        /// Whether an order to give the host this name is carried out, and what is audited. That it be called `bad` can't be.
        fn order(&mut self, name: &str, by: &Orderer, at: i64) -> (Result<bool, ()>, Vec<&'static str>) {
            let mut draft = Draft::new(self.0.clone(), Timestamp::from_unix(START + at));
            let rename = |draft: &mut Draft| {
                let host = draft.state().hosts.get("h").cloned().ok_or(())?;
                draft.audit(Record::new("renamed", &by.actor));
                let name = Some(name).filter(|name| *name != "bad").ok_or(())?;
                Ok(draft.put_host(Host {
                    name: name.into(),
                    ..(*host).clone()
                }))
            };
            let done = with_consent(&mut draft, "h", name, by, rename);
            let finished = draft.finish();
            self.0 = finished.state;
            let events = finished.audit.iter().map(Record::event).collect();
            let is_done = done.map(|host| host.name == name && host.proposal.is_none());
            (is_done, events)
        }
    }

    #[test]
    fn where_one_is_enough_nothing_waits() {
        let alice = person("alice", Approvals::One);
        assert_eq!(World::new().order("db", &alice, 0), (Ok(true), vec!["renamed"]));
    }

    #[test]
    fn two_different_people_order_the_same() {
        let (alice, bob) = (person("alice", Approvals::Two), person("bob", Approvals::Two));
        let mut world = World::new();
        let noted = || (Ok(false), vec!["host_order_noted"]);
        assert_eq!(world.order("db", &alice, 0), noted());
        assert_eq!(
            world.order("db", &alice, 1),
            (Ok(false), vec![]),
            "once more is not twice"
        );
        assert_eq!(
            world.order("web", &bob, 2),
            noted(),
            "another order is another's first"
        );
        assert_eq!(world.order("db", &alice, 3), noted());
        assert_eq!(world.order("db", &bob, 4), (Ok(true), vec!["renamed"]));
        assert_eq!(world.order("db", &bob, 5), noted(), "it begins anew");
    }

    #[test]
    fn the_first_waits_for_a_week() {
        let (alice, bob) = (person("alice", Approvals::Two), person("bob", Approvals::Two));
        let mut world = World::new();
        let week = 7 * 24 * 3600;
        let _noted = world.order("db", &alice, 0);
        assert_eq!(
            world.order("db", &bob, week),
            (Ok(false), vec!["host_order_noted"])
        );
        assert_eq!(
            world.order("db", &alice, 2 * week - 1),
            (Ok(true), vec!["renamed"])
        );
    }

    #[test]
    fn what_can_not_be_is_refused_at_once() {
        let alice = person("alice", Approvals::Two);
        let mut world = World::new();
        let (refused, _) = world.order("bad", &alice, 0);
        assert_eq!(refused, Err(()));
        assert!(world.0.hosts.get("h").unwrap().proposal.is_none());
    }

    #[test]
    fn it_takes_one_or_two() {
        let read = |text: &str| serde_json::from_str::<Approvals>(text).ok();
        assert_eq!(
            (read("1"), read("2")),
            (Some(Approvals::One), Some(Approvals::Two))
        );
        assert_eq!((read("0"), read("3"), read("\"2\"")), (None, None, None));
    }
}
