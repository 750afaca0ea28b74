//! A host with a TPM in software, and connections on which anything can be said.

use std::{future::Future, path::Path, sync::Arc};

use agent::{
    attest::{Prover, attest},
    link::{Address, Link},
    svid_key::KeyRequest,
};
use edge::{
    Clock,
    grpc::Client,
    tls::{Expected, Exporter, Identity},
};
use node_tpm::TpmProver;
use plugin_api::{Binding, NodeProver};
use prost::Message;
use proto::{
    google::rpc,
    plastron::{
        agent::v1::{
            Ack, AgentMessage, Answer, Open, Question, ServerMessage, agent_message::Message as ToServer,
            agent_session_client::AgentSessionClient, server_message::Message as ToAgent,
        },
        attest::v1::Evidence,
    },
    spire::api::{
        server::agent::v1::{
            AgentX509svidParams, AttestAgentRequest, AttestAgentResponse, BanAgentRequest, ListAgentsRequest,
            agent_client::AgentClient,
            attest_agent_request::{Params, Step},
            attest_agent_response,
        },
        types::{AttestationData, PermissionDeniedDetails, permission_denied_details::Reason},
    },
};
use rustls_pki_types::CertificateDer;
use svid::SpiffeId;
use swtpm_tests::{World, fleet};
use tonic::Status;

/// The event log of the hosts.
const LOG: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../attest/testdata/eventlogs/guard-good-1.eventlog.bin"
);

/// A host that the server knows: it attested once.
pub(super) struct Host {
    world: Arc<World>,
    prover: Option<TpmProver>,
}

/// A connection to the server.
pub(super) struct Connection {
    link: Link,
    pub(super) exporter: Exporter,
}

/// An attestation that is under way, until it is dropped.
pub(super) struct Conversation {
    _queue: tokio::sync::mpsc::Sender<AttestAgentRequest>,
    _responses: tonic::Streaming<AttestAgentResponse>,
    _connection: Connection,
}

/// What the server answers to a first message.
#[derive(Debug)]
pub(super) enum Said {
    Challenge,
    Svid(#[expect(dead_code, reason = "shown where a test fails")] usize),
}

impl Host {
    /// One that is enrolled and attested before.
    pub(super) async fn acquainted() -> Self {
        Self::of(Arc::new(World::for_tpms("", ""))).await
    }

    /// The same, of a server that asks its hosts each second.
    pub(super) async fn often_asked() -> Self {
        Self::of_server_with("evidence_interval = \"1s\"").await
    }

    /// The same, of a server with these settings.
    pub(super) async fn of_server_with(settings: &str) -> Self {
        Self::of(Arc::new(World::for_tpms(settings, ""))).await
    }

    /// Another host of the same server.
    pub(super) async fn neighbour(&self) -> Self {
        Self::of(Arc::clone(&self.world)).await
    }

    /// A host that the same server knows nothing of.
    pub(super) fn stranger(&self) -> Self {
        Self {
            world: Arc::clone(&self.world),
            prover: Some(fleet::prover(Path::new(LOG)).0),
        }
    }

    /// Begins to attest, and does not answer the challenge.
    pub(super) async fn converse(&mut self, csr: &[u8]) -> Result<Conversation, Status> {
        let mut connection = self.dial().await;
        let payload = self.evidence(connection.exporter, csr);
        let (queue, requests) = tokio::sync::mpsc::channel(1);
        queue.send(first_message(payload, csr.to_vec())).await.unwrap();
        let mut client = AgentClient::new(connection.client());
        let conversing = async {
            let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
            let mut responses = client.attest_agent(requests).await?.into_inner();
            responses.message().await?.expect("a challenge");
            Ok::<_, Status>(responses)
        };
        let responses = connection.during(conversing).await?;
        Ok(Conversation {
            _queue: queue,
            _responses: responses,
            _connection: connection,
        })
    }

