//! What hosts are held to: reference values, staged and enforced.

use std::sync::Arc;

use attest::{
    HashAlg,
    event_log::EventLog,
    policy::{Evidence, Generation, Generations, Learned, Policy, Stage, learn},
};
use node_tpm::{Config, EventLogs};
use plugin_api::{NodeAttestor, NodeProver, Refusal, Round, SessionBinding, Step};
use prost::Message;
use proto::plastron::attest::v1 as wire;
use swtpm_tests::SoftwareTpm;

use swtpm_tests::parties::{Machine, Server, WIRE, captured, claim, code, event_log, replayed};

/// Another ThinkPad.
const OTHER: &str = "guard-issue926-x1carbon-before.eventlog.bin";

fn other() -> Machine {
    booted(OTHER)
}

fn booted(log: &str) -> Machine {
    let log = captured(log);
    Machine::with(SoftwareTpm::with(replayed(&log)), &log)
}

/// What is learned of a boot.
fn golden(log: &[u8], version: u32) -> Policy {
    let parsed = EventLog::parse(log).unwrap();
    let standard = attest::PcrSelection::standard();
    let values = replayed(log).select(&standard);
    let evidence = Evidence::recorded(&values, &parsed).unwrap();
    learn(
        &"rack-7".parse().unwrap(),
        version,
        &evidence,
        Learned::usual_pins(),
    )
    .policy
}

/// A policy with this rule.
fn rule(text: &str) -> Policy {
    let text = format!("format = 1\nname = \"rack-7\"\nversion = 9\n{text}");
    Policy::parse(text.as_bytes()).unwrap()
}

fn hold(server: &mut Server, generations: Vec<(Policy, Stage)>) {
    let all = generations
        .into_iter()
        .map(|(policy, stage)| Generation::new(policy, stage))
        .collect();
    server.policies = vec![Arc::new(Generations::new(all).unwrap())];
}

/// A round of the session that the last attestation opened.
fn round(server: &Server, machine: &mut Machine, binding: &SessionBinding) -> Result<Round, Refusal> {
    let mut step = 50;
    let context = server.context(WIRE, step);
    let mut asked = server
        .attestor
        .begin_round(&server.hosts[0], binding, &context)
        .unwrap();
    loop {
        step += 1;
        let answer = machine.prover.answer_round(&WIRE.exporter, &asked.send).unwrap();
        let context = server.context(WIRE, step);
        match asked.next.handle(&answer, &context)? {
            Round::Ask(more) => asked = more,
            outcome => return Ok(outcome),
        }
    }
}

fn binding(attested: &plugin_api::Attested) -> SessionBinding {
    let claim = claim(attested);
    SessionBinding {
        exporter: WIRE.exporter,
        hello: claim.hello,
        clock: claim.appraised.standing.clock,
        grown: None,
    }
}

#[test]
fn a_host_that_meets_its_policy_is_called_by_it_and_costs_one_message_from_then_on() {
    let mut machine = Machine::new();
    let mut server = Server::of(&machine);
    hold(&mut server, vec![(golden(&event_log(), 1), Stage::Enforced)]);
    let (first, _) = server.attest(&mut machine);
    let has = |selector: &str| first.selectors.iter().any(|known| known == selector);
    assert!(has("policy:rack-7"), "{:?}", first.selectors);
    let pcr0 = replayed(&event_log());
    let pcr0 = pcr0.get(HashAlg::Sha256, 0).unwrap();
    for selector in [
        format!("ek_hash:{}", machine.ek_hash()),
        format!("pcr:sha256:0:{pcr0}"),
        "secure_boot:on".into(),
        "firmware:0000000000000003".into(),
    ] {
        let kind = selector.rsplit_once(':').unwrap().0;
        let alike = first.selectors.iter().filter(|known| known.starts_with(kind));
        assert!(has(&selector), "{selector}: {:?}", alike.collect::<Vec<_>>());
    }
    let standing = &claim(&first).appraised.policies[0];
    assert!(standing.is_met() && standing.judgements[0].differences.is_empty());

    let (second, sent) = server.attest(&mut machine);
    assert_eq!((sent, &second.selectors), (1, &first.selectors));
    let unchanged = round(&server, &mut machine, &binding(&second));
    assert!(matches!(unchanged, Ok(Round::Unchanged(_))), "{unchanged:?}");
}

