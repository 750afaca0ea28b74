use attest::policy::GenerationsError;
use svid::TrustDomain;

use super::*;
use crate::registry::Snapshot;

const NOW: Timestamp = Timestamp::from_unix(1000);

/// What is known, and what was audited.
struct World {
    state: Snapshot,
    audited: Vec<&'static str>,
}

fn world() -> World {
    World {
        state: Snapshot::empty(TrustDomain::parse("td").unwrap()),
        audited: Vec::new(),
    }
}

/// Policy `name`, which pins PCR 4 to something that only this version says.
fn policy(name: &str, version: u32) -> NewPolicy {
    let text = format!(
        "format = 1\nname = \"{name}\"\nversion = {version}\n[[pcr]]\nindex = 4\nvalues = [\"{version:064x}\"]\n"
    );
    NewPolicy {
        policy: Policy::parse(text.as_bytes()).unwrap(),
        text,
        is_signed: false,
    }
}

fn name(name: &str) -> PolicyName {
    name.parse().unwrap()
}

/// The generation of that version of policy `a`; of 0, any.
fn version(version: u32) -> Which {
    let generation = match version {
        0 => String::new(),
        version => policy("a", version).policy.generation_id().to_string(),
    };
    Which {
        name: name("a"),
        generation,
    }
}

fn promote(which: u32) -> PolicyOrder {
    PolicyOrder::Promote {
        which: version(which),
        retires_others: false,
    }
}

impl World {
    fn change<T>(&mut self, change: impl FnOnce(&mut Draft) -> T) -> T {
        let mut draft = Draft::new(self.state.clone(), NOW);
        let outcome = change(&mut draft);
        let finished = draft.finish();
        self.state = finished.state;
        self.audited = finished.audit.iter().map(Record::event).collect();
        outcome
    }

    fn apply(&mut self, new: NewPolicy) -> Result<Vec<String>, PolicyRefused> {
        self.change(|draft| apply(draft, new, "op"))
            .map(|(_, changes)| changes)
    }

    fn order(&mut self, wanted: &PolicyOrder) -> Result<(), PolicyRefused> {
        self.change(|draft| order(draft, wanted, "op")).map(drop)
    }

    /// Versions of policy `a` with an `!` after those that are enforced.
    fn shown(&self) -> String {
        let policy = self.state.policies.get(&name("a")).unwrap();
        let shown = policy.generations().iter();
        let shown = shown.map(|known| {
            let mark = if known.is_enforced() { "!" } else { "" };
            format!("{}{mark}", known.version())
        });
        shown.collect::<Vec<_>>().join(" ")
    }
}

/// Of versions that are applied in this order, what becomes of them by the orders.
fn check(versions: &[u32], orders: &[PolicyOrder], expected: Result<&str, &PolicyRefused>, audited: &[&str]) {
    let mut world = world();
    for version in versions {
        world.apply(policy("a", *version)).unwrap();
    }
    let outcome = orders.iter().try_for_each(|order| world.order(order));
    assert_eq!(
        outcome.as_ref().map(|()| world.shown()),
        expected.map(str::to_owned)
    );
    assert_eq!(world.audited, audited);
}

#[test]
fn a_generation_is_staged_then_enforced_then_forgotten() {
    check(&[1], &[], Ok("1"), &["policy_applied"]);
    check(&[1], &[promote(1)], Ok("1!"), &["policy_promoted"]);
    check(&[1], &[promote(0)], Ok("1!"), &["policy_promoted"]);
    check(
        &[1, 2],
        &[promote(1), promote(0)],
        Ok("2! 1!"),
        &["policy_promoted"],
    );
    let alone = PolicyOrder::Promote {
        which: version(0),
        retires_others: true,
    };
    check(
        &[1, 2],
        &[promote(1), alone],
        Ok("2!"),
        &["policy_promoted", "policy_retired"],
    );
    let stage = PolicyOrder::Stage(version(0));
    check(&[1], &[promote(1), stage], Ok("1"), &["policy_staged"]);
    let retire = PolicyOrder::Retire(version(1));
    check(&[1, 2], &[promote(1), retire], Ok("2"), &["policy_retired"]);
    let all = PolicyOrder::Retire(version(0));
    check(
        &[1, 2],
        &[promote(1), all],
        Ok(""),
        &["policy_retired", "policy_retired"],
    );
}

#[test]
fn what_makes_no_sense_changes_nothing() {
    let ambiguous = PolicyRefused::Ambiguous(name("a"));
    let none = PolicyRefused::NoGeneration(name("a"));
    check(&[1, 2], &[promote(0)], Err(&ambiguous), &[]);
    check(&[1], &[promote(2)], Err(&none), &[]);
    check(&[1], &[promote(1), promote(1)], Err(&none), &[]);
    check(&[1], &[PolicyOrder::Stage(version(1))], Err(&none), &[]);
    check(&[1], &[PolicyOrder::Retire(version(2))], Err(&none), &[]);
    let other = PolicyOrder::Retire(Which {
        name: name("b"),
        generation: String::new(),
    });
    check(
        &[1],
        std::slice::from_ref(&other),
        Err(&PolicyRefused::NoPolicy(name("b"))),
        &[],
    );
}