    async fn of(world: Arc<World>) -> Self {
        let (prover, hash) = fleet::prover(Path::new(LOG));
        let _imported = world.cli(&["host", "import", "--ek-hash", &hash]);
        let mut host = Self {
            world,
            prover: Some(prover),
        };
        let _svid = host.attested().await;
        host
    }

    /// Attests, and answers with the SVID and its key.
    pub(super) async fn attested(&mut self) -> Identity {
        let mut connection = self.dial().await;
        let request = KeyRequest::generate(None).unwrap();
        let shared = Shared(Arc::new(std::sync::Mutex::new(self.prover.take().unwrap())));
        let prover = Prover::new(Box::new(shared.clone()));
        prover.prepare().await.unwrap();
        let (outcome, _) = attest(&mut connection.link, &prover, request.csr).await.unwrap();
        drop(prover);
        self.prover = Some(Arc::into_inner(shared.0).unwrap().into_inner().unwrap());
        let chain = outcome.svid.unwrap().cert_chain;
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        Identity::new(chain, &request.key).unwrap()
    }

    /// Has an administrator ban the agent of every host.
    pub(super) async fn ban(&self) {
        let socket = self.world.server_socket();
        let (client, connection) = edge::grpc::connect(&socket).await.unwrap();
        let banning = async move {
            let mut client = AgentClient::new(client);
            let listed = client.list_agents(ListAgentsRequest::default()).await.unwrap();
            for agent in listed.into_inner().agents {
                client.ban_agent(BanAgentRequest { id: agent.id }).await.unwrap();
            }
        };
        tokio::select! {
            () = banning => {}
            () = connection => panic!("connection lost"),
        }
    }

    /// Has an operator lift the quarantine of the first host.
    pub(super) fn release(&self) {
        let listed = self.world.cli(&["host", "list"]);
        let id = listed["hosts"][0]["id"].as_str().unwrap();
        let released = self.world.cli(&["host", "release", "--id", id]);
        assert_eq!(released["verdict"]["code"], "released", "{released}");
    }

    /// Has an operator put another TPM in place of the first host's; answers with the machine as it is then.
    pub(super) fn with_another_tpm(&self) -> Self {
        let (prover, hash) = fleet::prover(Path::new(LOG));
        let id = self.shown()["id"].as_str().unwrap().to_owned();
        let replaced = self
            .world
            .cli(&["host", "replace-tpm", "--id", &id, "--ek", &hash]);
        assert_eq!(replaced["verdict"]["code"], "replaced", "{replaced}");
        Self {
            world: Arc::clone(&self.world),
            prover: Some(prover),
        }
    }

    /// What the server says of the first host that may attest.
    pub(super) fn shown(&self) -> serde_json::Value {
        self.world.cli(&["host", "list", "--enrolled"])["hosts"][0].clone()
    }

    pub(super) async fn dial(&self) -> Connection {
        self.connect(None).await
    }

    pub(super) async fn dial_as(&self, identity: &Identity) -> Connection {
        self.connect(Some(identity)).await
    }

    async fn connect(&self, identity: Option<&Identity>) -> Connection {
        let link = Link::dial(&self.address(), expected(), identity, Clock::system())
            .await
            .unwrap();
        let exporter = link.exporter;
        Connection { link, exporter }
    }

    fn address(&self) -> Address {
        let address = self.world.address();
        let (host, port) = address.split_once(':').unwrap();
        Address {
            host: host.into(),
            port: port.parse().unwrap(),
        }
    }

    /// What a first message of AttestAgent has.
    pub(super) fn evidence(&mut self, exporter: Exporter, csr: &[u8]) -> Vec<u8> {
        let prover = self.prover.as_mut().unwrap();
        prover.prepare().unwrap();
        let csr = csr.to_vec();
        prover.begin(&Binding { exporter, csr }).unwrap()
    }

    /// What a session opens with.
    pub(super) fn session_evidence(&mut self, exporter: Exporter) -> Evidence {
        let evidence = self.prover.as_mut().unwrap().resume(&exporter).unwrap();
        Evidence::decode(evidence.unwrap().as_slice()).unwrap()
    }