#[test]
fn a_host_that_does_not_meet_it_is_refused_with_what_differs() {
    let mut machine = other();
    let mut server = Server::of(&machine);
    hold(&mut server, vec![(golden(&event_log(), 1), Stage::Enforced)]);
    let refusal = server.converse(&mut machine, WIRE).unwrap_err();
    assert_eq!(
        (refusal.code, refusal.said_by.as_deref()),
        ("policy_not_met", Some("host-1"))
    );
    let said = refusal.source.to_string();
    for words in ["policy rack-7 is not met: version 1", "expected", "found"] {
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn what_is_staged_is_noted_and_nothing_follows_until_it_is_promoted() {
    let mut machine = other();
    let mut server = Server::of(&machine);
    let golden = golden(&event_log(), 1);
    hold(&mut server, vec![(golden.clone(), Stage::Staged)]);
    let (attested, _) = server.attest(&mut machine);
    assert!(!attested.selectors.contains(&"policy:rack-7".into()));
    let standing = claim(&attested).appraised.policies.remove(0);
    assert!(!standing.judgements[0].is_met() && standing.check().is_ok());
    let session = binding(&attested);
    assert!(matches!(
        round(&server, &mut machine, &session),
        Ok(Round::Unchanged(_))
    ));

    hold(&mut server, vec![(golden, Stage::Enforced)]);
    let refusal = round(&server, &mut machine, &session).unwrap_err();
    assert_eq!(
        (refusal.code, refusal.said_by.as_deref()),
        ("policy_not_met", Some("host-1"))
    );
    assert_eq!(server.refuses(&mut machine), "policy_not_met");
}

#[test]
fn another_generation_takes_a_full_look_at_a_host_that_shows_nothing_new() {
    let mut machine = Machine::new();
    let mut server = Server::of(&machine);
    let (attested, _) = server.attest(&mut machine);
    assert_eq!(server.attest(&mut machine).1, 1);
    let session = binding(&attested);

    hold(&mut server, vec![(golden(&event_log(), 1), Stage::Enforced)]);
    // An SVID alone opens no session under a policy that the host was never compared with.
    let evidence = machine.prover.resume(&[2; 32]).unwrap().unwrap();
    let path = server.hosts[0].agent_path.clone().unwrap();
    assert_eq!(code(server.resume(&evidence, &path, [2; 32])), "evidence_new");
    let Ok(Round::Changed(changed)) = round(&server, &mut machine, &session) else {
        panic!()
    };
    assert!(changed.event_log.is_some(), "the log is looked at again");
    assert!(changed.appraised.selectors.contains(&"policy:rack-7".into()));
    assert_eq!(server.attest(&mut machine).1, 2);
    assert_eq!(server.attest(&mut machine).1, 1);

    // What is taken back is gone from the selectors as well.
    server.policies.clear();
    let (attested, sent) = server.attest(&mut machine);
    assert_eq!(sent, 2);
    assert!(!attested.selectors.contains(&"policy:rack-7".into()));
}

#[test]
fn during_a_roll_out_the_old_boot_will_do_as_well_as_the_new() {
    let (mut old, mut new) = (Machine::new(), other());
    let both = vec![
        (golden(&event_log(), 1), Stage::Enforced),
        (golden(&captured(OTHER), 2), Stage::Enforced),
    ];
    for machine in [&mut old, &mut new] {
        let mut server = Server::of(machine);
        hold(&mut server, both.clone());
        let (attested, _) = server.attest(machine);
        assert!(attested.selectors.contains(&"policy:rack-7".into()));
    }
}

#[test]
fn a_pcr_that_no_log_tells_of_is_held_to_its_value() {
    let mut machine = Machine::new();
    machine.tpm().values.extend(HashAlg::Sha256, 15, &[1; 32]);
    let value = *machine.tpm().values.get(HashAlg::Sha256, 15).unwrap();
    let pinned = rule(&format!("[[pcr]]\nindex = 15\nvalues = [\"{value}\"]\n"));
    let mut server = Server::of(&machine);
    hold(&mut server, vec![(pinned, Stage::Enforced)]);
    let (attested, _) = server.attest(&mut machine);
    assert!(attested.selectors.contains(&format!("pcr:sha256:15:{value}")));
    assert_eq!(server.attest(&mut machine).1, 1);

    machine.tpm().values.extend(HashAlg::Sha256, 15, &[1; 32]);
    let refusal = round(&server, &mut machine, &binding(&attested)).unwrap_err();
    let said = refusal.source.to_string();
    assert_eq!(refusal.code, "policy_not_met");
    assert!(said.contains(&format!("found {}", hex_of(&machine))), "{said}");

    // Firmware's PCRs are no such: what is in them, the log tells.
    machine.tpm().values.extend(HashAlg::Sha256, 4, &[1; 32]);
    assert_eq!(server.refuses(&mut machine), "log_mismatch");
}

fn hex_of(machine: &Machine) -> String {
    machine.tpm().values.get(HashAlg::Sha256, 15).unwrap().to_string()
}

#[test]
fn a_host_without_a_log_does_not_meet_a_policy() {
    let mut machine = Machine::new();
    std::fs::remove_file(&machine.log).unwrap();
    let mut server = Server::new(&Config {
        event_log: EventLogs::Optional,
        ..Config::default()
    });
    server.enrol("host-1", machine.ek_hash());
    hold(&mut server, vec![(golden(&event_log(), 1), Stage::Staged)]);
    let (attested, _) = server.attest(&mut machine);
    hold(&mut server, vec![(golden(&event_log(), 1), Stage::Enforced)]);
    // It never had one: that is no reason to suspect it, in its session neither.
    let refusal = round(&server, &mut machine, &binding(&attested)).unwrap_err();
    assert_eq!((refusal.code, refusal.said_by), ("log_missing", None));
    assert_eq!(server.refuses(&mut machine), "log_missing");
}

#[test]
fn a_policy_that_changes_while_a_host_answers_condemns_nobody() {
    let mut machine = Machine::new();
    let mut server = Server::of(&machine);
    let (attested, _) = server.attest(&mut machine);
    let session = binding(&attested);
    machine.tpm().values.extend(HashAlg::Sha256, 15, &[1; 32]);
    let value = *machine.tpm().values.get(HashAlg::Sha256, 15).unwrap();

    // The host is asked for what the first policy needs.
    let pin = |index: u8| rule(&format!("[[pcr]]\nindex = {index}\nvalues = [\"{value}\"]\n"));
    hold(&mut server, vec![(pin(15), Stage::Enforced)]);
    let context = server.context(WIRE, 60);
    let asked = server.attestor.begin_round(&server.hosts[0], &session, &context);
    let asked = asked.unwrap();
    let answer = machine.prover.answer_round(&WIRE.exporter, &asked.send).unwrap();
    let Round::Ask(for_log) = asked.next.handle(&answer, &server.context(WIRE, 61)).unwrap() else {
        panic!()
    };
    let answer = machine
        .prover
        .answer_round(&WIRE.exporter, &for_log.send)
        .unwrap();
    // By the time it answers it is held to another one.
    hold(&mut server, vec![(golden(&event_log(), 1), Stage::Enforced)]);
    let again = for_log.next.handle(&answer, &server.context(WIRE, 62));
    assert!(matches!(again, Ok(Round::Ask(_))), "{again:?}");
}

/// The same while it attests: what it was asked for is not what counts now.
#[test]
fn a_policy_that_changes_while_a_host_attests_has_it_try_again() {
    let mut machine = Machine::new();
    let mut server = Server::of(&machine);
    hold(&mut server, vec![(golden(&event_log(), 1), Stage::Staged)]);
    let first = machine.begin(WIRE);
    let mut step = server.start(&first, WIRE).unwrap();
    for number in 2.. {
        let Step::Challenge { send, next } = step else {
            panic!("accepted under a policy that it was not asked for")
        };
        let answer = machine.prover.answer(&send).unwrap();
        if number == 3 {
            hold(&mut server, vec![(golden(&event_log(), 1), Stage::Enforced)]);
            let refused = next.handle(&answer, &server.context(WIRE, number));
            assert_eq!(code(refused), "policy_changed");
            return;
        }
        step = next.handle(&answer, &server.context(WIRE, number)).unwrap();
    }
}

/// The command lines of two boots of a virtual machine.
const COMMAND_LINE: &str =
    "console=ttyS0,115200 rootfstype=ramfs ima_policy=tcb ima_hash=sha256 quiet panic=-1";
const CHANGED: &str =
    "console=ttyS0,115200 rootfstype=ramfs ima_policy=tcb ima_hash=sha256 quiet panic=-1 vmtest.changed=1";

/// A policy of the first of them.
fn golden_kernel() -> Policy {
    let log = captured("vm-sb-56c.bin");
    let parsed = EventLog::parse(&log).unwrap();
    let values = replayed(&log).select(&"sha256:0-9,11-14".parse().unwrap());
    let evidence = Evidence::recorded(&values, &parsed).unwrap();
    let evidence = evidence.with_command_line(COMMAND_LINE);
    learn(&"rack-7".parse().unwrap(), 1, &evidence, Learned::usual_pins()).policy
}

/// PCRs hold the digest of a command line. The text that the host sends is believed as far as it has that.
#[test]
fn an_operator_reads_which_words_of_the_command_line_changed() {
    let said = |text: Option<&[u8]>| {
        let mut machine = booted("vm-sb-56c-cmd2.bin");
        if let Some(text) = text {
            std::fs::write(&machine.command_line, text).unwrap();
        }
        let mut server = Server::of(&machine);
        hold(&mut server, vec![(golden_kernel(), Stage::Enforced)]);
        let refusal = server.converse(&mut machine, WIRE).unwrap_err();
        assert_eq!(refusal.code, "policy_not_met");
        refusal.source.to_string()
    };
    let honest = said(Some(format!("{CHANGED}\n").as_bytes()));
    let expected = format!("command line: expected `{COMMAND_LINE}`, found `{CHANGED}`");
    assert!(honest.contains(&expected), "{honest}");
    let too_long = [b'x'; 5000];
    for nothing in [
        None,
        Some(&b"quiet"[..]),
        Some(b""),
        Some(b"\xff\xfe"),
        Some(&too_long),
    ] {
        let told = said(nothing);
        assert!(told.contains("found a text of digest"), "{told}");
        assert!(!told.contains("`quiet`") && !told.contains("vmtest"), "{told}");
    }
}

#[test]
fn a_command_line_that_no_kernel_has_is_refused() {
    let mut machine = Machine::new();
    let server = Server::of(&machine);
    let first = machine.begin(WIRE);
    let mut step = server.start(&first, WIRE).unwrap();
    for number in 2.. {
        let Step::Challenge { send, next } = step else {
            panic!("accepted")
        };
        let answer = machine.prover.answer(&send).unwrap();
        let mut answer = wire::Answer::decode(&*answer).unwrap();
        let mut is_last = false;
        if let Some(wire::answer::Step::Supplied(supplied)) = &mut answer.step {
            supplied.command_line = vec![b'x'; 4097].into();
            is_last = true;
        }
        let next = next.handle(&answer.encode_to_vec(), &server.context(WIRE, number));
        if is_last {
            assert_eq!(code(next), "too_large");
            return;
        }
        step = next.unwrap();
    }
}
