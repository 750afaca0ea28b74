use std::{collections::HashSet, sync::Arc};

use edge::Clock;
use plugin_api::{Finding, Host, KeyKind, Signer, SoftwareKey};
use proto::spire::api::server::svid::v1::svid_server;
use svid::{
    Bundle, JwtAuthority, SelectorSet, Timestamp, TrustDomain,
    jwt::verify,
    x509::{SerialNumber, X509Svid},
};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tonic::{Code, Request};

use super::*;
use crate::{
    api::{admission::Admission, limit::Limiter, methods},
    authorize::{Caller, Denied, Presented, authorize},
    ca::{Ca, JwtSigning},
    issue::{JwtProfile, Lifetimes},
    journal::Journal,
    registry::{AgentSvid, Attributes, Entry, Owner, PathKey},
    store::{Config, Store},
};

const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);
const METHOD: &str = "/spire.api.server.svid.v1.SVID/NewJWTSVID";

struct World {
    service: SvidService,
    key: Vec<u8>,
    _signing: watch::Sender<Option<Arc<JwtSigning>>>,
    _folder: TempDir,
}

fn world() -> World {
    let folder = TempDir::new().unwrap();
    let clock = Clock::pinned(NOW);
    let store = Arc::new(Store::open(folder.path(), Config::default()).unwrap());
    let (journal, _thread) = Journal::open(folder.path().join("audit"), clock).unwrap();
    let (publications, receiver) = mpsc::channel(64);
    let trust_domain = TrustDomain::parse("td").unwrap();
    let (owner, registry) = Owner::load(store, journal.clone(), trust_domain, clock, publications).unwrap();
    tokio::spawn(async move {
        let _nobody_follows = receiver;
        owner.run().await;
    });
    let key = SoftwareKey::generate(KeyKind::EcP256).unwrap();
    let public_key = key.public_key().to_spki();
    let signing = JwtSigning::new(Arc::new(key), Timestamp::NEVER, "k1".into());
    let (signing, signed_with) = watch::channel(Some(Arc::new(signing)));
    let hour = Duration::from_secs(3600);
    let service = SvidService {
        registry,
        ca: Ca::new(watch::channel(None).1, signed_with, journal, clock),
        lifetimes: Lifetimes {
            x509_svid: hour,
            agent: hour,
            ca: 24 * hour,
        },
        jwt_profile: JwtProfile {
            ttl: hour,
            issuer: None,
        },
        sign_limit: Limiter::new(None, "signing", edge::metrics::Tally::default()),
        serials: None,
        admission: Admission::new(1, edge::metrics::Tally::default()),
        withheld: HashSet::new(),
        clock,
    };
    World {
        service,
        key: public_key,
        _signing: signing,
        _folder: folder,
    }
}

fn agent(path: &str, host: Option<&str>) -> Agent {
    Agent {
        path: path.into(),
        attestation_type: "t".into(),
        current: AgentSvid {
            serial: SerialNumber::from_bytes(&[1]),
            not_after: Timestamp::NEVER,
        },
        next: None,
        banned: false,
        can_reattest: true,
        host: host.map(Into::into),
        selectors: SelectorSet::default(),
        version: String::new(),
        attested_at: Timestamp::default(),
    }
}

impl World {
    async fn put(&self, agent: Agent, entry_id: &str) {
        let key = |path: &str| PathKey {
            path: path.into(),
            id: entry_id.into(),
        };
        let entry = Entry {
            spiffe_id: key("/web"),
            parent_id: key(&agent.path),
            hint: "main".into(),
            attributes: Some(Attributes {
                jwt_svid_include_jti: true,
                ..Attributes::default()
            }),
            ..Entry::default()
        };
        let change = move |draft: &mut crate::registry::Draft| {
            if let Some(id) = &agent.host {
                let mut host = Host::enrolled(id.as_ref().into(), draft.now());
                host.verdict.finding = Finding::Verified;
                draft.put_host(host);
            }
            draft.put_agent(agent);
            draft.put_entry(entry);
        };
        self.service.registry.change(change).await.unwrap();
    }

    fn caller(&self, path: &str, proven: bool) -> Result<Caller, Denied> {
        let svid = X509Svid {
            id: SpiffeId::parse(&format!("spiffe://td{path}")).unwrap(),
            serial: SerialNumber::from_bytes(&[1]),
            not_before: Timestamp::default(),
            not_after: Timestamp::NEVER,
        };
        let presented = if proven {
            Presented::Proven(svid)
        } else {
            Presented::Svid(svid)
        };
        let snapshot = self.service.registry.snapshot();
        let access = methods::access(METHOD, methods::Listener::Tcp).unwrap();
        authorize(METHOD, access, &presented, &HashSet::new(), &snapshot, NOW)
    }

    async fn ask(&self, path: &str, entry_id: &str, audience: &[&str]) -> Result<Jwtsvid, Status> {
        let caller = self.caller(path, true).unwrap();
        let request = NewJwtsvidRequest {
            entry_id: entry_id.into(),
            audience: audience.iter().map(ToString::to_string).collect(),
        };
        self.service.new_jwt(caller.agent().unwrap(), request).await
    }
}

#[tokio::test]
async fn an_agent_gets_tokens_for_its_entries_alone() {
    let world = world();
    world.put(agent("/spire/agent/a", None), "ours").await;
    world.put(agent("/spire/agent/b", None), "theirs").await;
    let code = async |entry_id: &str, audience: &[&str]| {
        let answered = world.ask("/spire/agent/a", entry_id, audience).await;
        answered.map_or_else(|status| status.code(), |_| Code::Ok)
    };
    assert_eq!(code("ours", &["db"]).await, Code::Ok);
    assert_eq!(code("theirs", &["db"]).await, Code::NotFound);
    assert_eq!(code("", &["db"]).await, Code::InvalidArgument);
    assert_eq!(code("ours", &[]).await, Code::InvalidArgument);
}

#[tokio::test]
async fn a_token_says_what_its_entry_does() {
    let world = world();
    world.put(agent("/spire/agent/a", None), "ours").await;
    world.put(agent("/spire/agent/h", Some("host")), "hosts").await;
    let mut bundle = Bundle::empty(TrustDomain::parse("td").unwrap());
    bundle.jwt_authorities.push(JwtAuthority {
        key_id: "k1".into(),
        public_key: world.key.clone(),
        expires_at: None,
        tainted: false,
    });
    for (path, entry_id, lives) in [("/spire/agent/a", "ours", 3600), ("/spire/agent/h", "hosts", 300)] {
        let answered = world.ask(path, entry_id, &["db", "db"]).await.unwrap();
        let verified = verify(&answered.token, "db", |_| Some(&bundle), NOW).unwrap();
        assert_eq!(verified.svid().id.to_string(), "spiffe://td/web");
        assert_eq!(verified.svid().claims["jti"].as_str().unwrap().len(), 36);
        assert_eq!(
            (answered.expires_at - answered.issued_at, answered.hint.as_str()),
            (lives, "main")
        );
    }
}

#[tokio::test]
async fn agents_alone_may_ask_and_must_have_proven_their_host() {
    let world = world();
    world.put(agent("/spire/agent/h", Some("host")), "hosts").await;
    assert!(matches!(
        world.caller("/spire/agent/h", false),
        Err(Denied::AgentNotProven(_))
    ));
    assert!(matches!(world.caller("/web", true), Err(Denied::Method(_))));
    let unanswered =
        svid_server::Svid::new_jwtsvid(&world.service, Request::new(NewJwtsvidRequest::default()));
    assert_eq!(unanswered.await.unwrap_err().code(), Code::Internal);
}
