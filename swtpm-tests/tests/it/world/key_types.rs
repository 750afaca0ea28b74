//! Authorities with keys of every kind.

use std::path::Path;

use proto::spiffe::workload::{X509svidRequest, spiffe_workload_api_client::SpiffeWorkloadApiClient};
use rustls_pki_types::CertificateDer;
use svid::{Bundle, TrustDomain, X509Authority, x509};
use swtpm_tests::World;
use x509_parser::{
    prelude::{FromDer, X509Certificate},
    public_key::PublicKey,
};

use super::rotation::certificates;

type Chain = Vec<CertificateDer<'static>>;

/// A key's algorithm and its size in bits.
#[derive(Debug, Eq, PartialEq)]
enum Kind {
    Ec(usize),
    Rsa(usize),
}

#[tokio::test]
async fn an_authority_on_p384_serves_agents_and_workloads() {
    check("ec-p384", Kind::Ec(384)).await;
}

#[tokio::test]
async fn so_does_one_of_rsa_2048() {
    check("rsa-2048", Kind::Rsa(2048)).await;
}

#[tokio::test]
async fn so_does_one_of_rsa_4096() {
    check("rsa-4096", Kind::Rsa(4096)).await;
}

async fn check(ca_key_type: &str, expected: Kind) {
    let mut world = World::with(&format!("ca_key_type = \"{ca_key_type}\""));
    let mut agent = world.agent(&world.token());
    let _entry = world.entry(agent.id(), "spiffe://example.org/web", &[]);
    agent.daemon().wait_for("SVID ready");

    let (chain, roots) = fetch(&agent.socket()).await;

    let [root] = roots.as_slice() else {
        panic!("{} roots", roots.len());
    };
    assert_eq!(kind(root), expected);
    let bundle = Bundle {
        x509_authorities: vec![X509Authority {
            certificate: root.clone(),
            tainted: false,
        }],
        ..Bundle::empty(TrustDomain::parse("example.org").unwrap())
    };
    let now = std::time::SystemTime::now().into();
    let verified = x509::verify(&chain, |_| Some(&bundle), now).unwrap();
    assert_eq!(verified.svid().id.path(), "/web");

    // The key is read back, and signs what the same agent shows next.
    world.restart_server();
    assert_eq!(shown_root(&world), root.as_ref());
    agent.restart();
    agent.daemon().wait_for("SVID ready");
}

/// The SVID and the roots that the Workload API gives.
async fn fetch(socket: &Path) -> (Chain, Chain) {
    let (client, connection) = edge::grpc::connect(socket).await.unwrap();
    let mut request = tonic::Request::new(X509svidRequest {});
    let metadata = request.metadata_mut();
    metadata.insert("workload.spiffe.io", "true".parse().unwrap());
    let fetching = async {
        let mut client = SpiffeWorkloadApiClient::new(client);
        let mut stream = client.fetch_x509svid(request).await.unwrap().into_inner();
        let svid = stream.message().await.unwrap().unwrap().svids.remove(0);
        (certificates(&svid.x509_svid), certificates(&svid.bundle))
    };
    tokio::select! {
        biased;
        fetched = fetching => fetched,
        () = connection => panic!("the connection ended"),
    }
}

fn kind(root: &[u8]) -> Kind {
    let (_, root) = X509Certificate::from_der(root).unwrap();
    match root.public_key().parsed().unwrap() {
        PublicKey::EC(point) => Kind::Ec(point.key_size()),
        PublicKey::RSA(key) => Kind::Rsa(key.key_size()),
        other => panic!("{other:?}"),
    }
}

/// The one root that `bundle show` prints.
fn shown_root(world: &World) -> Vec<u8> {
    let shown = std::fs::read(world.bundle()).unwrap();
    pem::parse(shown).unwrap().into_contents()
}
