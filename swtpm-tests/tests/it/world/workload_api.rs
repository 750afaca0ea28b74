use std::path::Path;

use proto::spiffe::workload::{X509BundlesRequest, spiffe_workload_api_client::SpiffeWorkloadApiClient};
use swtpm_tests::World;
use tonic::{Code, Request, Status};

const WEB: &str = "spiffe://example.org/web";

#[tokio::test]
async fn bundles_come_to_who_has_an_identity_and_asks_as_the_standard_says() {
    let world = World::start();
    let agent = world.agent(&world.token());
    let refused = fetch_bundles(&agent.socket(), &["true"]).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::PermissionDenied, "no identity issued")
    );
    let _entry = world.entry(agent.id(), WEB, &[]);
    agent.daemon().wait_for("SVID ready");

    let bundles = fetch_bundles(&agent.socket(), &["true"]).await.unwrap();

    let shown = std::fs::read(world.bundle()).unwrap();
    assert_eq!(
        bundles,
        [(
            "spiffe://example.org".into(),
            pem::parse(shown).unwrap().into_contents()
        )]
    );
    for wrong in [&[] as &[&str], &["false"], &["true", "true"]] {
        let refused = fetch_bundles(&agent.socket(), wrong).await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.message()),
            (Code::InvalidArgument, "security header missing from request")
        );
    }
}

#[tokio::test]
async fn an_svid_on_demand_comes_beside_one_that_is_there() {
    let world = World::start();
    let agent = world.agent(&world.token());
    let _entry = world.entry(agent.id(), WEB, &[]);
    agent.daemon().wait_for("SVID ready");
    let lazy = "spiffe://example.org/lazy";
    let _lazy = world.entry(agent.id(), lazy, &["--disable-x509-svid-prefetch"]);

    let watch = agent.watch();

    watch.wait_for(lazy);
}

/// The bundles in FetchX509Bundles' first answer, where the security header has these values.
async fn fetch_bundles(socket: &Path, header: &[&str]) -> Result<Vec<(String, Vec<u8>)>, Status> {
    let (client, connection) = edge::grpc::connect(socket).await.unwrap();
    let mut request = Request::new(X509BundlesRequest {});
    for value in header {
        request
            .metadata_mut()
            .append("workload.spiffe.io", value.parse().unwrap());
    }
    let fetching = async {
        let mut client = SpiffeWorkloadApiClient::new(client);
        let mut stream = client.fetch_x509_bundles(request).await?.into_inner();
        let response = stream.message().await?.unwrap();
        let bundles = response.bundles.into_iter();
        Ok(bundles.map(|(id, der)| (id, der.to_vec())).collect())
    };
    tokio::select! {
        biased;
        fetched = fetching => fetched,
        () = connection => panic!("the connection ended"),
    }
}
