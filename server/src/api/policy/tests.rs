use std::{
    collections::HashSet,
    pin::pin,
    sync::mpsc,
    task::{Context, Poll, Waker},
};

use plugin_api::Host;
use policies_server::Policies as _;
use svid::{Timestamp, TrustDomain};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::{
    api::methods,
    authorize::{Presented, authorize},
    journal::Journal,
    registry::Owner,
    store::{Config, Store},
};

const POLICY: &str = "format = 1\nname = \"vm\"\nversion = 1\n[ima]\n";

struct World {
    service: PolicyService,
    _folder: TempDir,
}

/// A server on `runtime`.
fn world(runtime: &Runtime) -> World {
    let folder = TempDir::new().unwrap();
    let clock = Clock::pinned(Timestamp::from_unix(1000));
    let store = Arc::new(Store::open(folder.path(), Config::default()).unwrap());
    let (journal, _thread) = Journal::open(folder.path().join("audit"), clock).unwrap();
    let (publications, receiver) = tokio::sync::mpsc::channel(64);
    let trust_domain = TrustDomain::parse("td").unwrap();
    let logs = EventLogs::new(Arc::clone(&store));
    let (owner, registry) = Owner::load(store, journal, trust_domain, clock, publications).unwrap();
    runtime.spawn(async move {
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
