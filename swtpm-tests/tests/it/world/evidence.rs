//! Evidence on real connections: what a thief, a relay or an impatient agent would try.

mod client;
mod limits;
mod windows;

use agent::svid_key::KeyRequest;
use proto::spire::api::{
    server::{
        agent::v1::{AgentX509svidParams, RenewAgentRequest, agent_client::AgentClient},
        entry::v1::{GetAuthorizedEntriesRequest, entry_client::EntryClient},
        svid::v1::{BatchNewX509svidRequest, NewX509svidParams, svid_client::SvidClient},
    },
    types::permission_denied_details::Reason,
};
use tokio::{io::AsyncReadExt, net::TcpListener};
use tonic::Code;

use client::{Host, Said, Session, reason};

fn csr() -> Vec<u8> {
    KeyRequest::generate(None).unwrap().csr
}

#[tokio::test]
async fn evidence_of_one_connection_is_worth_nothing_on_another() {
    let mut host = Host::acquainted().await;
    let (mut ours, mut other) = (host.dial().await, host.dial().await);
    let csr = csr();
    let evidence = host.evidence(ours.exporter, &csr);

    let refused = other.attest(evidence.clone(), &csr).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("(extra_data)"), "{refused}");

    assert!(matches!(ours.attest(evidence, &csr).await, Ok(Said::Svid(_))));
}

#[tokio::test]
async fn evidence_is_about_one_certificate_request() {
    let mut host = Host::acquainted().await;
    let mut connection = host.dial().await;
    let evidence = host.evidence(connection.exporter, &csr());

    let refused = connection.attest(evidence, &csr()).await.unwrap_err();

    assert!(refused.message().contains("(extra_data)"), "{refused}");
}

#[tokio::test]
async fn a_connection_carries_one_attestation() {
    let mut host = Host::acquainted().await;
    // After one that succeeded.
    let mut connection = host.dial().await;
    let csr = csr();
    let evidence = host.evidence(connection.exporter, &csr);
    connection.attest(evidence.clone(), &csr).await.unwrap();
    check_used_up(&connection.attest(evidence, &csr).await.unwrap_err());

    // After one that was refused.
    let mut connection = host.dial().await;
    let evidence = host.evidence(connection.exporter, &csr);
    connection.attest(b"{}".to_vec(), &csr).await.unwrap_err();
    check_used_up(&connection.attest(evidence, &csr).await.unwrap_err());

    // After one without a certificate request.
    let mut connection = host.dial().await;
    let evidence = host.evidence(connection.exporter, &csr);
    connection.attest(evidence.clone(), &[]).await.unwrap_err();
    check_used_up(&connection.attest(evidence, &csr).await.unwrap_err());

    // At the same time as another.
    let mut connection = host.dial().await;
    let evidence = host.evidence(connection.exporter, &csr);
    let both = connection.attest_twice(&evidence, &csr).await;
    let refused: Vec<_> = both.iter().filter_map(|said| said.as_ref().err()).collect();
    assert_eq!(refused.len(), 1, "{both:?}");
    check_used_up(refused[0]);
}

fn check_used_up(refused: &tonic::Status) {
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(
        refused.message().contains("a connection carries one attestation"),
        "{refused}"
    );
}

#[tokio::test]
async fn the_community_plugins_payload_is_told_apart() {
    let host = Host::acquainted().await;
    let payload = br#"{"EK":"AQAB","AKPub":"AAAA","AKCreate":""}"#.to_vec();

    let refused = host.dial().await.attest(payload, &csr()).await.unwrap_err();

    assert!(refused.message().contains("(json_payload)"), "{refused}");
}

#[tokio::test]
async fn sessions_of_tls_are_never_resumed() {
    let host = Host::acquainted().await;
    let kinds = host.handshakes(2).await;
    assert_eq!(kinds, [rustls::HandshakeKind::Full; 2]);
}

#[tokio::test]
async fn a_stolen_svid_only_names() {
    let mut host = Host::acquainted().await;
    let stolen = host.attested().await;
    let must_reattest =
        |refused: tonic::Status| assert_eq!(reason(&refused), Some(Reason::AgentMustReattest));

    let mut thief = host.dial_as(&stolen).await;
    let client = thief.client();
    let mut entries = EntryClient::new(client.clone());
    let asked = entries.get_authorized_entries(GetAuthorizedEntriesRequest::default());
    must_reattest(thief.during(asked).await.unwrap_err());
    let mut svids = SvidClient::new(client.clone());
    let params = NewX509svidParams {
        entry_id: "any".into(),
        csr: csr(),
    };
    let asked = svids.batch_new_x509svid(BatchNewX509svidRequest { params: vec![params] });
    must_reattest(thief.during(asked).await.unwrap_err());
    let mut agents = AgentClient::new(client);
    let asked = agents.renew_agent(RenewAgentRequest {
        params: Some(AgentX509svidParams { csr: csr() }),
    });
    must_reattest(thief.during(asked).await.unwrap_err());
    must_reattest(thief.open_session(None).await.unwrap_err());
}

