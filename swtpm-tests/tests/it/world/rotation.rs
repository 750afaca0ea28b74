use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

use proto::spiffe::workload::{
    X509svid, X509svidRequest, X509svidResponse, spiffe_workload_api_client::SpiffeWorkloadApiClient,
};
use svid::{Bundle, Timestamp, TrustDomain, X509Authority, x509};
use swtpm_tests::World;
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The shortest lives that leave a busy machine seconds to renew in.
const LIFETIMES: &str = "ca_ttl = \"30s\"\ndefault_x509_svid_ttl = \"5s\"";

/// The first authority is forgotten after two lives. Nothing waits longer but a test that fails.
const DEADLINE: Duration = Duration::from_secs(180);

type Chain = Vec<CertificateDer<'static>>;

/// What a workload was ever given.
#[derive(Default)]
struct Received {
    /// In the order in which they came.
    chains: Vec<Chain>,
    /// Roots that were in a bundle.
    roots: HashSet<CertificateDer<'static>>,
    /// Roots that an SVID rests on.
    signers: HashSet<CertificateDer<'static>>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authorities_rotate_under_a_workload_that_never_sees_a_gap() {
    let world = World::with(LIFETIMES);
    let agent = world.agent(&world.token());
    let _entry = world.entry(agent.id(), "spiffe://example.org/web", &[]);
    agent.daemon().wait_for("SVID ready");

    let socket = agent.socket();
    let (client, connection) = edge::grpc::connect(&socket).await.unwrap();
    let following = async move {
        let mut request = tonic::Request::new(X509svidRequest {});
        request
            .metadata_mut()
            .insert("workload.spiffe.io", "true".parse().unwrap());
        let mut client = SpiffeWorkloadApiClient::new(client);
        let mut stream = client.fetch_x509svid(request).await.unwrap().into_inner();
        let mut received = Received::default();
        // Three have signed, and the first one is forgotten.
        loop {
            let response = stream.message().await.unwrap().unwrap();
            let bundle = received.take(response);
            if received.signers.len() >= 3 && bundle.x509_authorities.len() < received.roots.len() {
                break;
            }
        }
    };
    tokio::select! {
        () = following => {}
        () = connection => panic!("the stream ended"),
        () = tokio::time::sleep(DEADLINE) => panic!("the first authority stays"),
    }
    assert_eq!(agent.daemon().count("Session ended"), 0);
    assert_eq!(agent.daemon().count("\"Attested\""), 1);
}

impl Received {
    /// Checks that everything that still lives verifies by the bundle that there is now, the newest first of all.
    fn take(&mut self, response: X509svidResponse) -> Bundle {
        let [given] = response.svids.try_into().expect("one SVID");
        let X509svid {
            x509_svid, bundle, ..
        } = given;
        let now = Timestamp::from(SystemTime::now());
        let bundle = self::bundle(certificates(&bundle));
        self.chains.push(certificates(&x509_svid));
        for chain in &self.chains {
            match x509::verify(chain, |_| Some(&bundle), now) {
                Ok(_) | Err(x509::Refused::Ended { .. }) => {}
                Err(refused) => panic!("{refused}"),
            }
        }
        let newest = self.chains.last().unwrap();
        let verifies = |root: &CertificateDer<'static>| {
            x509::verify(newest, |_| Some(self::bundle(vec![root.clone()])), now).is_ok()
        };
        let roots = bundle
            .x509_authorities
            .iter()
            .map(|root| root.certificate.clone());
        let signer = roots.clone().find(verifies).expect("a root that signed it");
        self.signers.insert(signer);
        self.roots.extend(roots);
        bundle
    }
}

/// A bundle of these roots.
pub(super) fn bundle(roots: Chain) -> Bundle {
    let authorities = roots.into_iter().map(|certificate| X509Authority {
        certificate,
        tainted: false,
    });
    Bundle {
        x509_authorities: authorities.collect(),
        ..Bundle::empty(TrustDomain::parse("example.org").unwrap())
    }
}

/// Certificates in DER, one after another.
pub(super) fn certificates(mut der: &[u8]) -> Chain {
    let mut certificates = Vec::new();
    while !der.is_empty() {
        let (rest, _) = X509Certificate::from_der(der).unwrap();
        let (certificate, _) = der.split_at(der.len() - rest.len());
        certificates.push(CertificateDer::from(certificate.to_vec()));
        der = rest;
    }
    certificates
}
