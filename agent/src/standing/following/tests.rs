use edge::grpc::{Client, Course, Limits, serve};
use plugin_api::{Binding, NodeProver, ProverError, TpmError};
use proto::plastron::agent::v1::{
    AgentMessage, Sealing, ServerMessage, Update, Welcome, Withdrawal,
    agent_session_server::{AgentSession, AgentSessionServer},
    server_message::Message,
};
use svid::{Timestamp, TrustDomain};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming, async_trait, codegen::BoxStream, service::Routes};

use super::*;
use crate::{
    cache::Keeper,
    link::{Address, Link},
    session::Session,
    standing::Reach,
};

type Said = Result<ServerMessage, Status>;

/// A server that says what the test has it say.
struct Server {
    says: std::sync::Mutex<Option<mpsc::UnboundedReceiver<Said>>>,
}

#[async_trait]
impl AgentSession for Server {
    async fn session(
        &self,
        _request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<BoxStream<ServerMessage>>, Status> {
        let says = self.says.lock().unwrap().take().unwrap();
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(says))))
    }
}

fn say(server: &mpsc::UnboundedSender<Said>, message: Message) {
    let message = Some(message);
    server.send(Ok(ServerMessage { message })).unwrap();
}

/// A connection to a server that begins the session so.
async fn welcomed(welcome: Welcome) -> (Link, mpsc::UnboundedSender<Said>) {
    let (server, says) = mpsc::unbounded_channel();
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let says = std::sync::Mutex::new(Some(says));
    let routes = Routes::new(AgentSessionServer::new(Server { says })).prepare();
    tokio::spawn(async move {
        let (_course, followed) = watch::channel(Course::Serve);
        serve(
            theirs,
            routes,
            std::sync::Arc::new(()),
            Limits::default(),
            followed,
        )
        .await
    });
    let (client, driver) = Client::start(ours).await.unwrap();
    say(&server, Message::Welcome(welcome));
    (Link::of(client, [0; 32], driver), server)
}

async fn following() -> (Following, mpsc::UnboundedSender<Said>) {
    let (mut link, server) = welcomed(Welcome::default()).await;
    let opening = Session::open(
        link.client.clone(),
        TrustDomain::parse("td").unwrap(),
        Vec::new(),
        None,
    );
    let (session, _) = link.during(opening).await.unwrap().unwrap();
    let svid = svid();
    (Following::new(Established { link, session, svid }), server)
}

fn svid() -> AgentSvid {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
    let chain = vec![certificate.der().clone()];
    AgentSvid {
        signed_by: None,
        identity: edge::tls::Identity::new(chain, &key.serialize_der()).unwrap(),
        kept_key: None,
        not_after: Timestamp::NEVER,
        renew_at: Timestamp::NEVER,
        can_reattest: false,
    }
}

async fn hears_of_withdrawal(now: &mut Following, server: &mpsc::UnboundedSender<Said>) -> bool {
    say(server, Message::Withdrawal(Withdrawal::default()));
    let event = now.next(Duration::MAX).await;
    matches!(event, Event::Session(Ok(SessionEvent::Withdrawn { .. })))
}

#[tokio::test]
async fn a_withdrawal_is_heard_while_workloads_are_given_what_was_pushed() {
    let (mut now, server) = following().await;
    say(&server, Message::Update(Update::default()));
    let event = now.next(Duration::MAX).await;
    assert!(matches!(event, Event::Session(Ok(SessionEvent::Pushed { .. }))));
    now.deliver(1, std::future::pending());
    assert!(hears_of_withdrawal(&mut now, &server).await);
}

#[tokio::test]
async fn a_withdrawal_is_heard_while_the_svid_is_renewed() {
    let (mut now, server) = following().await;
    now.renew(Box::pin(std::future::pending()));
    assert!(hears_of_withdrawal(&mut now, &server).await);
}

#[tokio::test]
async fn a_session_that_ends_while_the_svid_is_renewed_waits_for_what_comes_of_it() {
    let (mut now, server) = following().await;
    let (done, awaited) = tokio::sync::oneshot::channel();
    now.renew(Box::pin(async {
        awaited.await.unwrap();
        Renewed::Signed(Err(StandingError::Lost(Lost)))
    }));
    server.send(Err(Status::aborted("replaced"))).unwrap();
    assert!(matches!(now.next(Duration::MAX).await, Event::Session(Err(_))));
    now.end();
    assert!(!now.is_over());
    done.send(()).unwrap();
    assert!(matches!(now.next(Duration::MAX).await, Event::Renewed(_)));
    assert!(now.is_over());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_is_due_once_and_after_its_pause() {
    let (mut now, _server) = following().await;
    assert!(matches!(now.next(Duration::ZERO).await, Event::Due));
    let before = Instant::now();
    let pause = now.put_off(Some(Duration::from_secs(7)));
    assert!(pause >= Duration::from_secs(7), "the server asked for it");
    assert!(matches!(now.next(Duration::ZERO).await, Event::Due));
    assert!(before.elapsed() >= pause);
    now.renew(Box::pin(std::future::pending()));
    assert!(matches!(now.next(Duration::ZERO).await, Event::Look));
}

/// A host with another endorsement key than any server has on record.
struct Interposed;

impl NodeProver for Interposed {
    fn name(&self) -> &'static str {
        "test"
    }

    fn prepare(&mut self) -> Result<(), ProverError> {
        Ok(())
    }

    fn begin(&mut self, _: &Binding) -> Result<Vec<u8>, ProverError> {
        Ok(Vec::new())
    }

    fn answer(&mut self, _: &[u8]) -> Result<Vec<u8>, ProverError> {
        Ok(Vec::new())
    }

    fn recognise(&mut self, _: &[u8]) -> Result<(), ProverError> {
        Err(TpmError::InterposerSuspected.into())
    }
}

#[tokio::test]
async fn nothing_is_sealed_in_a_session_whose_server_knows_another_endorsement_key() {
    let accepted = || Some(Sealing::default());
    for (on_record, is_suspect) in [(Vec::new(), false), (vec![1; 34], true)] {
        let clock = edge::Clock::pinned(Timestamp::from_unix(0));
        let (_keeper, keeper) = Keeper::new(std::sync::Arc::new(|_| Box::pin(std::future::pending())), clock);
        let reach = Reach {
            address: Address {
                host: "localhost".into(),
                port: 1,
            },
            trust_domain: TrustDomain::parse("td").unwrap(),
            prover: Prover::new(Box::new(Interposed)),
            keeper,
            attestations: edge::metrics::Tally::default(),
            clock,
        };
        let (link, server) = welcomed(Welcome {
            endorsement_key_name: on_record,
            sealing: accepted(),
        })
        .await;
        let established = reach.open(link, svid()).await.ok().unwrap();
        let session = &established.session;
        assert_eq!(session.is_suspect(), is_suspect);
        assert_eq!(session.sealing().is_none(), is_suspect);
        let question = Question {
            sealing: accepted(),
            ..Question::default()
        };
        say(&server, Message::Question(question));
        let event = Following::new(established).next(Duration::MAX).await;
        let Event::Session(Ok(SessionEvent::Asked(question))) = event else {
            panic!("no question")
        };
        assert_eq!(question.sealing.is_none(), is_suspect);
    }
}
