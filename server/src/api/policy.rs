//! The Policies service.

use std::sync::Arc;

use attest::{
    PcrValues,
    event_log::before_words,
    ima::{MeasurementList, Progress, ProvenList, Quoted, explain},
    policy::{Difference, DifferenceKind, Evidence, Learned, Policy, PolicyKey, PolicyName, judge, learn},
};
use edge::Clock;
use plugin_api::{Appraised, Host};
use proto::plastron::policy::v1::{
    ApplyPolicyRequest, ApplyPolicyResponse, AssignPoliciesRequest, Caution, ChangeResponse,
    GetPolicyRequest, LearnPolicyRequest, LearnPolicyResponse, ListPoliciesRequest, ListPoliciesResponse,
    Policy as WirePolicy, PromotePolicyRequest, RetirePolicyRequest, StagePolicyRequest, TestPolicyRequest,
    TestPolicyResponse, policies_server,
};
use tokio::task::spawn_blocking;
use tonic::{Request, Response, Status, async_trait};

use super::{gate, status};
use crate::{
    appraisals::{FallOut, fall_out},
    convert::{self, PolicyFieldError, Tallies},
    registry::{
        Draft, EventLogs, Registry, Snapshot,
        policy_changes::{self, NewPolicy, PolicyOrder, PolicyRefused},
    },
};

pub(super) struct PolicyService {
    pub(super) registry: Registry,
    pub(super) logs: EventLogs,
    /// One of them has to have signed a policy, where there are any.
    pub(super) keys: Arc<[PolicyKey]>,
    pub(super) clock: Clock,
}

/// A policy is not signed by a key of the configuration.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("policy is not signed by a key of `policy_keys`; give the signature over its canonical form")]
struct NotSigned;

/// What is to be changed.
#[derive(Clone)]
enum Order {
    /// Policies that are one host's own.
    Assign(String, Vec<PolicyName>),
    /// Policies themselves.
    Policies(PolicyOrder),
}

#[async_trait]
impl policies_server::Policies for PolicyService {
    async fn apply_policy(
        &self,
        request: Request<ApplyPolicyRequest>,
    ) -> Result<Response<ApplyPolicyResponse>, Status> {
        let actor = gate::caller(&request)?.to_string();
        let (keys, request) = (Arc::clone(&self.keys), request.into_inner());
        let new = aside(move || read(&keys, request)).await??;
        let (name, generation) = (new.policy.name.clone(), new.policy.generation_id().to_string());
        let applied = self
            .registry
            .change(move |draft| policy_changes::apply(draft, new, &actor));
        let applied = applied.await.map_err(|error| status::not_changed(&error))?;
        let (_, changes) = applied.map_err(|refused| status::policy_refused(&refused))?;
        Ok(Response::new(ApplyPolicyResponse {
            policy: self.shown(vec![name]).await?.pop(),
            generation,
            changes,
        }))
    }

    async fn list_policies(
        &self,
        _request: Request<ListPoliciesRequest>,
    ) -> Result<Response<ListPoliciesResponse>, Status> {
        let snapshot = self.registry.snapshot();
        let policies = aside(move || {
            let tallies = Tallies::of(&snapshot);
            let policies = snapshot.policies.iter();
            let policies = policies.map(|policy| convert::policy_to_wire(policy, &tallies, false));
            policies.collect()
        });
        Ok(Response::new(ListPoliciesResponse {
            policies: policies.await?,
        }))
    }

    async fn get_policy(&self, request: Request<GetPolicyRequest>) -> Result<Response<WirePolicy>, Status> {
        let name = convert::policy_name(&request.get_ref().name).map_err(|error| malformed(&error))?;
        let snapshot = self.registry.snapshot();
        let policy = snapshot.policies.get(&name).cloned();
        let policy = policy.ok_or_else(|| status::policy_refused(&PolicyRefused::NoPolicy(name)))?;
        let shown = aside(move || convert::policy_to_wire(&policy, &Tallies::of(&snapshot), true));
        Ok(Response::new(shown.await?))
    }

