//! The Agent service, but for attestation itself.

use std::{sync::Arc, time::Duration};

use edge::Clock;
use plugin_api::NodeAttestor;
use proto::spire::api::{
    server::agent::v1::{
        AttestAgentRequest, AttestAgentResponse, BanAgentRequest, CountAgentsRequest, CountAgentsResponse,
        CreateJoinTokenRequest, DeleteAgentRequest, GetAgentRequest, ListAgentsRequest, ListAgentsResponse,
        PostStatusRequest, PostStatusResponse, RenewAgentRequest, RenewAgentResponse, agent_server,
    },
    types,
};
use svid::{SpiffeId, x509::CertificateRequest};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming, async_trait, codegen::BoxStream};

use super::{
    Connection,
    admission::Admission,
    attest, filter, gate,
    intake::Allowance,
    limit::{ClaimedHost, Limiter},
    page,
    refusals::Refusals,
    serials::Serials,
    shares::{Share, Shares},
    status,
    verdicts::Verdicts,
};
use crate::{
    ca::Ca,
    convert,
    issue::{self, Lifetimes},
    journal::Record,
    meters::Meters,
    registry::{Agent, AgentSvid, Registry, changes},
};

#[derive(Clone)]
pub(super) struct AgentService {
    pub(super) registry: Registry,
    pub(super) ca: Ca,
    pub(super) attestors: Vec<Arc<dyn NodeAttestor>>,
    pub(super) lifetimes: Lifetimes,
    pub(super) attest_limit: Limiter,
    pub(super) host_limit: Limiter<ClaimedHost>,
    pub(super) admission: Admission,
    pub(super) refusals: Refusals,
    pub(super) meters: Meters,
    pub(super) verdicts: Verdicts,
    pub(super) conversations: Shares,
    /// Of those, the ones of which the host is not known yet.
    pub(super) strangers: Shares,
    /// Logs that may be appraised at once.
    pub(super) appraisals: Arc<Semaphore>,
    pub(super) sign_limit: Limiter,
    pub(super) serials: Option<Serials>,
    pub(super) clock: Clock,
}

/// Most agents on a page.
const PAGE: usize = 1000;
/// Longest life of a join token.
const MAX_TOKEN_TTL: Duration = Duration::from_secs(366 * 24 * 3600);

#[async_trait]
impl agent_server::Agent for AgentService {
    async fn attest_agent(
        &self,
        request: Request<Streaming<AttestAgentRequest>>,
    ) -> Result<Response<BoxStream<AttestAgentResponse>>, Status> {
        let connection = gate::connection(&request)?;
        let allowance = request.extensions().get::<Allowance>().cloned();
        let allowance = allowance.ok_or_else(|| status::bug("attestation without allowance"))?;
        self.attest_limit.check(connection.address(), 1)?;
        let attesting = connection.begin_attestation().ok_or_else(|| {
            Status::failed_precondition("a connection carries one attestation at a time; dial a new one")
        })?;
        let share = self.take_place(&self.conversations, &connection)?;
        Ok(Response::new(Box::pin(attest::conversation(
            self.clone(),
            connection,
            (attesting, share),
            allowance,
            request.into_inner(),
        ))))
    }

    async fn renew_agent(
        &self,
        request: Request<RenewAgentRequest>,
    ) -> Result<Response<RenewAgentResponse>, Status> {
        let connection = gate::connection(&request)?;
        self.sign_limit.check(connection.address(), 1)?;
        let caller = gate::caller(&request)?;
        let agent = caller
            .agent()
            .ok_or_else(|| status::bug("renewal without agent"))?;
        if agent.can_reattest {
            return Err(status::must_reattest());
        }
        let params = request
            .into_inner()
            .params
            .ok_or_else(|| Status::invalid_argument("params cannot be nil"))?;
        if params.csr.is_empty() {
            return Err(Status::invalid_argument("missing CSR"));
        }
        if let Some(serials) = &self.serials {
            serials.take(&agent.path, 1, self.lifetimes.agent, self.clock.now(), || 0)?;
        }
        let svid = self.renew(agent, &params.csr).await?;
        Ok(Response::new(RenewAgentResponse { svid: Some(svid) }))
    }

