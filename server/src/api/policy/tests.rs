use std::{
    collections::HashSet,
    pin::pin,
    sync::mpsc,
    task::{Context, Poll, Waker},
};

use attest::{HashAlg, event_log::EventLog, ima::Hashing};
use plugin_api::{Host, KernelList, KnownLog};
use policies_server::Policies as _;
use svid::{Timestamp, TrustDomain};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::{
    api::methods,
    authorize::{Presented, authorize},
    journal::Journal,
    registry::{Owner, full_host},
    store::{Config, Store},
};

const POLICY: &str = "format = 1\nname = \"vm\"\nversion = 1\n[ima]\n";

struct World {
    service: PolicyService,
    _folder: TempDir,
}

/// A server on `runtime`.
fn world(runtime: &Runtime) -> World {
    let _on_it = runtime.enter();
    world_here()
}

fn world_here() -> World {
    let folder = TempDir::new().unwrap();
    let clock = Clock::pinned(Timestamp::from_unix(1000));
    let store = Arc::new(Store::open(folder.path(), Config::default()).unwrap());
    let (journal, _thread) = Journal::open(folder.path().join("audit"), clock).unwrap();
    let (publications, receiver) = tokio::sync::mpsc::channel(64);
    let trust_domain = TrustDomain::parse("td").unwrap();
    let logs = EventLogs::new(Arc::clone(&store));
    let (owner, registry) = Owner::load(store, journal, trust_domain, clock, publications).unwrap();
    tokio::spawn(async move {
        let _nobody_follows = receiver;
        owner.run().await;
    });
    World {
        service: PolicyService {
            registry,
            logs,
            keys: Arc::new([]),
            clock,
        },
        _folder: folder,
    }
}

impl World {
    /// A request as the gate lets it through.
    fn request<T>(&self, message: T) -> Request<T> {
        let method = "/plastron.policy.v1.Policies/ListPolicies";
        let caller = authorize(
            method,
            methods::access(method, methods::Listener::Local).unwrap(),
            &Presented::Local { uid: 0, pid: 1 },
            &HashSet::new(),
            &self.service.registry.snapshot(),
            Timestamp::from_unix(1000),
        );
        let mut request = Request::new(message);
        request.extensions_mut().insert(caller.unwrap());
        request
    }

    fn applies(&self, text: &str) -> Request<ApplyPolicyRequest> {
        self.request(ApplyPolicyRequest {
            text: text.into(),
            signature: Vec::new(),
        })
    }
}

/// Whether `call` leaves its thread to others while the threads for what takes long are taken; answers with what it says
/// then.
fn check<T>(runtime: &Runtime, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let (release, held) = mpsc::channel::<()>();
    let (taken, is_taken) = mpsc::channel();
    let place = runtime.spawn_blocking(move || {
        taken.send(()).unwrap();
        // Ends when `release` is gone.
        let _released = held.recv();
    });
    is_taken.recv().unwrap();
    let _on_it = runtime.enter();
    let mut call = pin!(call);
    let first = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(
        matches!(first, Poll::Pending),
        "it was done on the caller's thread"
    );
    drop(release);
    runtime.block_on(async {
        place.await.unwrap();
        call.await
    })
}

#[test]
fn what_takes_long_keeps_nobody_waiting() {
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).max_blocking_threads(1).build().unwrap();
    let world = world(&runtime);
    let service = &world.service;
    let malformed = check(&runtime, service.apply_policy(world.applies("format = 7")));
    assert_eq!(malformed.unwrap_err().code(), tonic::Code::InvalidArgument);
    let applied = runtime.block_on(service.apply_policy(world.applies(POLICY)));
    assert_eq!(applied.unwrap().get_ref().policy.as_ref().unwrap().name, "vm");
    let listed = check(
        &runtime,
        service.list_policies(world.request(ListPoliciesRequest {})),
    );
    assert_eq!(listed.unwrap().get_ref().policies.len(), 1);
    let one = GetPolicyRequest { name: "vm".into() };
    let shown = check(&runtime, service.get_policy(world.request(one)));
    assert_eq!(shown.unwrap().get_ref().generations[0].text, POLICY);
}