    async fn promote_policy(
        &self,
        request: Request<PromotePolicyRequest>,
    ) -> Result<Response<ChangeResponse>, Status> {
        let actor = gate::caller(&request)?.to_string();
        let request = request.into_inner();
        let which = convert::which(&request.name, &request.generation).map_err(|error| malformed(&error))?;
        let order = PolicyOrder::Promote {
            which,
            retires_others: request.retire_others,
        };
        self.change(Order::Policies(order), request.caution, actor).await
    }

    async fn stage_policy(
        &self,
        request: Request<StagePolicyRequest>,
    ) -> Result<Response<ChangeResponse>, Status> {
        let actor = gate::caller(&request)?.to_string();
        let request = request.into_inner();
        let which = convert::which(&request.name, &request.generation).map_err(|error| malformed(&error))?;
        let order = Order::Policies(PolicyOrder::Stage(which));
        self.change(order, request.caution, actor).await
    }

    async fn retire_policy(
        &self,
        request: Request<RetirePolicyRequest>,
    ) -> Result<Response<ChangeResponse>, Status> {
        let actor = gate::caller(&request)?.to_string();
        let request = request.into_inner();
        let which = convert::which(&request.name, &request.generation).map_err(|error| malformed(&error))?;
        let order = Order::Policies(PolicyOrder::Retire(which));
        self.change(order, request.caution, actor).await
    }

    async fn assign_policies(
        &self,
        request: Request<AssignPoliciesRequest>,
    ) -> Result<Response<ChangeResponse>, Status> {
        let actor = gate::caller(&request)?.to_string();
        let request = request.into_inner();
        let names = convert::policy_names(&request.policies).map_err(|error| malformed(&error))?;
        let order = if request.host_id.is_empty() {
            Order::Policies(PolicyOrder::Default(names))
        } else {
            Order::Assign(request.host_id, names)
        };
        self.change(order, request.caution, actor).await
    }

    async fn learn_policy(
        &self,
        request: Request<LearnPolicyRequest>,
    ) -> Result<Response<LearnPolicyResponse>, Status> {
        let request = request.into_inner();
        let name = convert::policy_name(&request.name).map_err(|error| malformed(&error))?;
        let pins = convert::pins(&request.pins).map_err(|error| malformed(&error))?;
        let snapshot = self.registry.snapshot();
        let host = snapshot.hosts.get(&request.host_id).cloned();
        let host = host.ok_or_else(|| Status::not_found("host not found"))?;
        let version = match (request.version, snapshot.policies.get(&name)) {
            (0, known) => known.map_or(1, |known| known.newest_version.saturating_add(1)),
            (version, _) => version,
        };
        let logs = self.logs.clone();
        let pins = pins.unwrap_or_else(Learned::usual_pins);
        let learning = aside(move || {
            learned(&host, &logs, &request.kernel_list, |evidence| {
                let evidence = if request.command_line.is_empty() {
                    evidence
                } else {
                    evidence.with_command_line(&request.command_line)
                };
                learn(&name, version, &evidence, pins).text
            })
        });
        let text = learning.await??;
        Ok(Response::new(LearnPolicyResponse { text }))
    }

    async fn test_policy(
        &self,
        request: Request<TestPolicyRequest>,
    ) -> Result<Response<TestPolicyResponse>, Status> {
        let request = request.into_inner();
        let policy = Policy::parse(request.text.as_bytes())
            .map_err(|error| status::invalid("policy is not understood", &error))?;
        let snapshot = self.registry.snapshot();
        let host = snapshot.hosts.get(&request.host_id).cloned();
        let host = host.ok_or_else(host_not_found)?;
        let logs = self.logs.clone();
        let judging = aside(move || {
            learned(&host, &logs, &request.kernel_list, |evidence| {
                let evidence = if request.command_line.is_empty() {
                    evidence
                } else {
                    evidence.with_command_line(&request.command_line)
                };
                tested(policy, !request.kernel_list.is_empty(), &evidence)
            })
        });
        let outcome = judging.await??;
        Ok(Response::new(outcome))
    }
}

