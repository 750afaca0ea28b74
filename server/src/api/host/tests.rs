use std::{collections::HashSet, sync::Arc};

use edge::Clock;
use proto::plastron::host::v1::{EndorsementKey, Enrolment, NewHost, hosts_server::Hosts};
use svid::{Timestamp, TrustDomain};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tonic::Code;

use super::*;
use crate::{
    api::methods,
    authorize::{Presented, authorize},
    journal::Journal,
    registry::Owner,
    store::{Config, Store},
};

struct World {
    service: HostService,
    _folder: TempDir,
}

fn world() -> World {
    world_of(Approvals::One)
}

fn world_of(approvals: Approvals) -> World {
    let folder = TempDir::new().unwrap();
    let clock = Clock::pinned(Timestamp::from_unix(1000));
    let store = Arc::new(Store::open(folder.path(), Config::default()).unwrap());
    let (journal, _thread) = Journal::open(folder.path().join("audit"), clock).unwrap();
    let (publications, receiver) = mpsc::channel(64);
    let trust_domain = TrustDomain::parse("td").unwrap();
    let (owner, registry) = Owner::load(store, journal, trust_domain, clock, publications).unwrap();
    tokio::spawn(async move {
        let _nobody_follows = receiver;
        owner.run().await;
    });
    World {
        service: HostService {
            registry,
            clock,
            meters: Meters::default(),
            approvals,
        },
        _folder: folder,
    }
}

impl World {
    /// A request as the gate lets it through.
    fn request<T>(&self, message: T) -> Request<T> {
        self.request_of(0, message)
    }

    fn request_of<T>(&self, uid: u32, message: T) -> Request<T> {
        let method = "/plastron.host.v1.Hosts/ImportHosts";
        let caller = authorize(
            method,
            methods::access(method, methods::Listener::Local).unwrap(),
            &Presented::Local { uid, pid: 1 },
            &HashSet::new(),
            &self.service.registry.snapshot(),
            Timestamp::from_unix(1000),
        );
        let mut request = Request::new(message);
        request.extensions_mut().insert(caller.unwrap());
        request
    }

    async fn import(&self, hosts: Vec<NewHost>) -> Vec<import_hosts_response::Result> {
        let request = self.request(ImportHostsRequest {
            hosts,
            dry_run: false,
        });
        self.service
            .import_hosts(request)
            .await
            .unwrap()
            .into_inner()
            .results
    }

    async fn list(&self, enrolment: Enrolment, page_size: i32, page_token: &str) -> ListHostsResponse {
        let request = self.request(ListHostsRequest {
            enrolment: enrolment.into(),
            page_size,
            page_token: page_token.into(),
        });
        self.service.list_hosts(request).await.unwrap().into_inner()
    }
}

fn named(name: &str, digit: char) -> NewHost {
    let key = EndorsementKey {
        hash: digit.to_string().repeat(64),
        ..EndorsementKey::default()
    };
    NewHost {
        name: name.into(),
        endorsement_keys: vec![key],
        path: String::new(),
        policies: Vec::new(),
    }
}

fn codes(results: &[import_hosts_response::Result]) -> Vec<Code> {
    results.iter().map(|result| result.code.into()).collect()
}

#[tokio::test]
async fn each_host_of_an_import_is_judged_by_itself() {
    let world = world();
    let hosts = vec![
        named("a", '1'),
        named("bad", 'x'),
        named("again", '1'),
        named("b", '2'),
    ];
    let results = world.import(hosts).await;
    let expected = [Code::Ok, Code::InvalidArgument, Code::AlreadyExists, Code::Ok];
    assert_eq!(codes(&results), expected);
    assert!(results[1].message.contains("endorsement_keys[0]: invalid hash"));
    assert_eq!((&results[1].host, &results[2].host), (&None, &results[0].host));
    let host = results[0].host.clone().unwrap();
    assert_eq!((host.name.as_str(), host.enrolment()), ("a", Enrolment::Enrolled));
    assert_eq!(host.created_at, 1000);
}

#[tokio::test]
async fn a_rehearsal_says_what_an_import_would_do_and_does_nothing() {
    let world = world();
    world.import(vec![named("there", '1')]).await;
    let hosts = vec![named("a", '1'), named("b", '2'), named("again", '2')];
    let request = world.request(ImportHostsRequest { hosts, dry_run: true });
    let rehearsed = world.service.import_hosts(request).await.unwrap().into_inner();
    let expected = [Code::AlreadyExists, Code::Ok, Code::AlreadyExists];
    assert_eq!(codes(&rehearsed.results), expected);
    assert_eq!(world.list(Enrolment::Unspecified, 0, "").await.hosts.len(), 1);
}

