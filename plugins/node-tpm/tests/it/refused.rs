//! What is refused, and by which code.

use attest::{Digest, HashAlg, PcrValues};
use plugin_api::{NodeProver, RefusalKind, Step};
use swtpm_tests::{
    SoftwareTpm,
    parties::{Machine, Server, WIRE, Wire, code, event_log, replayed},
};

/// A host and a server that has seen it.
fn acquainted() -> (Machine, Server) {
    let mut machine = Machine::new();
    let mut server = Server::of(&machine);
    server.attest(&mut machine);
    (machine, server)
}

#[test]
fn evidence_is_worth_nothing_on_another_connection() {
    let (mut machine, server) = acquainted();
    let evidence = machine.begin(WIRE);
    let others = [
        Wire {
            exporter: [2; 32],
            ..WIRE
        },
        Wire {
            csr: b"another",
            ..WIRE
        },
    ];
    for other in others {
        assert_eq!(code(server.start(&evidence, other)), "extra_data");
    }
    assert!(matches!(server.start(&evidence, WIRE), Ok(Step::Done(_))));
}

#[test]
fn a_hello_that_was_changed_is_refused() {
    let (mut machine, server) = acquainted();
    let mut evidence = machine.begin(WIRE);
    let version = env!("CARGO_PKG_VERSION").as_bytes();
    let at = evidence
        .windows(version.len())
        .position(|window| window == version)
        .unwrap();
    evidence[at] ^= 1;
    assert_eq!(code(server.start(&evidence, WIRE)), "extra_data");
}

#[test]
fn the_community_plugin_is_told_apart() {
    let server = Server::of(&Machine::new());
    let payload = br#"{"EK":"AQAB","AKPub":"AAAA"}"#;
    assert_eq!(code(server.start(payload, WIRE)), "json_payload");
    assert_eq!(code(server.start(b"garbage", WIRE)), "message_malformed");
    assert_eq!(code(server.start(b"", WIRE)), "unexpected_message");
    assert_eq!(code(server.start(&vec![0; 300 * 1024], WIRE)), "too_large");
}

#[test]
fn a_key_that_software_could_hold_is_refused() {
    let mut machine = Machine::new();
    let server = Server::of(&machine);
    machine.tpm().ak_area.attributes &= !(1 << 1);
    assert_eq!(server.refuses(&mut machine), "ak_attributes");
}

#[test]
fn a_credential_for_another_key_is_not_recovered() {
    let mut machine = Machine::new();
    let server = Server::of(&machine);
    let evidence = machine.begin(WIRE);
    let Step::Challenge { send, .. } = server.start(&evidence, WIRE).unwrap() else {
        panic!("no challenge")
    };
    // The same endorsement key, but another attestation key.
    let other = SoftwareTpm::default();
    machine.tpm().ak_area = other.ak_area.clone();
    assert!(machine.prover.answer(&send).is_err());
    // Another TPM altogether.
    assert!(Machine::new().prover.answer(&send).is_err());
}

#[test]
fn a_wrong_answer_is_refused() {
    let mut machine = Machine::new();
    let server = Server::of(&machine);
    let answers: [&[u8]; 3] = [&[0x0a, 2, 1, 1], &[], b"\xff\xff"];
    let codes = ["credential_mismatch", "unexpected_message", "message_malformed"];
    for (answer, expected) in answers.into_iter().zip(codes) {
        let evidence = machine.begin(WIRE);
        let Step::Challenge { next, .. } = server.start(&evidence, WIRE).unwrap() else {
            panic!("no challenge")
        };
        assert_eq!(code(next.handle(answer, &server.context(WIRE, 2))), expected);
    }
}

#[test]
fn an_answer_does_not_serve_another_challenge() {
    let mut machine = Machine::new();
    let server = Server::of(&machine);
    let challenge = |machine: &mut Machine| {
        let evidence = machine.begin(WIRE);
        match server.start(&evidence, WIRE).unwrap() {
            Step::Challenge { send, next } => (send, next),
            other => panic!("{other:?}"),
        }
    };
    let (first, _) = challenge(&mut machine);
    let answer = machine.prover.answer(&first).unwrap();
    let (_, next) = challenge(&mut machine);
    let outcome = next.handle(&answer, &server.context(WIRE, 2));
    assert_eq!(code(outcome), "credential_mismatch");
}