#[tokio::test]
async fn a_session_opens_with_evidence_of_its_own_connection_once() {
    let mut host = Host::acquainted().await;
    let svid = host.attested().await;

    // Recorded elsewhere.
    let mut elsewhere = host.dial_as(&svid).await;
    let recorded = host.session_evidence(elsewhere.exporter);
    let mut thief = host.dial_as(&svid).await;
    let refused = thief.open_session(Some(&recorded)).await.unwrap_err();
    assert!(refused.message().contains("(extra_data)"), "{refused}");
    assert_eq!(reason(&refused), Some(Reason::AgentMustReattest));
    // Used up by that.
    let own = host.session_evidence(thief.exporter);
    let refused = thief.open_session(Some(&own)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");

    // Where it was made, it opens the session, and from then on the connection counts.
    elsewhere.open_session(Some(&recorded)).await.unwrap();
    let mut entries = EntryClient::new(elsewhere.client());
    let asked = entries.get_authorized_entries(GetAuthorizedEntriesRequest::default());
    elsewhere.during(asked).await.unwrap();
}

#[tokio::test]
async fn who_shows_one_agents_svid_does_not_become_another() {
    let mut host = Host::acquainted().await;
    let svid = host.attested().await;
    let mut other = host.neighbour().await;
    let mut connection = other.dial_as(&svid).await;
    let csr = csr();
    let evidence = other.evidence(connection.exporter, &csr);

    let refused = connection.attest(evidence, &csr).await.unwrap_err();

    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("SVID of another ID"), "{refused}");
}

#[tokio::test]
async fn a_banned_host_does_not_come_back() {
    let mut host = Host::acquainted().await;
    let svid = host.attested().await;
    host.ban().await;

    let mut connection = host.dial().await;
    let csr = csr();
    let evidence = host.evidence(connection.exporter, &csr);
    let refused = connection.attest(evidence, &csr).await.unwrap_err();

    assert_eq!(refused.message(), "failed to attest: agent is banned");
    assert_eq!(reason(&refused), Some(Reason::AgentBanned));
    let mut connection = host.dial_as(&svid).await;
    let evidence = host.session_evidence(connection.exporter);
    let refused = connection.open_session(Some(&evidence)).await.unwrap_err();
    assert_eq!(reason(&refused), Some(Reason::AgentBanned));
}

#[tokio::test]
async fn a_newer_proof_ends_the_rights_of_the_older() {
    let mut host = Host::acquainted().await;
    let svid = host.attested().await;
    let mut older = host.dial_as(&svid).await;
    let evidence = host.session_evidence(older.exporter);
    older.open_session(Some(&evidence)).await.unwrap();
    let mut newer = host.dial_as(&svid).await;
    let evidence = host.session_evidence(newer.exporter);
    newer.open_session(Some(&evidence)).await.unwrap();

    let mut entries = EntryClient::new(older.client());
    let asked = entries.get_authorized_entries(GetAuthorizedEntriesRequest::default());
    let refused = older.during(asked).await.unwrap_err();
    assert_eq!(reason(&refused), Some(Reason::AgentMustReattest));
    let mut entries = EntryClient::new(newer.client());
    let asked = entries.get_authorized_entries(GetAuthorizedEntriesRequest::default());
    newer.during(asked).await.unwrap();
}

