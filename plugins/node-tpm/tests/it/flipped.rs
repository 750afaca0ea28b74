//! Good evidence with one bit flipped, at every place, is refused.

use plugin_api::{NodeProver, Step};
use swtpm_tests::parties::{Machine, Server, WIRE, claim};

fn flipped(bytes: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    (0..bytes.len()).map(|at| {
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 1 << (at % 8);
        (at, flipped)
    })
}

#[test]
fn no_byte_of_a_first_message_can_be_flipped() {
    let mut machine = Machine::new();
    let mut server = Server::of(&machine);
    server.attest(&mut machine);
    let evidence = machine.begin(WIRE);
    assert!(matches!(server.start(&evidence, WIRE), Ok(Step::Done(_))));
    for (at, flipped) in flipped(&evidence) {
        assert!(server.start(&flipped, WIRE).is_err(), "byte {at}");
    }
}

#[test]
fn no_byte_of_a_credential_can_be_flipped() {
    let mut machine = Machine::new();
    let server = Server::of(&machine);
    let challenge = |machine: &mut Machine| {
        let evidence = machine.begin(WIRE);
        match server.start(&evidence, WIRE).unwrap() {
            Step::Challenge { send, next } => (machine.prover.answer(&send).unwrap(), next),
            other => panic!("{other:?}"),
        }
    };
    let len = challenge(&mut machine).0.len();
    for at in 0..len {
        let (mut answer, next) = challenge(&mut machine);
        answer[at] ^= 1 << (at % 8);
        assert!(
            next.handle(&answer, &server.context(WIRE, 2)).is_err(),
            "byte {at}"
        );
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
    // Every 7th byte: the whole takes minutes.
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