#[tokio::test]
async fn a_path_names_the_agent_of_one_host() {
    let world = world();
    let at = |path: &str, digit| NewHost {
        path: path.into(),
        ..named("", digit)
    };
    let hosts = vec![
        at("dc1/a", '1'),
        at("dc1/a", '2'),
        at("dc1/b", '3'),
        at("../x", '4'),
    ];
    let results = world.import(hosts).await;
    let expected = [Code::Ok, Code::AlreadyExists, Code::Ok, Code::InvalidArgument];
    assert_eq!(codes(&results), expected);
    let host = results[0].host.clone().unwrap();
    assert_eq!(host.agent_id, "spiffe://td/spire/agent/tpm/dc1/a");
    assert!(results[1].message.contains("/spire/agent/tpm/dc1/a"));
    let removed = world.request(RemoveHostRequest { id: host.id });
    world.service.remove_host(removed).await.unwrap();
    let again = world.import(vec![at("dc1/a", '2')]).await;
    assert_eq!(codes(&again), [Code::Ok], "a path is free once its host is gone");
}

#[tokio::test]
async fn an_import_is_limited() {
    let world = world();
    let request = world.request(ImportHostsRequest {
        hosts: vec![NewHost::default(); BATCH + 1],
        dry_run: false,
    });
    let refused = world.service.import_hosts(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(world.import(Vec::new()).await.is_empty());
}

#[tokio::test]
async fn hosts_are_listed_by_enrolment_and_page() {
    let world = world();
    world
        .import(vec![named("a", '1'), named("b", '2'), named("c", '3')])
        .await;
    let all = world.list(Enrolment::Unspecified, 0, "").await.hosts;
    assert_eq!(all.len(), 3);
    let first = world.list(Enrolment::Enrolled, 2, "").await;
    assert_eq!(first.hosts, all[..2]);
    let second = world.list(Enrolment::Enrolled, 2, &first.next_page_token).await;
    assert_eq!(
        (second.hosts.as_slice(), second.next_page_token.as_str()),
        (&all[2..], "")
    );
    assert!(world.list(Enrolment::Pending, 0, "").await.hosts.is_empty());
    let unknown = world.request(ListHostsRequest {
        enrolment: 7,
        ..ListHostsRequest::default()
    });
    let refused = world.service.list_hosts(unknown).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn where_it_takes_two_a_second_user_lets_a_host_in() {
    let world = world_of(Approvals::Two);
    let import = |uid| {
        let hosts = vec![named("a", '1')];
        let request = ImportHostsRequest {
            hosts,
            dry_run: false,
        };
        world.service.import_hosts(world.request_of(uid, request))
    };
    let first = import(0).await.unwrap().into_inner().results;
    assert_eq!(codes(&first), [Code::Ok]);
    let host = first[0].host.clone().unwrap();
    assert_eq!(host.enrolment(), Enrolment::Pending);
    assert_eq!(host.proposal.clone().unwrap().by, "local uid=0");
    let approve = |uid, shown: &str| {
        let request = ApproveHostRequest {
            id: host.id.clone(),
            name: String::new(),
            shown: shown.into(),
        };
        world.service.approve_host(world.request_of(uid, request))
    };
    let ordered = host.proposal.clone().unwrap().what;
    let again = approve(0, &ordered).await.unwrap().into_inner();
    assert_eq!(again.enrolment(), Enrolment::Pending, "the same user once more");
    for other in ["", "enrol something else"] {
        let refused = approve(7, other).await.unwrap_err();
        assert_eq!(refused.code(), Code::Aborted, "not what was shown");
    }
    let enrolled = approve(7, &ordered).await.unwrap().into_inner();
    assert_eq!(
        (enrolled.enrolment(), enrolled.proposal),
        (Enrolment::Enrolled, None)
    );

    let replace = |uid| {
        let request = ReplaceTpmRequest {
            id: host.id.clone(),
            endorsement_key: named("", '2').endorsement_keys.pop(),
            keep_old: false,
        };
        world.service.replace_tpm(world.request_of(uid, request))
    };
    let noted = replace(7).await.unwrap().into_inner();
    assert_eq!(noted.endorsement_keys[0].hash, "1".repeat(64));
    let replaced = replace(0).await.unwrap().into_inner();
    assert_eq!(replaced.endorsement_keys[0].hash, "2".repeat(64));
    let release = world.request(ReleaseHostRequest { id: host.id.clone() });
    let refused = world.service.release_host(release).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn hosts_are_shown_named_and_removed() {
    let world = world();
    let results = world.import(vec![named("a", '1')]).await;
    let id = results[0].host.clone().unwrap().id;
    let approve = |name: &str| {
        let request = ApproveHostRequest {
            id: id.clone(),
            name: name.into(),
            shown: String::new(),
        };
        world.service.approve_host(world.request(request))
    };
    let approved = approve("b").await.unwrap().into_inner();
    assert_eq!(approved.name, "b");
    assert_eq!(approve("\n").await.unwrap_err().code(), Code::InvalidArgument);
    let get = || {
        world
            .service
            .get_host(world.request(GetHostRequest { id: id.clone() }))
    };
    assert_eq!(get().await.unwrap().into_inner(), approved);
    let remove = || {
        let request = RemoveHostRequest { id: id.clone() };
        world.service.remove_host(world.request(request))
    };
    assert_eq!(remove().await.unwrap().into_inner(), approved);
    for refused in [get().await, remove().await, approve("c").await] {
        assert_eq!(refused.unwrap_err().code(), Code::NotFound);
    }
}
