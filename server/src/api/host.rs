//! The Hosts service.

use std::sync::Arc;

use edge::Clock;
use plugin_api::{EnrolledEk, HostEvent};
use proto::plastron::host::v1::{
    AddEndorsementKeyRequest, ApproveHostRequest, EndorsementKey, GetHostRequest, Host, ImportHostsRequest,
    ImportHostsResponse, ListHostsRequest, ListHostsResponse, ReleaseHostRequest,
    RemoveEndorsementKeyRequest, RemoveHostRequest, ReplaceTpmRequest, hosts_server, import_hosts_response,
};
use tonic::{Request, Response, Status, async_trait};
use tracing::error;

use super::{gate, page, status};
use crate::{
    convert::{self, HostFieldError},
    meters::Meters,
    registry::{
        Draft, Registry,
        consent::{Approvals, Orderer, with_consent},
        host_changes::{self, Imported, NewHost, NotApproved},
        key_changes::{self, KeysRefused},
        verdict_changes::{Judgement, judge},
    },
};

pub(super) struct HostService {
    pub(super) registry: Registry,
    pub(super) clock: Clock,
    pub(super) meters: Meters,
    /// How many people it takes to let a host in.
    pub(super) approvals: Approvals,
}

/// Most hosts on a page.
const PAGE: usize = 1000;
/// Most hosts in an import.
const BATCH: usize = 1000;

#[async_trait]
impl hosts_server::Hosts for HostService {
    async fn list_hosts(
        &self,
        request: Request<ListHostsRequest>,
    ) -> Result<Response<ListHostsResponse>, Status> {
        let request = request.into_inner();
        let enrolled = convert::enrolment_filter(request.enrolment).map_err(|error| malformed(&error))?;
        let snapshot = self.registry.snapshot();
        let hosts = snapshot.hosts.after(&request.page_token);
        let matching = hosts.filter(|host| enrolled.is_none_or(|enrolled| enrolled == host.is_enrolled()));
        let page = page::take(matching, request.page_size, PAGE, |host| host.id.as_ref())?;
        let hosts = page.items.into_iter();
        Ok(Response::new(ListHostsResponse {
            hosts: hosts
                .map(|host| convert::host_to_wire(&snapshot.trust_domain, host))
                .collect(),
            next_page_token: page.next,
        }))
    }

    async fn get_host(&self, request: Request<GetHostRequest>) -> Result<Response<Host>, Status> {
        let snapshot = self.registry.snapshot();
        let host = snapshot.hosts.get(&request.get_ref().id).ok_or_else(not_found)?;
        Ok(Response::new(convert::host_to_wire(&snapshot.trust_domain, host)))
    }

    async fn import_hosts(
        &self,
        request: Request<ImportHostsRequest>,
    ) -> Result<Response<ImportHostsResponse>, Status> {
        let by = self.orderer(&request)?;
        let ImportHostsRequest { hosts, dry_run } = request.into_inner();
        if hosts.len() > BATCH {
            let message = format!("more than {BATCH} hosts in a request; send several");
            return Err(Status::resource_exhausted(message));
        }
        let trust_domain = self.registry.snapshot().trust_domain.clone();
        let read = |host| convert::new_host_from_wire(page::new_id().into(), &trust_domain, host);
        let hosts: Vec<_> = hosts.into_iter().map(read).collect();
        let enrol = move |draft: &mut Draft| {
            let hosts = hosts.into_iter();
            hosts.map(|host| import(draft, host, &by)).collect::<Vec<_>>()
        };
        if dry_run {
            let results = self.registry.rehearse(self.clock.now(), enrol);
            return Ok(Response::new(ImportHostsResponse { results }));
        }
        let changed = self.registry.change(enrol);
        let results = changed.await.map_err(|error| status::not_changed(&error))?;
        Ok(Response::new(ImportHostsResponse { results }))
    }

    async fn approve_host(&self, request: Request<ApproveHostRequest>) -> Result<Response<Host>, Status> {
        let by = self.orderer(&request)?;
        let ApproveHostRequest { id, name, shown } = request.into_inner();
        let name = convert::host_name(name).map_err(|error| malformed(&error))?;
        let approved = self
            .registry
            .change(move |draft| host_changes::approve_shown(draft, &id, &name, &shown, &by));
        let host = approved.await.map_err(|error| status::not_changed(&error))?;
        let host = host.map_err(not_approved)?;
        Ok(self.answer(&host))
    }

    async fn release_host(&self, request: Request<ReleaseHostRequest>) -> Result<Response<Host>, Status> {
        let by = self.orderer(&request)?;
        let id = request.into_inner().id;
        let released = self.registry.change(move |draft| {
            draft.state().hosts.get(&id)?;
            let order = |draft: &mut Draft| {
                let judgement = Judgement {
                    actor: &by.actor,
                    exposure: None,
                };
                judge(draft, &id, HostEvent::Released, &judgement).ok_or(())
            };
            Some(with_consent(draft, &id, "release", &by, order))
        });
        let host = released.await.map_err(|error| status::not_changed(&error))?;
        let host = host.ok_or_else(not_found)?;
        let host = host.map_err(|()| Status::failed_precondition("host is not quarantined"))?;
        Ok(self.answer(&host))
    }