#[tokio::test]
async fn a_late_answer_is_nothing_and_a_wrong_one_takes_every_right_away() {
    let mut host = Host::often_asked().await;
    let svid = host.attested().await;
    let mut connection = host.dial_as(&svid).await;
    let evidence = host.session_evidence(connection.exporter);
    let mut session = Session::open(&mut connection, &evidence).await;
    let mut entries = EntryClient::new(connection.client());

    let first = session.question(&mut connection).await;
    let answer = host.answer(connection.exporter, &first.need);
    session.answer(first.round, answer.clone()).await;
    // Of a round that is over: nothing. The next question comes all the same.
    session.answer(first.round, answer.clone()).await;
    let second = session.question(&mut connection).await;
    assert_eq!(second.round, first.round + 1);
    let asked = entries.get_authorized_entries(GetAuthorizedEntriesRequest::default());
    connection.during(asked).await.unwrap();

    // What was right a round ago is wrong now.
    session.answer(second.round, answer).await;
    assert_eq!(session.withdrawal(&mut connection).await, "host_quarantined");

    // SPIRE's API on the very connection that was proven.
    let quarantined = |refused: tonic::Status| {
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        assert!(refused.message().contains("is quarantined"), "{refused}");
    };
    let asked = entries.get_authorized_entries(GetAuthorizedEntriesRequest::default());
    quarantined(connection.during(asked).await.unwrap_err());
    let mut svids = SvidClient::new(connection.client());
    let params = NewX509svidParams {
        entry_id: "any".into(),
        csr: csr(),
    };
    let asked = svids.batch_new_x509svid(BatchNewX509svidRequest { params: vec![params] });
    quarantined(connection.during(asked).await.unwrap_err());

    // Good evidence on another connection does not lift it.
    let mut other = host.dial().await;
    let csr = csr();
    let evidence = host.evidence(other.exporter, &csr);
    quarantined(other.attest(evidence, &csr).await.unwrap_err());

    // Its release does not verify it, either: it attests anew, and what it had before stays void.
    host.release();
    let mut older = host.dial_as(&svid).await;
    let evidence = host.session_evidence(older.exporter);
    let refused = older.open_session(Some(&evidence)).await.unwrap_err();
    assert_eq!(reason(&refused), Some(Reason::AgentMustReattest));
    let mut anew = host.dial().await;
    let evidence = host.evidence(anew.exporter, &csr);
    assert!(matches!(anew.attest(evidence, &csr).await, Ok(Said::Svid(_))));
    let mut entries = EntryClient::new(anew.client());
    let asked = entries.get_authorized_entries(GetAuthorizedEntriesRequest::default());
    anew.during(asked).await.unwrap();
}

#[tokio::test]
async fn who_answers_in_a_session_that_another_one_replaced_raises_an_alarm() {
    let mut host = Host::acquainted().await;
    let svid = host.attested().await;
    let mut older = host.dial_as(&svid).await;
    let evidence = host.session_evidence(older.exporter);
    let mut session = Session::open(&mut older, &evidence).await;
    let mut newer = host.dial_as(&svid).await;
    let evidence = host.session_evidence(newer.exporter);
    let _open = Session::open(&mut newer, &evidence).await;

    // Both places have the keys of one TPM: whoever stays is asked.
    let question = session.question(&mut older).await;
    let answer = host.answer(older.exporter, &question.need);
    session.answer(question.round, answer).await;
    let ended = session.end(&mut older).await;

    assert!(ended.message().contains("replaced by a newer one"), "{ended}");
    let shown = host.shown();
    assert_eq!(shown["alarm"]["code"], "two_sessions", "{shown}");
    assert_eq!(shown["verdict"]["finding"], "FINDING_VERIFIED", "{shown}");
}

#[tokio::test]
async fn a_host_with_another_tpm_is_the_same_host_once_that_attests() {
    let mut host = Host::acquainted().await;
    let svid = host.attested().await;
    let before = host.shown();
    let mut connection = host.dial_as(&svid).await;
    let evidence = host.session_evidence(connection.exporter);
    let mut session = Session::open(&mut connection, &evidence).await;

    let mut repaired = host.with_another_tpm();

    assert_eq!(session.withdrawal(&mut connection).await, "host_tpm_replaced");
    // The TPM before is a stranger's now.
    let mut connection = host.dial_as(&svid).await;
    let evidence = host.session_evidence(connection.exporter);
    let refused = connection.open_session(Some(&evidence)).await.unwrap_err();
    assert_eq!(reason(&refused), Some(Reason::AgentMustReattest));
    let _svid = repaired.attested().await;
    let shown = repaired.shown();
    assert_eq!(
        (&shown["id"], &shown["agent_id"]),
        (&before["id"], &before["agent_id"])
    );
    assert_eq!(shown["verdict"]["finding"], "FINDING_VERIFIED", "{shown}");
}

#[tokio::test]
async fn another_program_is_told_what_becomes_of_hosts() {
    // Any file of some length holds a secret.
    let secret = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let settings = format!("webhook = {{ url = \"http://{address}/hook\", secret_path = {secret:?} }}\n");
    let host = Host::of_server_with(&settings).await;

    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"}}") {
        assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
    }

    let request = String::from_utf8(request).unwrap();
    assert!(request.starts_with("POST /hook HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("plastron-signature: sha256="), "{request}");
    assert!(request.contains("\"event\":\"host_verified\""), "{request}");
    let shown = host.shown();
    assert!(request.contains(shown["id"].as_str().unwrap()), "{request}");
}
