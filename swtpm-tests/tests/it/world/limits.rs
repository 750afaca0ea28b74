//! `ratelimit`: what one source may ask for.

use agent::{
    link::{Address, Link},
    svid_key::KeyRequest,
};
use edge::{
    Clock,
    grpc::Client,
    tls::{Expected, Identity},
};
use prost::Message;
use proto::{
    google::rpc,
    spire::api::server::{
        agent::v1::{AttestAgentRequest, agent_client::AgentClient, attest_agent_request::Step},
        svid::v1::{BatchNewX509svidRequest, NewX509svidParams, svid_client::SvidClient},
    },
};
use rustls_pki_types::CertificateDer;
use swtpm_tests::{World, alone};
use tokio::task::JoinSet;
use tonic::{Code, Status};

use super::{crash::Local, overload::FLOOD};

const OFF: &str = "[server.ratelimit]\nattestation = false\nsigning = false\n";
/// Several times what a source may have at once: a slow machine gives it time to get more.
const ATTESTATIONS: usize = 5000;
const BATCHES: usize = 100;
/// Most in a batch.
const BATCH: usize = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_attests_too_often_is_told_when_to_come_back() {
    let _alone = alone(FLOOD);
    let world = World::start();
    let refused = attest_often(&world).await.expect("a limit");
    check(&refused);
    let _agent = world.agent(&world.token());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_too_much_signed_is_told_when_to_come_back() {
    let _alone = alone(FLOOD);
    let world = World::start();
    let refused = sign_often(&world).await.expect("a limit");
    check(&refused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_limited_where_the_operator_wants_no_limit() {
    let _alone = alone(FLOOD);
    let world = World::with(OFF);
    assert!(attest_often(&world).await.is_none());
    assert!(sign_often(&world).await.is_none());
}

fn check(refused: &Status) {
    assert!(refused.message().contains("; retry in "), "{refused}");
    let details = rpc::Status::decode(refused.details()).unwrap().details;
    let info = rpc::RetryInfo::decode(details[0].value.as_slice()).unwrap();
    let delay = info.retry_delay.unwrap();
    assert!(delay.seconds > 0 || delay.nanos > 0, "{delay:?}");
    assert!(delay.seconds < 60, "{delay:?}");
}

/// Begins many attestations on one connection; answers with the first refusal by the limit.
async fn attest_often(world: &World) -> Option<Status> {
    let mut link = dial(world, None).await;
    let client = link.client.clone();
    let attesting = async {
        let mut calls = JoinSet::new();
        for _ in 0..ATTESTATIONS {
            calls.spawn(attest(client.clone()));
            if calls.len() == 32 {
                let said = calls.join_next().await.unwrap().unwrap();
                if said.code() == Code::ResourceExhausted {
                    return Some(said);
                }
            }
        }
        None
    };
    link.during(attesting).await.unwrap()
}

/// What the server says to an agent that has nothing to show.
async fn attest(client: Client) -> Status {
    let message = AttestAgentRequest {
        step: Some(Step::ChallengeResponse(Vec::new())),
    };
    let said = async {
        let mut client = AgentClient::new(client);
        let called = client.attest_agent(tokio_stream::once(message)).await?;
        called.into_inner().message().await
    };
    said.await.unwrap_err()
}

/// Asks for many SVIDs, of an entry that is not there; answers with the first refusal by the limit.
async fn sign_often(world: &World) -> Option<Status> {
    let identity = attested(world).await;
    let mut link = dial(world, Some(&identity)).await;
    let mut client = SvidClient::new(link.client.clone());
    let item = NewX509svidParams {
        entry_id: "none".into(),
        csr: vec![0],
    };
    let asking = async {
        for _ in 0..BATCHES {
            let params = vec![item.clone(); BATCH];
            if let Err(said) = client
                .batch_new_x509svid(BatchNewX509svidRequest { params })
                .await
            {
                assert_eq!(said.code(), Code::ResourceExhausted, "{said}");
                return Some(said);
            }
        }
        None
    };
    link.during(asking).await.unwrap()
}

/// An agent that is new.
async fn attested(world: &World) -> Identity {
    let token = world.token();
    let local = Local::connect(&world.server_socket()).await.unwrap();
    let (svid, KeyRequest { key, .. }) = local.attest(&token).await.unwrap();
    let chain = svid.cert_chain.into_iter().map(CertificateDer::from).collect();
    Identity::new(chain, &key).unwrap()
}

async fn dial(world: &World, identity: Option<&Identity>) -> Link {
    let address = world.address();
    let (host, port) = address.split_once(':').unwrap();
    let address = Address {
        host: host.into(),
        port: port.parse().unwrap(),
    };
    let server = Expected::Anyone("spiffe://example.org/spire/server".parse().unwrap());
    Link::dial(&address, server, identity, Clock::system())
        .await
        .unwrap()
}