#[test]
fn a_supplied_quote_is_over_the_nonce_of_its_challenge() {
    let mut machine = Machine::new();
    let server = Server::of(&machine);
    let need = |machine: &mut Machine, nonce: u8| {
        let evidence = machine.begin(WIRE);
        let Step::Challenge { send, next } = server.start(&evidence, WIRE).unwrap() else {
            panic!("no challenge")
        };
        let answer = machine.prover.answer(&send).unwrap();
        match next.handle(&answer, &server.context(WIRE, nonce)).unwrap() {
            Step::Challenge { send, next } => (send, next),
            other => panic!("{other:?}"),
        }
    };
    let (first, _) = need(&mut machine, 7);
    let replayed = machine.prover.answer(&first).unwrap();
    let (_, next) = need(&mut machine, 8);
    let outcome = next.handle(&replayed, &server.context(WIRE, 9));
    assert_eq!(code(outcome), "extra_data");
}

#[test]
fn a_key_of_another_host_is_refused() {
    let (mut machine, mut server) = acquainted();
    // An operator enrols the same machine's endorsement key for another host.
    let row = &server.hosts[0];
    let mut known_by_ak = (**row).clone();
    known_by_ak.endorsement_keys.clear();
    server.hosts = vec![known_by_ak.into()];
    server.enrol("host-2", machine.ek_hash());
    let refusal = server.converse(&mut machine, WIRE).unwrap_err();
    assert_eq!(
        (refusal.code, refusal.kind),
        ("ek_of_other_host", RefusalKind::Denied)
    );
    let alarmed: Vec<_> = refusal.alarms.iter().map(AsRef::as_ref).collect();
    assert_eq!(alarmed, ["host-1", "host-2"]);
    assert_eq!(refusal.said_by, None, "it is refused, and not quarantined");
}

#[test]
fn a_key_of_another_host_that_nothing_proves_alarms_nobody() {
    let (mut machine, mut server) = acquainted();
    let mut known_by_ak = (*server.hosts[0]).clone();
    known_by_ak.endorsement_keys.clear();
    server.hosts = vec![known_by_ak.into()];
    server.enrol("host-2", machine.ek_hash());
    machine.tpm().alter = |statement| statement.extra_data = vec![0; 32];
    let refusal = server.converse(&mut machine, WIRE).unwrap_err();
    assert_eq!((refusal.code, refusal.alarms.len()), ("extra_data", 0));
}

#[test]
fn pcrs_that_the_log_does_not_explain_are_named() {
    let mut machine = Machine::new();
    let server = Server::of(&machine);
    machine.tpm().values.extend(HashAlg::Sha256, 4, &[1; 32]);
    let refusal = server.converse(&mut machine, WIRE).unwrap_err();
    assert_eq!(
        (refusal.code, refusal.kind),
        ("log_mismatch", RefusalKind::Denied)
    );
    assert!(refusal.source.to_string().contains("PCR 4"), "{}", refusal.source);
}

#[test]
fn a_known_host_that_booted_something_else_is_refused() {
    let (mut machine, server) = acquainted();
    machine.tpm().values.extend(HashAlg::Sha256, 7, &[1; 32]);
    assert_eq!(server.refuses(&mut machine), "log_mismatch");
}

#[test]
fn a_host_without_a_log_is_refused() {
    let mut machine = Machine::new();
    let server = Server::of(&machine);
    std::fs::remove_file(&machine.log).unwrap();
    let refusal = server.converse(&mut machine, WIRE).unwrap_err();
    // That its log can't be read is no word of the host that condemns it.
    assert_eq!((refusal.code, refusal.said_by), ("log_missing", None));
}

#[test]
fn a_host_that_does_not_measure_its_boot_is_refused() {
    let mut values = replayed(&event_log());
    for pcr in 0..8 {
        values.set(HashAlg::Sha256, pcr, Digest::filled(0, HashAlg::Sha256));
    }
    let mut machine = Machine::with(SoftwareTpm::with(values), &event_log());
    let server = Server::of(&machine);
    assert_eq!(server.refuses(&mut machine), "log_mismatch");
    let mut machine = Machine::with(SoftwareTpm::with(PcrValues::default()), b"no log at all");
    let server = Server::of(&machine);
    assert_eq!(server.refuses(&mut machine), "log_malformed");
}

#[test]
fn statements_that_no_tpm_makes_are_refused() {
    let check = |alter: fn(&mut swtpm_tests::structures::Statement), expected| {
        let (mut machine, server) = acquainted();
        machine.tpm().alter = alter;
        assert_eq!(server.refuses(&mut machine), expected);
    };
    check(|statement| statement.magic = 1, "attest_magic");
    check(|statement| statement.kind = 0x8017, "malformed");
    check(|statement| statement.extra_data = vec![0; 32], "extra_data");
    check(|statement| statement.signer = vec![0, 11, 1], "qualified_signer");
}