    async fn post_status(
        &self,
        request: Request<PostStatusRequest>,
    ) -> Result<Response<PostStatusResponse>, Status> {
        let caller = gate::caller(&request)?;
        let agent = caller
            .agent()
            .ok_or_else(|| status::bug("status without agent"))?;
        let (path, version) = (Arc::clone(&agent.path), request.into_inner().agent_version);
        if version.len() > Agent::MAX_VERSION {
            return Err(Status::invalid_argument(
                "agent version is too long (max 255 characters)",
            ));
        }
        if !version.is_empty() && version != agent.version {
            let noted = self
                .registry
                .change(move |draft| changes::note_version(draft, &path, &version))
                .await;
            noted
                .map_err(|error| status::not_changed(&error))?
                .ok_or_else(not_found)?;
        }
        Ok(Response::new(PostStatusResponse {}))
    }

    async fn create_join_token(
        &self,
        request: Request<CreateJoinTokenRequest>,
    ) -> Result<Response<types::JoinToken>, Status> {
        let actor = gate::caller(&request)?.to_string();
        let (new, path) = self.new_token(request.into_inner())?;
        let token = types::JoinToken {
            value: new.token.clone(),
            expires_at: new.expires_at.as_unix(),
        };
        let created = self
            .registry
            .change(move |draft| changes::create_token(draft, &new, &path, &actor))
            .await;
        let created = created.map_err(|error| status::not_changed(&error))?;
        created.map_err(|error| status::token_not_created(&error))?;
        Ok(Response::new(token))
    }

    async fn count_agents(
        &self,
        request: Request<CountAgentsRequest>,
    ) -> Result<Response<CountAgentsResponse>, Status> {
        let filter = filter::count_agents(request.into_inner().filter.as_ref())?;
        let snapshot = self.registry.snapshot();
        let count = snapshot
            .agents
            .values()
            .filter(|agent| filter.matches(agent))
            .count();
        Ok(Response::new(CountAgentsResponse {
            count: page::count(count),
        }))
    }

    async fn list_agents(
        &self,
        request: Request<ListAgentsRequest>,
    ) -> Result<Response<ListAgentsResponse>, Status> {
        let request = request.into_inner();
        let filter = filter::list_agents(request.filter.as_ref())?;
        let snapshot = self.registry.snapshot();
        let after = (
            std::ops::Bound::Excluded(request.page_token.as_str()),
            std::ops::Bound::Unbounded,
        );
        let matching = snapshot.agents.range::<_, str>(after).map(|(_, agent)| agent);
        let matching = matching.filter(|agent| filter.matches(agent));
        let page = page::take(matching, request.page_size, PAGE, |agent| agent.path.as_ref())?;
        let wire = |agent: &&Arc<Agent>| convert::agent_to_wire(&snapshot.trust_domain, agent);
        let mask = request.output_mask.as_ref();
        let agents = page
            .items
            .iter()
            .map(|agent| convert::mask_agent(wire(agent), mask))
            .collect();
        Ok(Response::new(ListAgentsResponse {
            agents,
            next_page_token: page.next,
        }))
    }

    async fn get_agent(&self, request: Request<GetAgentRequest>) -> Result<Response<types::Agent>, Status> {
        let request = request.into_inner();
        let id = self.agent_id(request.id.as_ref())?;
        let snapshot = self.registry.snapshot();
        let agent = snapshot.agents.get(id.path()).ok_or_else(not_found)?;
        let wire = convert::agent_to_wire(&snapshot.trust_domain, agent);
        Ok(Response::new(convert::mask_agent(
            wire,
            request.output_mask.as_ref(),
        )))
    }

    async fn delete_agent(&self, request: Request<DeleteAgentRequest>) -> Result<Response<()>, Status> {
        let actor = gate::caller(&request)?.to_string();
        let id = self.agent_id(request.into_inner().id.as_ref())?;
        let deleted = self
            .registry
            .change(move |draft| changes::delete_agent(draft, id.path(), &actor))
            .await;
        deleted
            .map_err(|error| status::not_changed(&error))?
            .ok_or_else(not_found)?;
        Ok(Response::new(()))
    }