    async fn replace_tpm(&self, request: Request<ReplaceTpmRequest>) -> Result<Response<Host>, Status> {
        let by = self.orderer(&request)?;
        let ReplaceTpmRequest {
            id,
            endorsement_key,
            keep_old,
        } = request.into_inner();
        let key = endorsement_key_of(endorsement_key)?;
        let change = move |draft: &mut _| key_changes::order_replacement(draft, &id, &key, keep_old, &by);
        self.change_keys(change).await
    }

    async fn add_endorsement_key(
        &self,
        request: Request<AddEndorsementKeyRequest>,
    ) -> Result<Response<Host>, Status> {
        let by = self.orderer(&request)?;
        let AddEndorsementKeyRequest { id, endorsement_key } = request.into_inner();
        let key = endorsement_key_of(endorsement_key)?;
        self.change_keys(move |draft| key_changes::order_addition(draft, &id, &key, &by))
            .await
    }

    async fn remove_endorsement_key(
        &self,
        request: Request<RemoveEndorsementKeyRequest>,
    ) -> Result<Response<Host>, Status> {
        let actor = gate::caller(&request)?.to_string();
        let RemoveEndorsementKeyRequest { id, endorsement_key } = request.into_inner();
        let key = endorsement_key_of(endorsement_key)?;
        self.change_keys(move |draft| key_changes::remove_key(draft, &id, &key, &actor))
            .await
    }

    async fn remove_host(&self, request: Request<RemoveHostRequest>) -> Result<Response<Host>, Status> {
        let actor = gate::caller(&request)?.to_string();
        let id = request.into_inner().id;
        let removed = self
            .registry
            .change(move |draft| host_changes::remove(draft, &id, &actor));
        let host = removed.await.map_err(|error| status::not_changed(&error))?;
        let host = host.ok_or_else(not_found)?;
        Ok(self.answer(&host))
    }
}

impl HostService {
    fn orderer<T>(&self, request: &Request<T>) -> Result<Orderer, Status> {
        let caller = gate::caller(request)?;
        Ok(Orderer {
            actor: caller.to_string(),
            person: caller.person(),
            needed: self.approvals,
        })
    }

    async fn change_keys<F>(&self, change: F) -> Result<Response<Host>, Status>
    where
        F: FnOnce(&mut Draft) -> Result<Arc<plugin_api::Host>, KeysRefused> + Send + 'static,
    {
        let changed = self.registry.change(change).await;
        let host = changed.map_err(|error| status::not_changed(&error))?;
        let host = host.map_err(|refused| self.keys_refused(&refused))?;
        Ok(self.answer(&host))
    }

    /// The alarm is in the audit trail by now.
    fn keys_refused(&self, refused: &KeysRefused) -> Status {
        if let KeysRefused::KeyTaken(owner) = refused {
            self.meters.alarms.count(["ek_of_other_host"]);
            error!(host_id = %owner, code = "ek_of_other_host", "Endorsement key of this host was to be another's");
        }
        status::keys_refused(refused)
    }

    fn answer(&self, host: &plugin_api::Host) -> Response<Host> {
        Response::new(convert::host_to_wire(
            &self.registry.snapshot().trust_domain,
            host,
        ))
    }
}

fn import(
    draft: &mut Draft,
    new: Result<NewHost, HostFieldError>,
    by: &Orderer,
) -> import_hosts_response::Result {
    let (status, host) = match new.map(|new| host_changes::import(draft, new, by)) {
        Ok(Imported::AlreadyEnrolled(host)) => (
            status::item(&Status::already_exists("host is enrolled already")),
            Some(host),
        ),
        Ok(Imported::Enrolled(host) | Imported::Waiting(host)) => (status::item_ok(), Some(host)),
        Ok(Imported::PathTaken(path)) => {
            let message = format!("another host has the agent ID `{path}`");
            (status::item(&Status::already_exists(message)), None)
        }
        Ok(Imported::Refused(refused)) => (status::item(&status::policy_refused(&refused)), None),
        Err(error) => (status::item(&malformed(&error)), None),
    };
    let trust_domain = &draft.state().trust_domain;
    import_hosts_response::Result {
        code: status.code,
        message: status.message,
        host: host.map(|host| convert::host_to_wire(trust_domain, &host)),
    }
}

fn endorsement_key_of(wire: Option<EndorsementKey>) -> Result<EnrolledEk, Status> {
    let key = convert::endorsement_key_from_wire(wire);
    key.map_err(|error| status::invalid("failed to convert endorsement key", &error))
}

fn malformed(error: &HostFieldError) -> Status {
    status::invalid("failed to convert host", error)
}

fn not_approved(why: NotApproved) -> Status {
    match why {
        NotApproved::Changed => Status::aborted(why.to_string()),
        NotApproved::NotFound => not_found(),
    }
}

fn not_found() -> Status {
    Status::not_found("host not found")
}

#[cfg(test)]
mod tests;