/// What differs between a policy and evidence on record, of which the kernel's list is none, but for one that was brought.
fn tested(policy: Policy, has_list: bool, evidence: &Evidence<'_>) -> TestPolicyResponse {
    let are_files_unknown = policy.ima.is_some() && !has_list;
    let rest = Policy {
        ima: policy.ima.clone().filter(|_| has_list),
        ..policy
    };
    let differences = judge(&rest, evidence);
    let is_unknown = |difference: &&Difference| difference.kind == DifferenceKind::NotProven;
    let files = are_files_unknown
        .then(|| "the files that its kernel measures: their list is not on record".to_owned());
    TestPolicyResponse {
        differences: differences
            .iter()
            .filter(|difference| !is_unknown(difference))
            .map(convert::difference_to_wire)
            .collect(),
        more: differences.more(),
        unknown: differences
            .iter()
            .filter(is_unknown)
            .map(ToString::to_string)
            .chain(files)
            .collect(),
    }
}

/// What `teach` makes of the evidence on record of `host`, and of its kernel's list, where that is not empty.
fn learned<T>(
    host: &Host,
    logs: &EventLogs,
    kernel_list: &[u8],
    teach: impl FnOnce(Evidence<'_>) -> T,
) -> Result<T, Status> {
    let nothing = || {
        Status::failed_precondition(
            "no event log of this host is on record; it is kept when the host attests next with one that is new",
        )
    };
    let log = logs
        .of(host)
        .map_err(|error| status::invalid("evidence on record can't be used", &error))?;
    let log = log.ok_or_else(nothing)?;
    let appraised = host.appraised.as_ref().ok_or_else(nothing)?;
    let known = appraised.event_log.as_ref().ok_or_else(nothing)?;
    let evidence = Evidence::recorded(&known.values, &log)
        .map_err(|error| status::invalid("evidence on record can't be used", &error))?;
    let evidence = evidence.with_tpm_firmware(appraised.standing.firmware_version);
    if kernel_list.is_empty() {
        return Ok(teach(evidence));
    }
    let list = proven_list(appraised, &before_words(&log, &known.values), kernel_list)?;
    Ok(teach(evidence.with_ima(&list)))
}

/// A list that an operator brings, as far as it adds up to what was proven of the host's.
fn proven_list(appraised: &Appraised, boot: &PcrValues, content: &[u8]) -> Result<ProvenList, Status> {
    let shown = appraised.kernel_list.as_ref().ok_or_else(|| {
        Status::failed_precondition("this host showed no measurement list; `ima` of the server is about that")
    })?;
    let (progress, start) = (&shown.progress, Progress::of_boot(shown.progress.reset_count()));
    let prove = || {
        let list = MeasurementList::parse(content)?;
        let values = Quoted::Values(progress.pcrs());
        explain(list, 0, &start, progress.reset_count(), &values)?.from_this_boot(boot)
    };
    prove().map_err(|reject| {
        status::invalid(
            "this is not the measurement list that the host showed last",
            &reject,
        )
    })
}

/// Reads a policy, and checks who signed it.
fn read(keys: &[PolicyKey], request: ApplyPolicyRequest) -> Result<NewPolicy, Status> {
    let ApplyPolicyRequest { text, signature } = request;
    let policy = Policy::parse(text.as_bytes())
        .map_err(|error| status::invalid("policy is not understood", &error))?;
    let (policy, is_signed) = check_signature(keys, policy, &signature)?;
    Ok(NewPolicy {
        policy,
        text,
        is_signed,
    })
}

/// Where keys are configured, one of them has to have signed it.
fn check_signature(keys: &[PolicyKey], policy: Policy, signature: &[u8]) -> Result<(Policy, bool), Status> {
    if keys.is_empty() {
        return Ok((policy, false));
    }
    let mut signed = keys
        .iter()
        .filter_map(|key| key.verify(policy.clone(), signature).ok());
    match signed.next() {
        Some(signed) => Ok((signed.policy().clone(), true)),
        None => Err(Status::permission_denied(NotSigned.to_string())),
    }
}

/// Does what takes long where nobody waits for it: operators and health are answered by one thread.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    spawn_blocking(work).await.map_err(|_| stopping())
}