#[test]
fn a_version_is_newer_than_any_before_also_of_those_that_are_forgotten() {
    let mut world = world();
    assert_eq!(world.apply(policy("a", 3)), Ok(Vec::new()));
    let changes = [
        format!("no longer: PCR 4 may be {:064x}", 3),
        format!("new: PCR 4 may be {:064x}", 2),
    ];
    let older = world.apply(policy("a", 2)).unwrap_err();
    let PolicyRefused::NotNewer {
        found: 2,
        newest: 3,
        changes: said,
        ..
    } = &older
    else {
        panic!("{older}")
    };
    assert!(changes.iter().all(|change| said.contains(change)), "{said:?}");
    assert!(older.to_string().contains(&changes[1]), "{older}");
    world.order(&PolicyOrder::Retire(version(3))).unwrap();
    assert!(world.apply(policy("a", 3)).is_err());
    assert_eq!(world.apply(policy("a", 4)), Ok(Vec::new()));
    // Another policy has versions of its own.
    assert_eq!(world.apply(policy("b", 1)), Ok(Vec::new()));
}

#[test]
fn two_generations_of_each_stage_are_the_most() {
    let mut world = world();
    for version in 1..=2 {
        world.apply(policy("a", version)).unwrap();
    }
    let too_many = Err(PolicyRefused::Generations(GenerationsError::TooMany));
    assert_eq!(world.apply(policy("a", 3)), too_many);
    world.order(&promote(1)).unwrap();
    world.order(&promote(2)).unwrap();
    world.apply(policy("a", 3)).unwrap();
    assert_eq!(world.order(&promote(3)).map(|()| Vec::new()), too_many);
    assert_eq!(world.shown(), "2! 1! 3");
}

#[test]
fn a_host_is_held_to_its_own_policies_or_to_those_for_all() {
    let mut world = world();
    world.apply(policy("a", 1)).unwrap();
    world.apply(policy("b", 1)).unwrap();
    for id in ["one", "two"] {
        world.state.hosts.insert(Arc::new(Host::enrolled(id.into(), NOW)));
    }
    let held_to = |world: &World, id: &str| {
        let host = world.state.hosts.get(id).unwrap();
        let names = world.state.policies.names_of(host).iter();
        names.map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    world.order(&PolicyOrder::Default(vec![name("a")])).unwrap();
    assert_eq!(world.audited, ["policies_assigned"]);
    let assigned = world.change(|draft| assign(draft, "two", vec![name("b")], "op"));
    assert_eq!((assigned, held_to(&world, "one")), (Some(Ok(())), "a".into()));
    assert_eq!(held_to(&world, "two"), "b");
    let of = |world: &World, id: &str| world.state.policies.of(world.state.hosts.get(id).unwrap());
    assert_ne!(of(&world, "one").generation(), of(&world, "two").generation());
    world.order(&PolicyOrder::Default(Vec::new())).unwrap();
    assert_eq!(held_to(&world, "one"), "");
    assert_eq!(of(&world, "one").generation(), 0);

    let unknown = world.change(|draft| assign(draft, "two", vec![name("c")], "op"));
    assert_eq!(unknown, Some(Err(PolicyRefused::NoPolicy(name("c")))));
    assert_eq!(
        world.change(|draft| assign(draft, "three", Vec::new(), "op")),
        None
    );
    let many = (0..=HostPolicies::MAX).map(|n| name(&n.to_string())).collect();
    let many = world.change(|draft| assign(draft, "two", many, "op"));
    assert!(
        matches!(many, Some(Err(PolicyRefused::TooMany { .. }))),
        "{many:?}"
    );
    assert_eq!(held_to(&world, "two"), "b");
}

#[test]
fn what_is_foreseen_is_what_comes() {
    let mut world = world();
    world.apply(policy("a", 1)).unwrap();
    world.order(&PolicyOrder::Default(vec![name("a")])).unwrap();
    let host = Host::enrolled("one".into(), NOW);
    let foreseen = foreseen(&world.state.policies, &promote(1), NOW).unwrap();
    let before = world.state.policies.of(&host);
    assert!(!before.is_enforced() && foreseen.of(&host).is_enforced());
    world.order(&promote(1)).unwrap();
    let after = world.state.policies.of(&host);
    assert_eq!(after.generation(), foreseen.of(&host).generation());
    assert_ne!(after.generation(), before.generation());
}
