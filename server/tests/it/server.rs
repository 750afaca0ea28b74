//! A server for one test.

use edge::{Clock, grpc::Client, log};
use proto::spire::api::{
    server::bundle::v1::{GetBundleRequest, bundle_client::BundleClient},
    types,
};
use server::{Server, config::Config};
use svid::{Bundle, JwtAuthority, TrustDomain};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinSet};

/// A server that is ready, and a client of it.
pub(crate) struct Running {
    pub(crate) client: Client,
    pub(crate) folder: TempDir,
    /// Where it listens for TLS.
    pub(crate) address: std::net::SocketAddr,
    _tasks: JoinSet<()>,
}

/// Starts a server with further lines in `[server]`.
pub(crate) async fn start(settings: &str) -> Running {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("api.sock");
    let dir = folder.path().display();
    let text = format!(
        r#"[server]
trust_domain = "example.org"
bind_address = "127.0.0.1"
bind_port = 0
socket_path = "{dir}/api.sock"
data_dir = "{dir}/data"
{settings}
[plugins.node-join-token]
[plugins.keys-memory]
"#
    );
    let config: Config = edge::config::parse(&dir_of(&folder), &text, &[]).unwrap();
    let log = log::init(log::Level::Error, log::Format::Text);
    let server = Server::start(config, Clock::system(), log).await.unwrap();
    let mut ready = server.ready();
    let address = server.address();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        server.run(std::future::pending()).await.unwrap();
    });
    ready.wait_for(|ready| *ready).await.unwrap();
    let (connected, client) = oneshot::channel();
    tasks.spawn(async move {
        let (client, connection) = edge::grpc::connect(&socket).await.unwrap();
        connected.send(client).ok();
        connection.await;
    });
    let client = client.await.unwrap();
    Running {
        client,
        folder,
        address,
        _tasks: tasks,
    }
}

fn dir_of(folder: &TempDir) -> std::path::PathBuf {
    folder.path().join("server.toml")
}

impl Running {
    /// The bundle as the wire has it.
    pub(crate) async fn bundle(&self) -> types::Bundle {
        let mut client = BundleClient::new(self.client.clone());
        let answered = client.get_bundle(GetBundleRequest::default()).await;
        answered.unwrap().into_inner()
    }

    /// What JWT-SVIDs are verified with.
    pub(crate) async fn jwt_bundle(&self) -> Bundle {
        let keys = self.bundle().await.jwt_authorities.into_iter();
        let jwt_authorities = keys.map(|key| JwtAuthority {
            key_id: key.key_id,
            public_key: key.public_key,
            expires_at: None,
            tainted: key.tainted,
        });
        Bundle {
            jwt_authorities: jwt_authorities.collect(),
            ..Bundle::empty(TrustDomain::parse("example.org").unwrap())
        }
    }

    /// The names of what is in the audit trail.
    pub(crate) fn audit(&self) -> String {
        let folder = self.folder.path().join("data/audit");
        let files = std::fs::read_dir(folder).unwrap();
        let texts = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
        texts
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .collect()
    }
}
