use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use edge::{
    Clock,
    tls::{self, BundleSource, Expected, Identity},
};
use proto::{
    spiffe::workload::{X509svid, X509svidRequest, spiffe_workload_api_client::SpiffeWorkloadApiClient},
    spire::api::{
        server::bundle::v1::{GetBundleRequest, bundle_client::BundleClient},
        types,
    },
};
use serde_json::Value;
use svid::{Bundle, Timestamp, TrustDomain, X509Authority, jwt, x509};
use swtpm_tests::{Agent, World};
use tokio::{sync::watch, time::interval};
use tokio_rustls::{TlsAcceptor, TlsConnector, rustls::pki_types::CertificateDer};

use super::rotation::certificates;

const WEB: &str = "spiffe://example.org/web";
const DB: &str = "spiffe://example.org/db";

/// How long a change may take to reach everybody. The busiest machine needs less.
const WITHIN: Duration = Duration::from_secs(20);

type Chain = Vec<CertificateDer<'static>>;

/// Whose signatures both ends of a handshake showed: the client's, and the server's.
type Signers = [String; 2];

/// What a workload was given last, at any moment.
#[derive(Clone)]
struct Held {
    identity: Identity,
    bundle: Arc<Bundle>,
}

/// Follows the Workload API of an agent.
async fn holder(agent: &Agent) -> watch::Receiver<Option<Held>> {
    let (given, held) = watch::channel(None);
    let socket = agent.socket();
    tokio::spawn(async move {
        let (client, connection) = edge::grpc::connect(&socket).await.unwrap();
        let mut request = tonic::Request::new(X509svidRequest {});
        let header = "true".parse().unwrap();
        request.metadata_mut().insert("workload.spiffe.io", header);
        let follow = async {
            let mut client = SpiffeWorkloadApiClient::new(client);
            let mut stream = client.fetch_x509svid(request).await.unwrap().into_inner();
            while let Ok(Some(response)) = stream.message().await {
                let [svid] = response.svids.try_into().expect("one SVID");
                given.send_replace(Some(held_of(&svid)));
            }
        };
        tokio::select! {
            () = follow => {}
            () = connection => {}
        }
    });
    let mut first = held.clone();
    first.wait_for(Option::is_some).await.unwrap();
    held
}

fn held_of(svid: &X509svid) -> Held {
    let roots = certificates(&svid.bundle).into_iter();
    let roots = roots.map(|certificate| X509Authority {
        certificate,
        tainted: false,
    });
    let bundle = Bundle {
        x509_authorities: roots.collect(),
        ..Bundle::empty(TrustDomain::parse("example.org").unwrap())
    };
    Held {
        identity: Identity::new(certificates(&svid.x509_svid), &svid.x509_svid_key).unwrap(),
        bundle: Arc::new(bundle),
    }
}

/// Two holders of SVIDs, on hosts of their own.
struct Pair {
    web: watch::Receiver<Option<Held>>,
    db: watch::Receiver<Option<Held>>,
}