/// A host that never attested may fall out when it does.
#[test]
fn a_change_is_made_if_no_more_hosts_fall_out_or_might_than_is_accepted() {
    let runtime = Runtime::new().unwrap();
    let world = world(&runtime);
    let service = &world.service;
    runtime.block_on(async {
        for id in ["one", "two"] {
            let host = Host::enrolled(id.into(), Timestamp::from_unix(1000));
            let put = service.registry.change(move |draft| drop(draft.put_host(host)));
            put.await.unwrap();
        }
        service.apply_policy(world.applies(POLICY)).await.unwrap();
        let all = AssignPoliciesRequest {
            policies: vec!["vm".into()],
            ..AssignPoliciesRequest::default()
        };
        let assigned = service.assign_policies(world.request(all)).await.unwrap();
        assert!(assigned.get_ref().is_done, "nothing is enforced");
        for (accept_unknown, dry_run, is_done) in [
            (0, false, false),
            (1, false, false),
            (2, true, false),
            (2, false, true),
        ] {
            let promote = PromotePolicyRequest {
                name: "vm".into(),
                caution: Some(Caution {
                    dry_run,
                    accept_unknown,
                    ..Caution::default()
                }),
                ..PromotePolicyRequest::default()
            };
            let answer = service.promote_policy(world.request(promote)).await.unwrap();
            let answer = answer.get_ref();
            assert_eq!(
                (answer.is_done, answer.fall_out_count, answer.unknown),
                (is_done, 0, 2),
                "{accept_unknown} {dry_run}"
            );
            let unknown = answer.unknown_hosts.iter();
            let ids: Vec<_> = unknown.map(|host| host.host_id.as_str()).collect();
            assert_eq!(ids, ["one", "two"]);
        }
    });
}

/// The machine of these captures: its row, once it showed log and list.
fn measuring(log: &[u8], list: &[u8]) -> Host {
    let boot = EventLog::parse(log).unwrap().replay(HashAlg::Sha256).unwrap();
    let list = MeasurementList::parse(list).unwrap();
    let extended = list.replay(HashAlg::Sha256, Hashing::Whole);
    let appraised = Appraised {
        event_log: Some(KnownLog {
            sha256: *HashAlg::Sha256.digest(&[log]).as_bytes().first_chunk().unwrap(),
            values: boot.select(&"sha256:0-9,14".parse().unwrap()),
            is_kept: true,
        }),
        kernel_list: Some(KernelList {
            progress: Progress::resumed(1, list.len().into(), &extended),
            bytes: 0,
            violations: 0,
        }),
        ..full_host().appraised.unwrap()
    };
    Host {
        appraised: Some(appraised),
        ..Host::enrolled("golden".into(), Timestamp::from_unix(1000))
    }
}

#[tokio::test]
async fn rules_about_files_are_learned_of_the_list_that_the_host_showed() {
    let captured = |kind: &str| {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../attest/testdata");
        std::fs::read(folder.join(kind).join("vm-sb-56c.bin")).unwrap()
    };
    let (log, list) = (captured("eventlogs"), captured("ima"));
    let world = world_here();
    let host = measuring(&log, &list);
    let put = world.service.registry.change(move |draft| {
        let sha256 = host
            .appraised
            .as_ref()
            .unwrap()
            .event_log
            .as_ref()
            .unwrap()
            .sha256;
        draft.keep_log(&sha256, &log);
        draft.put_host(host);
    });
    put.await.unwrap();
    let learn = async |kernel_list: &[u8]| {
        let request = LearnPolicyRequest {
            host_id: "golden".into(),
            name: "vm".into(),
            kernel_list: kernel_list.to_vec(),
            ..LearnPolicyRequest::default()
        };
        let learned = world.service.learn_policy(world.request(request)).await;
        learned.map(|learned| Policy::parse(learned.get_ref().text.as_bytes()).unwrap())
    };
    assert_eq!(learn(b"").await.unwrap().ima, None);
    let files = learn(&list).await.unwrap().ima.unwrap().allow.unwrap();
    assert!(files.len() > 10, "{files:?}");
    // What came after the host was asked last is not proven, and nothing is learned of it.
    let parsed = MeasurementList::parse(&list).unwrap();
    let (shorter, last) = list.split_at(parsed.len_of(parsed.len() - 1));
    let same = learn(&[&list, last].concat()).await.unwrap().ima.unwrap();
    assert_eq!(same.allow.unwrap(), files);
    for other in [shorter, b"no list".as_slice()] {
        let refused = learn(other).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        assert!(
            refused.message().contains("is not the measurement list"),
            "{refused}"
        );
    }
}