    /// What answers the question `need` in the session on the connection with `exporter`.
    pub(super) fn answer(&mut self, exporter: Exporter, need: &[u8]) -> Vec<u8> {
        self.prover
            .as_mut()
            .unwrap()
            .answer_round(&exporter, need)
            .unwrap()
    }

    /// How each of several handshakes of a client went that would resume sessions.
    pub(super) async fn handshakes(&self, count: usize) -> Vec<rustls::HandshakeKind> {
        let mut config = (*edge::tls::client_config(expected(), None, Clock::system()).unwrap()).clone();
        config.resumption = rustls::client::Resumption::in_memory_sessions(8);
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let mut kinds = Vec::new();
        for _ in 0..count {
            let tcp = tokio::net::TcpStream::connect(self.world.address())
                .await
                .unwrap();
            let name = "localhost".try_into().unwrap();
            let stream = connector.connect(name, tcp).await.unwrap();
            kinds.push(stream.get_ref().1.handshake_kind().unwrap());
            // Tickets would come with the first data of the server.
            let (client, driver) = Client::start(stream).await.unwrap();
            let mut client = proto::spire::api::server::bundle::v1::bundle_client::BundleClient::new(client);
            tokio::select! {
                bundle = client.get_bundle(proto::spire::api::server::bundle::v1::GetBundleRequest::default()) => drop(bundle.unwrap()),
                () = driver => panic!("connection lost"),
            }
        }
        kinds
    }
}

impl Connection {
    pub(super) fn client(&self) -> Client {
        self.link.client.clone()
    }

    /// Waits for `act` while the connection is driven.
    pub(super) async fn during<T>(&mut self, act: impl Future<Output = T>) -> T {
        self.link.during(act).await.unwrap()
    }

    /// Sends a first message.
    pub(super) async fn attest(&mut self, payload: Vec<u8>, csr: &[u8]) -> Result<Said, Status> {
        let client = self.client();
        self.during(said(client, payload, csr.to_vec())).await
    }

    /// Sends a first message on two streams at once.
    pub(super) async fn attest_twice(&mut self, payload: &[u8], csr: &[u8]) -> [Result<Said, Status>; 2] {
        let one = || said(self.client(), payload.to_vec(), csr.to_vec());
        let (first, second) = (one(), one());
        let both = async { tokio::join!(first, second) };
        self.during(both).await.into()
    }

    /// Opens a session, as far as its welcome.
    pub(super) async fn open_session(&mut self, evidence: Option<&Evidence>) -> Result<(), Status> {
        let open = Open {
            evidence: evidence.cloned(),
            ..Open::default()
        };
        let message = AgentMessage {
            message: Some(ToServer::Open(open)),
        };
        let mut client = AgentSessionClient::new(self.client());
        let (queue, requests) = tokio::sync::mpsc::channel(1);
        queue.send(message).await.unwrap();
        self.during(async move {
            let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
            let mut messages = client.session(requests).await?.into_inner();
            messages.message().await?.expect("a welcome");
            Ok(())
        })
        .await
    }
}

/// A session that is open.
pub(super) struct Session {
    queue: tokio::sync::mpsc::Sender<AgentMessage>,
    messages: tonic::Streaming<ServerMessage>,
}

impl Session {
    /// Opens one with evidence.
    pub(super) async fn open(connection: &mut Connection, evidence: &Evidence) -> Self {
        let open = Open {
            evidence: Some(evidence.clone()),
            ..Open::default()
        };
        let (queue, requests) = tokio::sync::mpsc::channel(4);
        let message = Some(ToServer::Open(open));
        queue.send(AgentMessage { message }).await.unwrap();
        let mut client = AgentSessionClient::new(connection.client());
        let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
        let opening = client.session(requests);
        let messages = connection.during(opening).await.unwrap().into_inner();
        Self { queue, messages }
    }

