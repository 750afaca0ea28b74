use std::sync::Arc;

use spiffe::X509Source;
use spiffe_rustls::{authorizer, mtls_client, mtls_server};
use swtpm_tests::World;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const WEB: &str = "spiffe://example.org/web";

#[tokio::test]
async fn the_rust_crates_speak_mtls() {
    let world = World::start();
    let agent = world.agent(&world.token());
    let _entry = world.entry(agent.id(), WEB, &[]);
    agent.daemon().wait_for("SVID ready");

    let source = X509Source::builder()
        .endpoint(agent.endpoint())
        .build()
        .await
        .unwrap();
    assert_eq!(source.svid().unwrap().spiffe_id().to_string(), WEB);
    let server = mtls_server(source.clone()).authorize(authorizer::exact([WEB]).unwrap());
    let client = mtls_client(source).authorize(authorizer::exact([WEB]).unwrap());
    let acceptor = TlsAcceptor::from(Arc::new(server.build().unwrap()));
    let connector = TlsConnector::from(Arc::new(client.build().unwrap()));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut tls = acceptor.accept(tcp).await.unwrap();
        tls.write_all(b"hello").await.unwrap();
        tls.shutdown().await.unwrap();
    };
    let call = async {
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = "example.org".try_into().unwrap();
        let mut tls = connector.connect(name, tcp).await.unwrap();
        let mut heard = String::new();
        tls.read_to_string(&mut heard).await.unwrap();
        heard
    };
    let ((), heard) = tokio::join!(serve, call);
    assert_eq!(heard, "hello");
}