impl Pair {
    /// A handshake between what both hold at this moment; answers with what the server and the client were shown.
    async fn meet(&self) -> [Chain; 2] {
        let held = |holder: &watch::Receiver<Option<Held>>| holder.borrow().clone().unwrap();
        let (web, db) = (held(&self.web), held(&self.db));
        let (_keep, certificate) = watch::channel(Some(web.identity.certified_key()));
        let roots: BundleSource = Arc::new(move |_| Some(Arc::clone(&web.bundle)));
        let server = tls::server_config(certificate, roots, Clock::system()).unwrap();
        let expected = Expected::Verified {
            id: WEB.parse().unwrap(),
            bundle: db.bundle,
        };
        let client = tls::client_config(expected, Some(&db.identity), Clock::system()).unwrap();
        let (server_end, client_end) = tokio::io::duplex(64 * 1024);
        let name = "example.org".try_into().unwrap();
        let (server, client) = tokio::join!(
            TlsAcceptor::from(server).accept(server_end),
            TlsConnector::from(client).connect(name, client_end)
        );
        let (server, client) = match (server, client) {
            (Ok(server), Ok(client)) => (server, client),
            failed => panic!("{:?} {:?}", failed.0.err(), failed.1.err()),
        };
        let chain = |shown: Option<&[CertificateDer<'static>]>| shown.unwrap().to_vec();
        [
            chain(server.get_ref().1.peer_certificates()),
            chain(client.get_ref().1.peer_certificates()),
        ]
    }

    /// Meets for ever; the first handshake that fails ends it.
    async fn keep_meeting(self, shown: watch::Sender<Signers>) {
        let mut pace = interval(Duration::from_millis(20));
        loop {
            pace.tick().await;
            let signers = self.meet().await.map(|chain| signer(&chain));
            shown.send_if_modified(|shown| std::mem::replace(shown, signers.clone()) != signers);
        }
    }
}

fn signer(chain: &[CertificateDer<'static>]) -> String {
    hex::encode(svid::signed_by(chain).unwrap())
}

/// Waits until both ends show what `authority` signed, and says how long it took.
async fn both_show(meetings: &mut watch::Receiver<Signers>, authority: &str) -> Duration {
    let begin = Instant::now();
    let shown = meetings.wait_for(|shown| shown.iter().all(|signer| signer == authority));
    let shown = tokio::time::timeout(WITHIN, shown).await;
    shown
        .expect("SVIDs are replaced in time")
        .expect("no handshake fails");
    begin.elapsed()
}

fn order(world: &World, kind: &str, action: &str, authority_id: &str) -> Value {
    let mut words = vec!["localauthority", kind, action];
    if !authority_id.is_empty() {
        words.extend(["--authority-id", authority_id]);
    }
    world.cli(&words)
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

/// The bundle, as the server answers it.
async fn bundle(world: &World) -> types::Bundle {
    let socket = world.server_socket();
    let (client, connection) = edge::grpc::connect(&socket).await.unwrap();
    let mut client = BundleClient::new(client);
    let answered = client.get_bundle(GetBundleRequest::default());
    tokio::select! {
        answered = answered => answered.unwrap().into_inner(),
        () = connection => panic!("the connection ended"),
    }
}

async fn verified(world: &World, chain: &Chain) -> Result<(), x509::Refused> {
    let roots = bundle(world).await.x509_authorities.into_iter();
    let roots = roots.map(|root| X509Authority {
        certificate: root.asn1.into(),
        tainted: root.tainted,
    });
    let bundle = Bundle {
        x509_authorities: roots.collect(),
        ..Bundle::empty(TrustDomain::parse("example.org").unwrap())
    };
    let now = Timestamp::from(SystemTime::now());
    x509::verify(chain, |_| Some(&bundle), now).map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_is_replaced_by_force_and_no_handshake_fails() {
    let world = World::start();
    let (web, mut db) = (world.agent(&world.token()), world.agent(&world.token()));
    let _entries = [world.entry(web.id(), WEB, &[]), world.entry(db.id(), DB, &[])];
    web.daemon().wait_for("SVID ready");
    db.daemon().wait_for("SVID ready");
    let pair = Pair {
        web: holder(&web).await,
        db: holder(&db).await,
    };
    let old_svids = pair.meet().await;
    let (shown, mut meetings) = watch::channel(Signers::default());
    let meeting = tokio::spawn(pair.keep_meeting(shown));

    let old = text(&order(&world, "x509", "show", "")["active"]["authority_id"]);
    both_show(&mut meetings, &old).await;
    let prepared = order(&world, "x509", "prepare", "");
    let new = text(&prepared["prepared_authority"]["authority_id"]);
    let _activated = order(&world, "x509", "activate", &new);
    let _tainted = order(&world, "x509", "taint", &old);
    let took = both_show(&mut meetings, &new).await;
    println!("SVIDs were replaced {took:?} after the taint");
    for chain in &old_svids {
        verified(&world, chain).await.unwrap();
    }
    web.daemon().wait_for("Agent SVID renewed");
    db.daemon().wait_for("Agent SVID renewed");

    let _revoked = order(&world, "x509", "revoke", &old);
    for chain in &old_svids {
        assert!(matches!(
            verified(&world, chain).await,
            Err(x509::Refused::Chain(_))
        ));
    }
    // The server's own certificate, and the agent's, rest on what is left.
    db.restart();
    db.daemon().wait_for("Session opened");
    assert!(!meeting.is_finished(), "a handshake failed");
    meeting.abort();
    assert_eq!(web.daemon().count("Session ended"), 0);
    assert_eq!(web.daemon().count("\"Attested\""), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_revoked_jwt_authority_signed_verifies_no_more() {
    let world = World::start();
    let mint = || {
        let words = ["jwt", "mint", "--spiffe-id", WEB, "--audience", "db"];
        text(&world.cli(&words)["svid"]["token"])
    };
    let key = |token: &str| jwt::JwtSvid::parse(token).unwrap().key_id;
    let verified = async |token: &str| {
        let keys = bundle(&world).await.jwt_authorities.into_iter();
        let keys = keys.map(|key| svid::JwtAuthority {
            key_id: key.key_id,
            public_key: key.public_key,
            expires_at: None,
            tainted: key.tainted,
        });
        let bundle = Bundle {
            jwt_authorities: keys.collect(),
            ..Bundle::empty(TrustDomain::parse("example.org").unwrap())
        };
        let now = Timestamp::from(SystemTime::now());
        jwt::verify(token, "db", |_| Some(&bundle), now).map(drop)
    };

    let before = mint();
    let old = text(&order(&world, "jwt", "show", "")["active"]["authority_id"]);
    assert_eq!(key(&before), old);
    let prepared = order(&world, "jwt", "prepare", "");
    let new = text(&prepared["prepared_authority"]["authority_id"]);
    let _activated = order(&world, "jwt", "activate", &new);
    let after = mint();
    assert_eq!(key(&after), new);
    let _tainted = order(&world, "jwt", "taint", &old);
    verified(&before).await.unwrap();
    let _revoked = order(&world, "jwt", "revoke", &old);
    assert!(matches!(
        verified(&before).await,
        Err(jwt::Refused::UnknownKey(_))
    ));
    verified(&after).await.unwrap();
}

#[test]
fn operators_turn_the_log_and_let_agents_go() {
    let world = World::start();
    let set = world.cli(&["logger", "set", "--level", "trace"]);
    assert_eq!(
        (&set["current_level"], &set["launch_level"]),
        (&"TRACE".into(), &"DEBUG".into())
    );
    assert_eq!(world.cli(&["logger", "reset"])["current_level"], "DEBUG");
    assert_eq!(world.cli(&["logger", "get"])["current_level"], "DEBUG");

    let agent = world.agent(&world.token());
    assert_eq!(world.cli(&["agent", "count"])["count"], 1);
    assert_eq!(
        world.cli(&["agent", "count", "--can-reattest", "true"])["count"],
        0
    );
    // An agent that attested by token can't attest again: it is never purged.
    let purged = world.cli(&["agent", "purge", "--expired-for", "0"]);
    assert_eq!(purged["expired_agents"], Value::Array(Vec::new()));
    let _banned = world.cli(&["agent", "ban", "--spiffe-id", agent.id()]);
    agent.daemon().wait_for("Server withdrew this host's standing");
    assert_eq!(world.cli(&["agent", "count", "--banned", "true"])["count"], 1);
}
