//! Evidence that comes too late, on real connections: each test waits out a window of the protocol.

use std::time::{Duration, Instant};

use tonic::{Code, Status};

use super::{
    client::{Host, Session},
    csr,
};

/// How soon after the handshake a first message has to come, and an answer after its question.
const WINDOW: Duration = Duration::from_secs(10);
/// After that, whatever it takes to be there.
const LATE: Duration = Duration::from_millis(10_500);

fn check_late(refused: &Status) {
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    let said = "evidence arrived more than 10 s after the handshake";
    assert!(refused.message().contains(said), "{refused}");
}

#[tokio::test]
async fn a_first_message_that_comes_late_after_the_handshake_is_worth_nothing() {
    let mut host = Host::acquainted().await;
    let svid = host.attested().await;
    let csr = csr();
    let mut attesting = host.dial().await;
    let mut opening = host.dial_as(&svid).await;
    let attestation = host.evidence(attesting.exporter, &csr);
    let session = host.session_evidence(opening.exporter);

    let window = || tokio::time::sleep(LATE);
    tokio::join!(attesting.during(window()), opening.during(window()));

    check_late(&attesting.attest(attestation, &csr).await.unwrap_err());
    check_late(&opening.open_session(Some(&session)).await.unwrap_err());
    // It is refused for that alone, and the host is what it was.
    let _svid = host.attested().await;
    assert_eq!(host.shown()["verdict"]["finding"], "FINDING_VERIFIED");
}

#[tokio::test]
async fn who_answers_late_in_a_session_said_nothing() {
    let mut host = Host::of_server_with("evidence_interval = \"1s\"\nevidence_ttl = \"8s\"\n").await;
    let svid = host.attested().await;
    let mut connection = host.dial_as(&svid).await;
    let evidence = host.session_evidence(connection.exporter);
    let mut session = Session::open(&mut connection, &evidence).await;
    let first = session.question(&mut connection).await;
    let asked = Instant::now();
    let late = host.answer(connection.exporter, &first.need);

    // Nothing else is asked while this may be answered.
    let second = session.question(&mut connection).await;

    let waited = asked.elapsed();
    assert!(waited + Duration::from_secs(1) > WINDOW, "{waited:?}");
    assert_eq!(second.round, first.round + 1);
    session.answer(first.round, late).await;
    let shown = host.shown();
    assert_eq!(shown["verdict"]["finding"], "FINDING_STALE", "{shown}");
    assert_eq!(shown["verdict"]["code"], "silent", "{shown}");
    // What comes in time counts again.
    let answer = host.answer(connection.exporter, &second.need);
    session.answer(second.round, answer).await;
    let third = session.question(&mut connection).await;
    assert_eq!(third.round, second.round + 1);
    assert_eq!(host.shown()["verdict"]["finding"], "FINDING_VERIFIED");
}