    async fn ban_agent(&self, request: Request<BanAgentRequest>) -> Result<Response<()>, Status> {
        let actor = gate::caller(&request)?.to_string();
        let id = self.agent_id(request.into_inner().id.as_ref())?;
        let banned = self
            .registry
            .change(move |draft| changes::ban_agent(draft, id.path(), &actor))
            .await;
        banned
            .map_err(|error| status::not_changed(&error))?
            .ok_or_else(not_found)?;
        Ok(Response::new(()))
    }
}

impl AgentService {
    fn agent_id(&self, wire: Option<&types::Spiffeid>) -> Result<SpiffeId, Status> {
        let snapshot = self.registry.snapshot();
        let id = convert::agent_id(&snapshot.trust_domain, wire);
        id.map_err(|error| status::invalid("invalid agent ID", &error))
    }

    /// A place among `places` for whoever is at the other end; local callers need none.
    pub(super) fn take_place(
        &self,
        places: &Shares,
        connection: &Connection,
    ) -> Result<Option<Share>, Status> {
        let Some(source) = connection.source() else {
            return Ok(None);
        };
        let place = places.take(source).ok_or_else(|| {
            self.meters.limited.count(["conversations"]);
            status::too_many_attest()
        });
        place.map(Some)
    }

    async fn renew(&self, agent: &Agent, csr: &[u8]) -> Result<types::X509svid, Status> {
        let mut admitted = self.admission.turn(1).await?;
        let request = CertificateRequest::verify(csr)
            .map_err(|error| status::invalid("failed to parse CSR", &error))?;
        let signing = self.ca.signing().map_err(|error| status::not_signed(&error))?;
        let id = SpiffeId::new(self.registry.snapshot().trust_domain.clone(), &agent.path);
        let id = id.map_err(|error| status::invalid("malformed agent ID", &error))?;
        let template = issue::agent_svid(
            id,
            request.public_key,
            &self.lifetimes,
            self.ca.occasion(&signing),
        );
        let signed = signing
            .sign(&template)
            .map_err(|error| status::not_signed(&error))?;
        admitted.signed();
        let path = Arc::clone(&agent.path);
        let next = AgentSvid {
            serial: signed.svid().serial.clone(),
            not_after: signed.svid().not_after,
        };
        let ledger = signed.ledger_record(Record::new("svid_issued", &template.id));
        let renewed = self.registry.change(move |draft| {
            draft.audit(ledger);
            changes::renew_agent(draft, &path, &next)
        });
        renewed
            .await
            .map_err(|error| status::not_changed(&error))?
            .ok_or_else(not_found)?;
        self.ca.note_agent_svid();
        Ok(convert::svid_to_wire(&signed.recorded()))
    }

    fn new_token(&self, request: CreateJoinTokenRequest) -> Result<(changes::NewToken, Arc<str>), Status> {
        let ttl = u64::try_from(request.ttl)
            .ok()
            .filter(|ttl| *ttl > 0)
            .map(Duration::from_secs);
        let ttl = ttl.ok_or_else(|| Status::invalid_argument("ttl is required, you must provide one"))?;
        let trust_domain = self.registry.snapshot().trust_domain.clone();
        let alias = match &request.agent_id {
            Some(wire) => {
                let id = convert::workload_id(&trust_domain, Some(wire));
                let id = id.map_err(|error| status::invalid("invalid agent ID", &error))?;
                Some((page::new_id().into(), id))
            }
            None => None,
        };
        let token = if request.token.is_empty() {
            page::new_id()
        } else {
            request.token
        };
        let agent_id = SpiffeId::new(trust_domain, &format!("/spire/agent/join_token/{token}"));
        let agent_id =
            agent_id.map_err(|error| status::invalid("token can't be part of an agent ID", &error))?;
        let expires_at = self.clock.now().plus(ttl.min(MAX_TOKEN_TTL));
        Ok((
            changes::NewToken {
                token,
                expires_at,
                alias,
            },
            agent_id.shared_path(),
        ))
    }
}

fn not_found() -> Status {
    Status::not_found("agent not found")
}
