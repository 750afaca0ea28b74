//! What is accepted, and what it takes.

use node_tpm::{Config, EventLogs};
use swtpm_tests::parties::{Machine, Outcome, Server, WIRE, claim, path};

#[test]
fn an_enrolled_host_attests_in_three_messages_and_then_in_one() {
    let mut machine = Machine::new();
    let mut server = Server::of(&machine);
    let (first, sent) = server.attest(&mut machine);
    assert_eq!(sent, 3);
    assert_eq!(first.suffix, machine.ek_hash().to_string());
    let of_keys = ["ek_hash", "pub_hash"].map(|kind| format!("{kind}:{}", machine.ek_hash()));
    assert_eq!(first.selectors[..2], of_keys);
    assert!(
        !first
            .selectors
            .iter()
            .any(|selector| selector.starts_with("policy:"))
    );
    assert!(first.can_reattest);
    assert!(claim(&first).activated.unwrap().name.is_some());

    machine.tpm().quotes = 0;
    let (second, sent) = server.attest(&mut machine);
    assert_eq!((sent, machine.tpm().quotes), (1, 1));
    assert_eq!(path(&second), path(&first));
    assert_eq!(claim(&second).activated, None);
}

#[test]
fn a_host_that_nobody_enrolled_is_a_newcomer_however_often() {
    let mut machine = Machine::new();
    let server = Server::new(&Config::default());
    for _ in 0..2 {
        let (outcome, sent) = server.converse(&mut machine, WIRE).unwrap();
        let Outcome::Newcomer(newcomer) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(sent, 2);
        assert_eq!(newcomer.endorsement_key.hash, Some(machine.ek_hash()));
        assert!(!newcomer.endorsement_key.is_certified);
    }
}

#[test]
fn another_selection_is_asked_for_once() {
    let mut machine = Machine::new();
    let mut server = Server::new(&Config {
        pcrs: "sha256:0-7".parse().unwrap(),
        ..Config::default()
    });
    server.enrol("host-1", machine.ek_hash());
    assert_eq!(server.attest(&mut machine).1, 3);
    assert_eq!(server.attest(&mut machine).1, 1);
    // A restarted agent begins with the standard selection; its log need not come again.
    let mut restarted = Machine::with(
        std::mem::take(&mut *machine.tpm()),
        &swtpm_tests::parties::event_log(),
    );
    assert_eq!(server.attest(&mut restarted).1, 2);
}

#[test]
fn a_wider_selection_takes_the_log_again() {
    let mut machine = Machine::new();
    let mut narrow = Server::new(&Config {
        pcrs: "sha256:0-7".parse().unwrap(),
        ..Config::default()
    });
    narrow.enrol("host-1", machine.ek_hash());
    narrow.attest(&mut machine);
    let mut wide = Server::new(&Config::default());
    wide.hosts = narrow.hosts;
    assert_eq!(wide.attest(&mut machine).1, 2);
    assert_eq!(wide.attest(&mut machine).1, 1);
}

#[test]
fn a_host_without_a_log_attests_where_logs_are_optional() {
    let mut machine = Machine::new();
    std::fs::remove_file(&machine.log).unwrap();
    let mut server = Server::new(&Config {
        event_log: EventLogs::Optional,
        ..Config::default()
    });
    server.enrol("host-1", machine.ek_hash());
    let (attested, sent) = server.attest(&mut machine);
    assert_eq!((sent, claim(&attested).appraised.event_log), (2, None));
}