    /// Waits for the first message that `wanted` takes.
    pub(super) async fn hear<T>(
        &mut self,
        connection: &mut Connection,
        wanted: impl Fn(ToAgent) -> Option<T>,
    ) -> T {
        loop {
            let message = connection.during(self.messages.message()).await.unwrap();
            let message = message.and_then(|message| message.message);
            let message = message.expect("the session goes on");
            if let ToAgent::Update(update) = &message {
                self.acknowledge(update.revision).await;
            }
            if let Some(found) = wanted(message) {
                return found;
            }
        }
    }

    /// Waits for a question.
    pub(super) async fn question(&mut self, connection: &mut Connection) -> Question {
        let question = |message| match message {
            ToAgent::Question(question) => Some(question),
            _ => None,
        };
        self.hear(connection, question).await
    }

    /// Waits for the end that the server makes, and says what it says of it.
    pub(super) async fn end(&mut self, connection: &mut Connection) -> Status {
        loop {
            match connection.during(self.messages.message()).await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the session ended without a word"),
                Err(status) => return status,
            }
        }
    }

    /// Waits for the withdrawal of the host's standing, and says its code.
    pub(super) async fn withdrawal(&mut self, connection: &mut Connection) -> String {
        let code = |message| match message {
            ToAgent::Withdrawal(withdrawal) => Some(withdrawal.code),
            _ => None,
        };
        self.hear(connection, code).await
    }

    /// The server does not wait for ever for who has a bundle.
    async fn acknowledge(&self, revision: u64) {
        let message = Some(ToServer::Ack(Ack { revision }));
        self.queue.send(AgentMessage { message }).await.unwrap();
    }

    pub(super) async fn answer(&self, round: u64, evidence: Vec<u8>) {
        let message = Some(ToServer::Answer(Answer { round, evidence }));
        self.queue.send(AgentMessage { message }).await.unwrap();
    }
}

fn first_message(payload: Vec<u8>, csr: Vec<u8>) -> AttestAgentRequest {
    let params = Params {
        data: Some(AttestationData {
            r#type: "tpm".into(),
            payload,
        }),
        params: Some(AgentX509svidParams { csr }),
    };
    AttestAgentRequest {
        step: Some(Step::Params(params)),
    }
}

async fn said(client: Client, payload: Vec<u8>, csr: Vec<u8>) -> Result<Said, Status> {
    let requests = tokio_stream::once(first_message(payload, csr));
    let mut responses = AgentClient::new(client)
        .attest_agent(requests)
        .await?
        .into_inner();
    match responses.message().await?.and_then(|response| response.step) {
        Some(attest_agent_response::Step::Challenge(_)) => Ok(Said::Challenge),
        Some(attest_agent_response::Step::Result(result)) => {
            Ok(Said::Svid(result.svid.unwrap().cert_chain.len()))
        }
        None => panic!("the server said nothing"),
    }
}

/// What a refusal tells the agent to do.
pub(super) fn reason(status: &Status) -> Option<Reason> {
    let details = rpc::Status::decode(status.details()).ok()?.details;
    let details = PermissionDeniedDetails::decode(details.first()?.value.as_slice()).ok()?;
    Some(details.reason())
}

fn expected() -> Expected {
    Expected::Anyone("spiffe://example.org/spire/server".parse::<SpiffeId>().unwrap())
}

/// A prover that the agent's code borrows.
#[derive(Clone)]
struct Shared(Arc<std::sync::Mutex<TpmProver>>);

impl NodeProver for Shared {
    fn name(&self) -> &'static str {
        node_tpm::NAME
    }

    fn prepare(&mut self) -> Result<(), plugin_api::ProverError> {
        self.0.lock().unwrap().prepare()
    }

    fn begin(&mut self, binding: &Binding) -> Result<Vec<u8>, plugin_api::ProverError> {
        self.0.lock().unwrap().begin(binding)
    }

    fn answer(&mut self, challenge: &[u8]) -> Result<Vec<u8>, plugin_api::ProverError> {
        self.0.lock().unwrap().answer(challenge)
    }
}