impl PolicyService {
    /// Makes a change, if no more hosts fall out than may, or might.
    async fn change(
        &self,
        order: Order,
        caution: Option<Caution>,
        actor: String,
    ) -> Result<Response<ChangeResponse>, Status> {
        let caution = caution.unwrap_or_default();
        let snapshot = self.registry.snapshot();
        let fall_out = self.foresee(&snapshot, &order).await?;
        let [count, unknown] =
            [fall_out.count, fall_out.unknown].map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        let is_accepted = count <= caution.accept_fall_out && unknown <= caution.accept_unknown;
        let is_done = is_accepted && !caution.dry_run;
        let names = if is_done {
            let made = self
                .registry
                .change(move |draft| carry_out(draft, &snapshot, &order, &actor));
            made.await.map_err(|error| status::not_changed(&error))??
        } else {
            Vec::new()
        };
        Ok(Response::new(ChangeResponse {
            is_done,
            policies: self.shown(names).await?,
            fall_out: convert::fall_out_to_wire(&fall_out),
            fall_out_count: count,
            unknown,
            unknown_hosts: convert::unknown_to_wire(&fall_out),
        }))
    }

    /// Who would fall out.
    async fn foresee(&self, snapshot: &Arc<Snapshot>, order: &Order) -> Result<FallOut, Status> {
        let (now, logs) = (self.clock.now(), self.logs.clone());
        let (before, order) = (Arc::clone(snapshot), order.clone());
        let foreseen = match &order {
            Order::Assign(id, names) => {
                before.hosts.get(id).ok_or_else(host_not_found)?;
                policy_changes::check_names(&before.policies, names, "a host")
                    .map(|()| before.policies.clone())
            }
            Order::Policies(order) => policy_changes::foreseen(&before.policies, order, now),
        };
        let foreseen = foreseen.map_err(|refused| status::policy_refused(&refused))?;
        let looking = aside(move || {
            let held_to_before = |host: &Host| before.policies.of(host);
            let held_to_after = |host: &Host| match &order {
                Order::Assign(id, names) if *id == *host.id => foreseen.of(&Host {
                    policies: names.clone(),
                    ..host.clone()
                }),
                Order::Assign(..) | Order::Policies(_) => foreseen.of(host),
            };
            fall_out(&before.hosts, &logs, now, held_to_before, held_to_after)
        });
        looking.await
    }

    async fn shown(&self, names: Vec<PolicyName>) -> Result<Vec<WirePolicy>, Status> {
        let snapshot = self.registry.snapshot();
        let shown = aside(move || {
            let tallies = Tallies::of(&snapshot);
            let policies = names.iter().filter_map(|name| snapshot.policies.get(name));
            let policies = policies.map(|policy| convert::policy_to_wire(policy, &tallies, false));
            policies.collect()
        });
        shown.await
    }
}

/// Makes a change on what it was foreseen on.
fn carry_out(
    draft: &mut Draft,
    foreseen_on: &Snapshot,
    order: &Order,
    actor: &str,
) -> Result<Vec<PolicyName>, Status> {
    if !draft.state().policies.is_same(&foreseen_on.policies) {
        return Err(Status::aborted("policies were changed meanwhile; try again"));
    }
    let changed = match order {
        Order::Assign(id, names) => policy_changes::assign(draft, id, names.clone(), actor)
            .ok_or_else(host_not_found)?
            .map(|()| names.clone()),
        Order::Policies(order) => policy_changes::order(draft, order, actor),
    };
    changed.map_err(|refused| status::policy_refused(&refused))
}

fn malformed(error: &PolicyFieldError) -> Status {
    status::invalid("malformed request", error)
}

fn host_not_found() -> Status {
    Status::not_found("host not found")
}

fn stopping() -> Status {
    Status::unavailable("server is stopping")
}

#[cfg(test)]
mod tests;
