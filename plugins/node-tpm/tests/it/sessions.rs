//! Evidence with which a session opens.

use attest::HashAlg;
use plugin_api::{Context, NodeAttestor, NodeProver};
use swtpm_tests::parties::{Machine, Server, WIRE, Wire, code, path};

const EXPORTER: [u8; 32] = [9; 32];

fn acquainted() -> (Machine, Server, String) {
    let mut machine = Machine::new();
    let mut server = Server::of(&machine);
    let (attested, _) = server.attest(&mut machine);
    (machine, server, path(&attested))
}

fn evidence(machine: &mut Machine) -> Vec<u8> {
    machine.prover.resume(&EXPORTER).unwrap().unwrap()
}

#[test]
fn a_known_host_opens_a_session_with_one_quote() {
    let (mut machine, server, path) = acquainted();
    machine.tpm().quotes = 0;
    let evidence = evidence(&mut machine);
    assert_eq!(machine.tpm().quotes, 1);
    let claim = server.resume(&evidence, &path, EXPORTER).unwrap();
    assert_eq!((&*claim.id, claim.revision), ("host-1", 2));
}

#[test]
fn evidence_of_one_kind_does_not_pass_for_the_other() {
    let (mut machine, server, path) = acquainted();
    let session = evidence(&mut machine);
    let wire = Wire {
        exporter: EXPORTER,
        csr: &[],
    };
    assert_eq!(code(server.start(&session, wire)), "extra_data");
    let attestation = machine.begin(WIRE);
    assert_eq!(
        code(server.resume(&attestation, &path, WIRE.exporter)),
        "extra_data"
    );
}

#[test]
fn a_session_is_opened_by_its_own_host_alone() {
    let (mut machine, server, _) = acquainted();
    let evidence = evidence(&mut machine);
    let refusal = server
        .resume(&evidence, "/spire/agent/tpm/other", EXPORTER)
        .unwrap_err();
    assert_eq!(refusal.code, "ak_of_other_host");
    let alarmed: Vec<_> = refusal.alarms.iter().map(AsRef::as_ref).collect();
    assert_eq!(alarmed, ["host-1"]);
}

/// Evidence that is bound to nothing could be anybody's.
#[test]
fn a_connection_without_an_exporter_takes_no_evidence() {
    let (mut machine, server, path) = acquainted();
    let session = evidence(&mut machine);
    let attestation = machine.begin(WIRE);
    let unbound = || Context {
        exporter: None,
        ..server.context(WIRE, 1)
    };
    assert_eq!(code(server.attestor.start(&attestation, &unbound())), "not_bound");
    assert_eq!(
        code(server.attestor.resume(&session, &path, &unbound())),
        "not_bound"
    );
}

#[test]
fn a_host_that_nobody_knows_opens_no_session() {
    let (mut machine, _, path) = acquainted();
    let evidence = evidence(&mut machine);
    let server = Server::of(&machine);
    assert_eq!(
        code(server.resume(&evidence, &path, EXPORTER)),
        "ak_of_other_host"
    );
}

#[test]
fn other_pcrs_take_an_attestation() {
    let (mut machine, server, path) = acquainted();
    machine.tpm().values.extend(HashAlg::Sha256, 7, &[1; 32]);
    let evidence = evidence(&mut machine);
    assert_eq!(code(server.resume(&evidence, &path, EXPORTER)), "evidence_new");
}

#[test]
fn a_host_knows_its_own_endorsement_key() {
    let (machine, server, _) = acquainted();
    let mut machine = machine;
    let row = &server.hosts[0];
    assert_eq!(
        row.endorsement_key_name(),
        None,
        "this server's records don't learn names"
    );
    let key = attest::wire::Public::parse(&machine.tpm().endorsement_key()).unwrap();
    assert!(machine.prover.recognise(key.name().as_bytes()).is_ok());
    let refused = machine.prover.recognise(&[0, 11, 1]).unwrap_err();
    assert!(refused.to_string().contains("between CPU and TPM"), "{refused}");
}
