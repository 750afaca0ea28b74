//! Where logs are optional: what a host without one may do, and what one that hides its log may not.

use attest::HashAlg;
use node_tpm::{Config, EventLogs};
use plugin_api::{NodeProver, Step};
use prost::Message;
use proto::plastron::attest::v1 as wire;
use swtpm_tests::{
    parties::{Machine, Server, WIRE, code, path},
    vendor::Ca,
};

fn lenient(machine: &Machine) -> Server {
    let mut server = Server::new(&Config {
        event_log: EventLogs::Optional,
        ..Config::default()
    });
    server.enrol("host-1", machine.ek_hash());
    server
}

#[test]
fn a_log_that_a_host_had_once_it_has_to_show() {
    let mut machine = Machine::new();
    let mut server = lenient(&machine);
    server.attest(&mut machine);
    let mut hidden = Machine::with(std::mem::take(&mut *machine.tpm()), &[]);
    std::fs::remove_file(&hidden.log).unwrap();
    hidden.tpm().values.extend(HashAlg::Sha256, 4, &[1; 32]);
    let refusal = server.converse(&mut hidden, WIRE).unwrap_err();
    assert_eq!((refusal.code, refusal.said_by), ("log_missing", None));
}

/// The answer to the request for a log, without the log.
#[test]
fn a_log_that_a_host_says_it_has_it_has_to_send() {
    let mut machine = Machine::new();
    let server = lenient(&machine);
    let mut message = machine.begin(WIRE);
    let mut step = server.start(&message, WIRE).unwrap();
    for number in 2.. {
        let Step::Challenge { send, next } = step else {
            panic!("accepted without its log")
        };
        message = without_log(&machine.prover.answer(&send).unwrap());
        match next.handle(&message, &server.context(WIRE, number)) {
            Ok(following) => step = following,
            Err(refusal) => {
                assert_eq!(
                    (refusal.code, refusal.said_by.as_deref()),
                    ("log_missing", Some("host-1"))
                );
                return;
            }
        }
    }
}

#[test]
fn a_session_opens_without_a_log_where_pcrs_are_as_they_were() {
    let mut machine = Machine::new();
    std::fs::remove_file(&machine.log).unwrap();
    let mut server = lenient(&machine);
    let (attested, _) = server.attest(&mut machine);
    let path = path(&attested);
    let resume = |machine: &mut Machine| {
        let evidence = machine.prover.resume(&[9; 32]).unwrap().unwrap();
        server.resume(&evidence, &path, [9; 32])
    };
    assert!(resume(&mut machine).is_ok());
    machine.tpm().values.extend(HashAlg::Sha256, 4, &[1; 32]);
    assert_eq!(code(resume(&mut machine)), "evidence_new");
}

/// What the certificate of a TPM says is known without a log as well, and stays so.
#[test]
fn what_a_certificate_says_is_a_selector_without_a_log() {
    let ca = Ca::root("maker", |_| ());
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("root.der"), &ca.der).unwrap();
    let mut machine = Machine::new();
    std::fs::remove_file(&machine.log).unwrap();
    machine.endorse(&ca, |_| ());
    let mut server = Server::new(&Config {
        event_log: EventLogs::Optional,
        ek_roots: Some(dir.path().into()),
        ..Config::default()
    });
    server.enrol("host-1", machine.ek_hash());
    let certified = |selectors: &[String]| {
        let is_meant = |selector: &&String| selector.starts_with("vendor:") || selector.starts_with("model:");
        selectors.iter().filter(is_meant).cloned().collect::<Vec<_>>()
    };
    let expected = ["model:Carapace", "vendor:PLST"];

    let (first, _) = server.attest(&mut machine);
    assert_eq!(certified(&first.selectors), expected);
    // It is known by now: its certificate is not looked at again.
    let (second, sent) = server.attest(&mut machine);
    assert_eq!(
        (sent, certified(&second.selectors)),
        (1, expected.map(str::to_owned).into())
    );
    let evidence = machine.prover.resume(&[9; 32]).unwrap().unwrap();
    let claim = server.resume(&evidence, &path(&second), [9; 32]).unwrap();
    assert_eq!(certified(&claim.appraised.selectors), expected);

    // Another TPM, of which no certificate is known: an operator's `replace-tpm` forgets what was appraised.
    let mut other = Machine::new();
    std::fs::remove_file(&other.log).unwrap();
    let host = std::sync::Arc::make_mut(&mut server.hosts[0]);
    (host.attestation_key, host.appraised) = (None, None);
    host.endorsement_keys[0].hash = Some(other.ek_hash());
    let (replaced, _) = server.attest(&mut other);
    assert_eq!(certified(&replaced.selectors), [""; 0]);
}

fn without_log(answer: &[u8]) -> Vec<u8> {
    let mut answer = wire::Answer::decode(answer).unwrap();
    if let Some(wire::answer::Step::Supplied(supplied)) = &mut answer.step {
        supplied.logs.clear();
    }
    answer.encode_to_vec()
}
