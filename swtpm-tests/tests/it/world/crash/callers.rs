//! Callers of every kind, each on a connection of its own, until the server is gone.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use agent::{
    link::{Address, Link},
    svid_key::KeyRequest,
};
use edge::{
    Clock,
    grpc::Client,
    tls::{Expected, Identity},
};
use proto::{
    plastron::host::v1::{EndorsementKey, ImportHostsRequest, NewHost, hosts_client::HostsClient},
    spire::api::{
        server::{
            agent::v1::{
                AgentX509svidParams, AttestAgentRequest, CreateJoinTokenRequest, RenewAgentRequest,
                agent_client::AgentClient,
                attest_agent_request::{Params, Step},
                attest_agent_response,
            },
            entry::v1::{BatchCreateEntryRequest, entry_client::EntryClient},
            svid::v1::{
                BatchNewX509svidRequest, MintX509svidRequest, NewX509svidParams, svid_client::SvidClient,
            },
        },
        types::{AttestationData, Entry, Selector, Spiffeid, X509svid as WireSvid},
    },
};
use rustls_pki_types::CertificateDer;
use svid::{SpiffeId, x509::X509Svid};
use swtpm_tests::World;
use tokio::{
    net::UnixStream,
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};
use tonic::Status;

use super::Fact;

/// What the callers of one round share.
#[derive(Clone)]
pub(super) struct Callers {
    socket: PathBuf,
    address: Address,
    round: usize,
    facts: mpsc::UnboundedSender<Fact>,
}

/// A connection to the local socket, driven while it is held.
pub(in crate::world) struct Local {
    pub(in crate::world) client: Client,
    driver: AbortHandle,
}

/// Why a caller stops: the server is gone, in the middle of something or before.
enum Gone {
    Call(#[expect(dead_code, reason = "shown where a test fails")] Box<Status>),
    Connection,
}

impl From<Status> for Gone {
    fn from(status: Status) -> Self {
        let cut = matches!(
            status.code(),
            tonic::Code::Unavailable | tonic::Code::Unknown | tonic::Code::Cancelled | tonic::Code::Internal
        );
        assert!(cut, "the server refused: {status}");
        Self::Call(Box::new(status))
    }
}

impl Callers {
    pub(super) fn new(world: &World, round: usize, facts: mpsc::UnboundedSender<Fact>) -> Self {
        let address = world.address();
        let (host, port) = address.split_once(':').unwrap();
        Self {
            socket: world.server_socket(),
            address: Address {
                host: host.into(),
                port: port.parse().unwrap(),
            },
            round,
            facts,
        }
    }

    /// Starts one caller of each kind.
    pub(super) fn spawn_all(self, calling: &mut JoinSet<()>) {
        let this = Arc::new(self);
        macro_rules! spawn {
            ($($caller:ident),+) => {$({
                let this = Arc::clone(&this);
                calling.spawn(async move {
                    let Err(_gone) = this.$caller().await;
                });
            })+};
        }
        spawn!(attest, import, mint, register, sign);
    }

    fn tell(&self, fact: Fact) {
        self.facts.send(fact).unwrap();
    }

    async fn connect(&self) -> Result<Local, Gone> {
        Local::connect(&self.socket).await.ok_or(Gone::Connection)
    }

    async fn attest(&self) -> Result<std::convert::Infallible, Gone> {
        let local = self.connect().await?;
        loop {
            let (svid, _) = self.attested(&local).await?;
            self.tell(Fact::Issued(serial(&svid)));
        }
    }

    /// An agent that is new, with its SVID and key.
    async fn attested(&self, local: &Local) -> Result<(WireSvid, KeyRequest), Gone> {
        let request = CreateJoinTokenRequest {
            ttl: 3600,
            ..CreateJoinTokenRequest::default()
        };
        let token = AgentClient::new(local.client.clone())
            .create_join_token(request)
            .await?;
        let token = token.into_inner().value;
        self.tell(Fact::Token(token.clone()));
        let attested = local.attest(&token).await?;
        self.tell(Fact::Agent(token));
        Ok(attested)
    }

    async fn import(&self) -> Result<std::convert::Infallible, Gone> {
        let local = self.connect().await?;
        let mut client = HostsClient::new(local.client.clone());
        for number in 1_usize.. {
            let key = EndorsementKey {
                hash: format!("{:064x}", self.round << 32 | number),
                ..EndorsementKey::default()
            };
            let host = NewHost {
                name: String::new(),
                endorsement_keys: vec![key],
                ..NewHost::default()
            };
            let imported = client
                .import_hosts(ImportHostsRequest {
                    hosts: vec![host],
                    dry_run: false,
                })
                .await?;
            let result = imported.into_inner().results.remove(0);
            assert_eq!(result.code, 0, "{}", result.message);
            self.tell(Fact::Host(result.host.unwrap().id));
        }
        Err(Gone::Connection)
    }

