//! Hundreds of rotations under two workloads that meet all the while, one agent that is stopped, and one that polls.

use std::{sync::Arc, time::SystemTime};

use agent::link::{Address, Link};
use edge::{
    Clock,
    tls::{Expected, Identity},
};
use proto::spire::api::server::{
    bundle::v1::{GetBundleRequest, bundle_client::BundleClient},
    localauthority::v1::{
        ActivateX509AuthorityRequest, PrepareX509AuthorityRequest,
        local_authority_client::LocalAuthorityClient,
    },
};
use rustls_pki_types::CertificateDer;
use svid::{Timestamp, x509};
use swtpm_tests::World;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Duration, interval},
};

use super::{
    crash::callers::Local,
    meetings::{DB, Held, Pair, WEB, WITHIN, holder},
    rotation::bundle,
};

/// SVIDs are renewed every 3 seconds, and by whichever authority signs then. The others outlive the test: one that is
/// stopped can come back, and one that polls need not renew.
const LIFETIMES: &str = "ca_ttl = \"20m\"\nagent_ttl = \"3m\"\ndefault_x509_svid_ttl = \"6s\"";

const ROTATIONS: usize = 200;
/// In this one an agent is stopped.
const STOPPED: usize = 60;
/// After this one it goes on.
const CONTINUED: usize = 120;
/// Agents of SPIRE poll every 5 s; each rotation waits for this one.
const POLL: Duration = Duration::from_millis(50);

/// Rotates the X.509 authority by force; answers with the identifier of the one that signs then.
async fn rotate(client: &mut LocalAuthorityClient<edge::grpc::Client>) -> String {
    let prepared = client
        .prepare_x509_authority(PrepareX509AuthorityRequest {})
        .await;
    let prepared = prepared.unwrap().into_inner().prepared_authority.unwrap();
    let authority_id = prepared.authority_id;
    let activate = ActivateX509AuthorityRequest {
        authority_id: authority_id.clone(),
    };
    client.activate_x509_authority(activate).await.unwrap();
    authority_id
}

/// An agent of SPIRE, as far as bundles go: attests, and asks for the bundle from then on. Looks whether what `holder`
/// has now verifies with what it is told next.
async fn poll(world: &World, local: &Local, holder: watch::Receiver<Option<Held>>) -> Poller {
    let (svid, request) = local.attest(&world.token()).await.unwrap();
    let chain = svid.cert_chain.into_iter().map(CertificateDer::from).collect();
    let identity = Identity::new(chain, &request.key).unwrap();
    let server = Expected::Anyone("spiffe://example.org/spire/server".parse().unwrap());
    let address = world.address();
    let (host, port) = address.split_once(':').unwrap();
    let address = Address {
        host: host.into(),
        port: port.parse().unwrap(),
    };
    let mut link = Link::dial(&address, server, Some(&identity), Clock::system())
        .await
        .unwrap();
    let (sender, polled) = watch::channel(0);
    let task = tokio::spawn(async move {
        let mut client = BundleClient::new(link.client.clone());
        let polling = async move {
            let mut pace = interval(POLL);
            loop {
                pace.tick().await;
                let shown = holder.borrow().clone().unwrap().chain;
                let told = client.get_bundle(GetBundleRequest::default()).await.unwrap();
                let roots = told.into_inner().x509_authorities.into_iter();
                let bundle = Arc::new(bundle(roots.map(|root| root.asn1.into()).collect()));
                let now = Timestamp::from(SystemTime::now());
                x509::verify(&shown, |_| Some(&*bundle), now).unwrap();
                sender.send_modify(|polled| *polled += 1);
            }
        };
        let Err(_lost) = link.during::<std::convert::Infallible>(polling).await;
    });
    Poller { polled, task }
}

/// An agent that polls.
struct Poller {
    /// How often it did.
    polled: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Poller {
    /// Ends it; answers with how often it polled, always with success.
    fn end(self) -> usize {
        assert!(!self.task.is_finished(), "the agent that polls gave up");
        self.task.abort();
        *self.polled.borrow()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_rotations_cost_no_handshake() {
    let world = World::with(LIFETIMES);
    let (web, db) = (world.agent(&world.token()), world.agent(&world.token()));
    let stopped = world.agent(&world.token());
    for (agent, id) in [(&web, WEB), (&db, DB), (&stopped, "spiffe://example.org/stopped")] {
        let _entry = world.entry(agent.id(), id, &[]);
        agent.daemon().wait_for("SVID ready");
    }
    let local = Local::connect(&world.server_socket()).await.unwrap();
    let pair = Pair::of(&web, &db).await;
    let poller = poll(&world, &local, pair.web.clone()).await;
    let mut held_by_stopped = holder(&stopped).await;
    let mut meetings = pair.keep_meeting();

    let mut client = LocalAuthorityClient::new(local.client.clone());
    let mut last = String::new();
    for rotation in 1..=ROTATIONS {
        match rotation {
            STOPPED => stopped.daemon().signal("STOP"),
            CONTINUED => stopped.daemon().signal("CONT"),
            _ => {}
        }
        last = rotate(&mut client).await;
        meetings.once_more().await;
    }

    meetings.until_both_show(&last).await;
    let handshakes = meetings.end();
    assert!(handshakes > 2 * ROTATIONS as u64, "{handshakes} handshakes");
    assert!(poller.end() > ROTATIONS, "rotations did not wait for polls");
    // Nothing was signed that somebody could not verify: who kept silent was let go, and came back.
    assert_eq!(world.server().count("some agents may not have it yet"), 0);
    assert_eq!(world.server().count("Agent did not acknowledge a bundle"), 1);
    for agent in [&web, &db] {
        assert_eq!(agent.daemon().count("Session ended"), 0);
    }
    let rests_on_last = |held: &Option<Held>| {
        let chain = &held.as_ref().unwrap().chain;
        hex::encode(svid::signed_by(chain).unwrap()) == last
    };
    let back = tokio::time::timeout(WITHIN, held_by_stopped.wait_for(rests_on_last)).await;
    drop(
        back.expect("the agent that was stopped has what the last one signed")
            .unwrap(),
    );
}
