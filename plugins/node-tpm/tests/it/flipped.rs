//! Good evidence with each of its bytes changed, in every way, is refused.

use plugin_api::{NodeProver, Step, SvidKeyPlace};
use prost::Message;
use swtpm_tests::{
    parties::{Machine, Server, WIRE, Wire, claim, path},
    tampered,
};

use crate::{rounds::Session, svid_keys::acquainted_with_key};

/// How many more changes an answer may have than the first one: each is over another nonce.
const MORE: usize = 64;

#[test]
fn every_byte_of_a_first_message_counts() {
    let mut machine = Machine::new();
    let mut server = Server::of(&machine);
    server.attest(&mut machine);
    let evidence = machine.begin(WIRE);
    assert!(matches!(server.start(&evidence, WIRE), Ok(Step::Done(_))));
    for changed in tampered(&evidence) {
        assert!(server.start(&changed.bytes, WIRE).is_err(), "{changed:?}");
    }
}

/// Hello, quote, and the attestation key's word for the key of the request. Without that word, or with one that is called
/// something else, the key is one in memory: never one in the TPM of which something else was said.
#[test]
fn every_byte_of_a_first_message_with_a_key_in_the_tpm_counts() {
    let (mut machine, server, wire) = acquainted_with_key();
    let evidence = machine.begin(wire);
    let place = |evidence: &[u8]| match server.start(evidence, wire) {
        Ok(Step::Done(attested)) => claim(&attested).svid_key,
        Ok(other) => panic!("{other:?}"),
        Err(_) => None,
    };
    assert_eq!(place(&evidence), Some(SvidKeyPlace::Tpm));
    let end_of_quote = {
        let mut without = proto::plastron::attest::v1::Evidence::decode(&*evidence).unwrap();
        without.certification = None;
        without.encoded_len()
    };
    for changed in tampered(&evidence) {
        let expected = (changed.at == end_of_quote).then_some(SvidKeyPlace::Unproven);
        let found = place(&changed.bytes);
        assert!(found.is_none() || found == expected, "{changed:?}: {found:?}");
    }
}

#[test]
fn every_byte_of_a_request_counts() {
    let (mut machine, server, wire) = acquainted_with_key();
    let evidence = machine.begin(wire);
    for changed in tampered(wire.csr) {
        let other = Wire {
            csr: changed.bytes.clone().leak(),
            ..wire
        };
        assert!(server.start(&evidence, other).is_err(), "{changed:?}");
    }
}

#[test]
fn every_byte_of_the_evidence_that_opens_a_session_counts() {
    let mut machine = Machine::new();
    let mut server = Server::of(&machine);
    let (attested, _) = server.attest(&mut machine);
    let path = path(&attested);
    let evidence = machine.prover.resume(&[9; 32]).unwrap().unwrap();
    assert!(server.resume(&evidence, &path, [9; 32]).is_ok());
    for changed in tampered(&evidence) {
        let opened = server.resume(&changed.bytes, &path, [9; 32]);
        assert!(opened.is_err(), "{changed:?}");
    }
}

#[test]
fn every_byte_of_an_answer_in_a_session_counts() {
    let mut session = Session::open();
    let asked = session.ask();
    let changes = tampered(&session.answer(&asked.send)).count() + MORE;
    for change in 0..changes {
        let asked = session.ask();
        let answer = session.answer(&asked.send);
        // Signatures differ in length, and so do answers.
        if let Some(changed) = tampered(&answer).nth(change) {
            assert!(session.hear(asked, &changed.bytes).is_err(), "{changed:?}");
        }
    }
}

#[test]
fn every_byte_of_a_credential_counts() {
    let mut machine = Machine::new();
    let server = Server::of(&machine);
    let challenge = |machine: &mut Machine| {
        let evidence = machine.begin(WIRE);
        match server.start(&evidence, WIRE).unwrap() {
            Step::Challenge { send, next } => (machine.prover.answer(&send).unwrap(), next),
            other => panic!("{other:?}"),
        }
    };
    let changes = tampered(&challenge(&mut machine).0).count() + MORE;
    for change in 0..changes {
        let (answer, next) = challenge(&mut machine);
        if let Some(changed) = tampered(&answer).nth(change) {
            let taken = next.handle(&changed.bytes, &server.context(WIRE, 2));
            assert!(taken.is_err(), "{changed:?}");
        }
    }
}

/// Some bytes of a log are remarks that no PCR covers: a log may be accepted with them changed, but never another
/// value of a PCR.
#[test]
fn no_byte_of_a_log_changes_what_is_proven() {
    let mut machine = Machine::new();
    let mut server = Server::of(&machine);
    let (attested, _) = server.attest(&mut machine);
    let proven = claim(&attested).appraised.event_log.unwrap().values;
    server
        .hosts
        .iter_mut()
        .for_each(|host| std::sync::Arc::make_mut(host).appraised = None);
    let answer = need(&mut machine, &server).0;
    // Every 7th byte: the whole takes minutes, and is done with a smaller log in `attest/tests/it/tampering`.
    for at in (0..answer.len()).step_by(7) {
        let (_, next) = need(&mut machine, &server);
        let mut flipped = answer.clone();
        flipped[at] ^= 1 << (at % 8);
        if let Ok(Step::Done(attested)) = next.handle(&flipped, &server.context(WIRE, 2)) {
            let values = claim(&attested).appraised.event_log.unwrap().values;
            assert_eq!(values, proven, "byte {at}");
        }
    }
}

fn need(machine: &mut Machine, server: &Server) -> (Vec<u8>, Box<dyn plugin_api::Expect>) {
    let evidence = machine.begin(WIRE);
    match server.start(&evidence, WIRE).unwrap() {
        Step::Challenge { send, next } => (machine.prover.answer(&send).unwrap(), next),
        other => panic!("{other:?}"),
    }
}