    async fn mint(&self) -> Result<std::convert::Infallible, Gone> {
        let local = self.connect().await?;
        let mut client = SvidClient::new(local.client.clone());
        let id: SpiffeId = "spiffe://example.org/minted".parse().unwrap();
        loop {
            let csr = KeyRequest::generate(Some(&id)).unwrap().csr;
            let minted = client.mint_x509svid(MintX509svidRequest { csr, ttl: 0 }).await?;
            self.tell(Fact::Minted(serial(&minted.into_inner().svid.unwrap())));
        }
    }

    async fn register(&self) -> Result<std::convert::Infallible, Gone> {
        let local = self.connect().await?;
        for number in 0_usize.. {
            let path = format!("/round/{}/{number}", self.round);
            self.tell(Fact::Entry(local.create(entry("/elsewhere", &path)).await?));
        }
        Err(Gone::Connection)
    }

    /// An agent over TLS that has SVIDs signed, for its workload and for itself.
    async fn sign(&self) -> Result<std::convert::Infallible, Gone> {
        let local = self.connect().await?;
        let (svid, request) = self.attested(&local).await?;
        let agent_path = svid.id.as_ref().unwrap().path.clone();
        self.tell(Fact::Issued(serial(&svid)));
        let entry = entry(&agent_path, &format!("/round/{}/signed", self.round));
        let entry_id = local.create(entry).await?;
        self.tell(Fact::Entry(entry_id.clone()));

        let chain = svid.cert_chain.into_iter().map(CertificateDer::from).collect();
        let identity = Identity::new(chain, &request.key).unwrap();
        let server = Expected::Anyone("spiffe://example.org/spire/server".parse().unwrap());
        let dialed = Link::dial(&self.address, server, Some(&identity), Clock::system()).await;
        let mut link = dialed.map_err(|_| Gone::Connection)?;
        let client = link.client.clone();
        link.during(self.sign_over(client, entry_id))
            .await
            .map_err(|_| Gone::Connection)?
    }

    async fn sign_over(&self, client: Client, entry_id: String) -> Result<std::convert::Infallible, Gone> {
        let (mut svids, mut agents) = (SvidClient::new(client.clone()), AgentClient::new(client));
        let csr = || KeyRequest::generate(None).unwrap().csr;
        loop {
            let entry_id = entry_id.clone();
            let params = vec![NewX509svidParams { entry_id, csr: csr() }];
            let signed = svids
                .batch_new_x509svid(BatchNewX509svidRequest { params })
                .await?;
            let result = signed.into_inner().results.remove(0);
            assert_eq!(result.status.unwrap().code, 0);
            self.tell(Fact::Issued(serial(&result.svid.unwrap())));

            let params = Some(AgentX509svidParams { csr: csr() });
            let renewed = agents.renew_agent(RenewAgentRequest { params }).await?;
            self.tell(Fact::Issued(serial(&renewed.into_inner().svid.unwrap())));
        }
    }
}

impl Local {
    /// Connects; not to a server that is gone.
    pub(in crate::world) async fn connect(socket: &Path) -> Option<Self> {
        let stream = UnixStream::connect(socket).await.ok()?;
        let (client, connection) = Client::start(stream).await.ok()?;
        let driver = tokio::spawn(connection).abort_handle();
        Some(Self { client, driver })
    }

    /// Shows a token; answers with the agent's SVID and its key.
    pub(in crate::world) async fn attest(&self, token: &str) -> Result<(WireSvid, KeyRequest), Status> {
        let request = KeyRequest::generate(None).unwrap();
        let params = Params {
            data: Some(AttestationData {
                r#type: "join_token".into(),
                payload: token.into(),
            }),
            params: Some(AgentX509svidParams {
                csr: request.csr.clone(),
            }),
        };
        let message = AttestAgentRequest {
            step: Some(Step::Params(params)),
        };
        let mut client = AgentClient::new(self.client.clone());
        let mut answers = client
            .attest_agent(tokio_stream::once(message))
            .await?
            .into_inner();
        let answer = answers.message().await?.and_then(|answer| answer.step);
        match answer {
            Some(attest_agent_response::Step::Result(result)) => Ok((result.svid.unwrap(), request)),
            Some(attest_agent_response::Step::Challenge(_)) => panic!("a challenge for a join token"),
            None => Err(Status::cancelled("the stream ended without an answer")),
        }
    }

    async fn create(&self, entry: Entry) -> Result<String, Status> {
        let request = BatchCreateEntryRequest {
            entries: vec![entry],
            output_mask: None,
        };
        let created = EntryClient::new(self.client.clone())
            .batch_create_entry(request)
            .await?;
        let result = created.into_inner().results.remove(0);
        assert_eq!(result.status.unwrap().code, 0);
        Ok(result.entry.unwrap().id)
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn serial(svid: &WireSvid) -> String {
    let leaf = CertificateDer::from(svid.cert_chain[0].as_slice());
    X509Svid::parse(&leaf).unwrap().serial.to_string()
}

fn entry(parent: &str, path: &str) -> Entry {
    let id = |path: &str| {
        Some(Spiffeid {
            trust_domain: "example.org".into(),
            path: path.into(),
        })
    };
    Entry {
        spiffe_id: id(path),
        parent_id: id(parent),
        selectors: vec![Selector {
            r#type: "unix".into(),
            value: "uid:1".into(),
        }],
        ..Entry::default()
    }
}
