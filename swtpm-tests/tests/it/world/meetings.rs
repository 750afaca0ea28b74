//! Two workloads on hosts of their own, who meet by mutual TLS again and again, each with what it holds at that moment.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use edge::{
    Clock,
    tls::{self, BundleSource, Expected, Identity},
};
use proto::{
    bytes::Bytes,
    spiffe::workload::{
        X509svidRequest, X509svidResponse, spiffe_workload_api_client::SpiffeWorkloadApiClient,
    },
};
use svid::Bundle;
use swtpm_tests::Agent;
use tokio::{sync::watch, task::JoinHandle, time::interval};
use tokio_rustls::{TlsAcceptor, TlsConnector, rustls::pki_types::CertificateDer};

use super::rotation::{bundle, certificates};

pub(super) const WEB: &str = "spiffe://example.org/web";
pub(super) const DB: &str = "spiffe://example.org/db";

/// How long a change may take to reach everybody. The busiest machine needs less.
pub(super) const WITHIN: Duration = Duration::from_secs(30);
/// Pause between two meetings.
const PACE: Duration = Duration::from_millis(20);

pub(super) type Chain = Vec<CertificateDer<'static>>;

/// What a workload was given last, at any moment.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) chain: Chain,
    pub(super) identity: Identity,
    pub(super) bundle: Arc<Bundle>,
    pub(super) crls: Vec<Bytes>,
}

/// Follows the Workload API of an agent, for a workload with one SVID.
pub(super) async fn holder(agent: &Agent) -> watch::Receiver<Option<Held>> {
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
                given.send_replace(Some(held_of(response)));
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

fn held_of(response: X509svidResponse) -> Held {
    let [svid] = response.svids.try_into().expect("one SVID");
    let chain = certificates(&svid.x509_svid);
    Held {
        identity: Identity::new(chain.clone(), &svid.x509_svid_key).unwrap(),
        chain,
        bundle: Arc::new(bundle(certificates(&svid.bundle))),
        crls: response.crl,
    }
}

/// Two holders of SVIDs, `WEB` and `DB`.
pub(super) struct Pair {
    pub(super) web: watch::Receiver<Option<Held>>,
    pub(super) db: watch::Receiver<Option<Held>>,
}

impl Pair {
    /// The workloads on these hosts.
    pub(super) async fn of(web: &Agent, db: &Agent) -> Self {
        Self {
            web: holder(web).await,
            db: holder(db).await,
        }
    }

    /// A handshake between what both hold at this moment; answers with what the server and the client were shown.
    pub(super) async fn meet(&self) -> [Chain; 2] {
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
    pub(super) fn keep_meeting(self) -> Meetings {
        let (sender, seen) = watch::channel(Seen::default());
        let meeting = tokio::spawn(async move {
            let mut pace = interval(PACE);
            loop {
                pace.tick().await;
                let signers = self.meet().await.map(|chain| signer(&chain));
                sender.send_modify(|seen| {
                    seen.signers = signers;
                    seen.count += 1;
                });
            }
        });
        Meetings { seen, meeting }
    }
}

/// What a pair that keeps meeting has come to.
pub(super) struct Meetings {
    seen: watch::Receiver<Seen>,
    meeting: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    /// Whose signatures both ends of the last handshake showed: the client's, and the server's.
    signers: [String; 2],
    /// How many handshakes there were.
    count: u64,
}

impl Meetings {
    /// Waits until both ends show what `authority` signed, and says how long it took.
    pub(super) async fn until_both_show(&mut self, authority: &str) -> Duration {
        let begin = Instant::now();
        self.until(|seen| seen.signers.iter().all(|signer| signer == authority))
            .await;
        begin.elapsed()
    }

    /// Waits for one more handshake.
    pub(super) async fn once_more(&mut self) {
        let count = self.seen.borrow().count;
        self.until(|seen| seen.count > count + 1).await;
    }

    /// Ends them; answers with how many there were, all of them good.
    pub(super) fn end(self) -> u64 {
        assert!(!self.meeting.is_finished(), "a handshake failed");
        self.meeting.abort();
        self.seen.borrow().count
    }

    async fn until(&mut self, is_reached: impl Fn(&Seen) -> bool) {
        let reached = self.seen.wait_for(is_reached);
        let reached = tokio::time::timeout(WITHIN, reached).await;
        reached.expect("it takes too long").expect("no handshake fails");
    }
}

fn signer(chain: &[CertificateDer<'static>]) -> String {
    hex::encode(svid::signed_by(chain).unwrap())
}
