//! `agent`.

use clap::{Args, Subcommand};
use proto::spire::api::{
    server::agent::v1::{
        DeleteAgentRequest, GetAgentRequest, ListAgentsRequest, ListAgentsResponse,
        agent_client::AgentClient, list_agents_request::Filter,
    },
    types::{self, Agent, SelectorMatch},
};
use svid::{Selector, SpiffeId, Timestamp};

use super::{CommandError, Common, entry::MatchOn, output::facts};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Forgets an agent. Its SVID is worth nothing from then on; it may attest again.
    Evict(One),
    /// Lists the agents that attested.
    List(List),
    /// Shows an agent.
    Show(One),
}

#[derive(Args, Debug)]
pub(super) struct One {
    /// SPIFFE ID of the agent.
    #[arg(long, value_name = "ID")]
    spiffe_id: SpiffeId,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
pub(super) struct List {
    /// Only agents with these selectors, as `type:value`; may be repeated.
    #[arg(long, value_name = "SELECTOR")]
    selector: Vec<Selector>,
    /// How the given selectors are compared with those of an agent.
    #[arg(long, value_enum, default_value_t = MatchOn::Superset)]
    match_selectors_on: MatchOn,
    /// Only agents that attested in this way, such as `tpm` or `join_token`.
    #[arg(long, value_name = "TYPE")]
    attestation_type: Option<String>,
    /// Only agents that are banned, or are not.
    #[arg(long)]
    banned: Option<bool>,
    /// Only agents that can attest again, or can't.
    #[arg(long)]
    can_reattest: Option<bool>,
    /// Only agents whose SVID ends before; as `2006-01-02 15:04:05 -0700 -07`.
    #[arg(long, value_name = "TIME")]
    expires_before: Option<String>,
    #[command(flatten)]
    common: Common,
}

const PAGE: i32 = 500;

impl Command {
    pub(super) async fn execute(self) -> Result<(), CommandError> {
        match self {
            Self::Evict(one) => {
                let request = DeleteAgentRequest {
                    id: Some(wire_id(&one.spiffe_id)),
                };
                one.common
                    .call(async |client| Ok(AgentClient::new(client).delete_agent(request).await?))
                    .await?;
                one.common
                    .output
                    .print("google.protobuf.Empty", &(), || "Agent evicted.".into())
            }
            Self::List(list) => list.execute().await,
            Self::Show(one) => {
                let request = GetAgentRequest {
                    id: Some(wire_id(&one.spiffe_id)),
                    output_mask: None,
                };
                let agent = one
                    .common
                    .call(async |client| Ok(AgentClient::new(client).get_agent(request).await?))
                    .await?;
                let agent = agent.into_inner();
                one.common
                    .output
                    .print("spire.api.types.Agent", &agent, || pretty(&agent))
            }
        }
    }
}

impl List {
    async fn execute(self) -> Result<(), CommandError> {
        let filter = self.filter();
        let agents = self
            .common
            .call(async |client| {
                let mut client = AgentClient::new(client);
                let mut agents = Vec::new();
                let mut page_token = String::new();
                loop {
                    let filter = Some(filter.clone());
                    let request = ListAgentsRequest {
                        filter,
                        output_mask: None,
                        page_size: PAGE,
                        page_token,
                    };
                    let page = client.list_agents(request).await?.into_inner();
                    agents.extend(page.agents);
                    page_token = page.next_page_token;
                    if page_token.is_empty() {
                        return Ok(agents);
                    }
                }
            })
            .await?;
        let response = ListAgentsResponse {
            agents,
            next_page_token: String::new(),
        };
        self.common
            .output
            .print("spire.api.server.agent.v1.ListAgentsResponse", &response, || {
                let mut text = format!("Found {} attested agent(s)\n\n", response.agents.len());
                text.extend(response.agents.iter().map(|agent| pretty(agent) + "\n"));
                text
            })
    }

    fn filter(&self) -> Filter {
        let by_selector_match = (!self.selector.is_empty()).then(|| SelectorMatch {
            selectors: self.selector.iter().map(wire_selector).collect(),
            r#match: self.match_selectors_on.to_wire(),
        });
        Filter {
            by_attestation_type: self.attestation_type.clone().unwrap_or_default(),
            by_selector_match,
            by_banned: self.banned,
            by_can_reattest: self.can_reattest,
            by_expires_before: self.expires_before.clone().unwrap_or_default(),
        }
    }
}

pub(super) fn wire_id(id: &SpiffeId) -> types::Spiffeid {
    types::Spiffeid {
        trust_domain: id.trust_domain().to_string(),
        path: id.path().into(),
    }
}

pub(super) fn wire_selector(selector: &Selector) -> types::Selector {
    types::Selector {
        r#type: selector.kind().into(),
        value: selector.value().into(),
    }
}

pub(super) fn id_text(id: Option<&types::Spiffeid>) -> String {
    id.map(|id| format!("spiffe://{}{}", id.trust_domain, id.path))
        .unwrap_or_default()
}

fn pretty(agent: &Agent) -> String {
    let mut lines = vec![
        ("SPIFFE ID", id_text(agent.id.as_ref())),
        ("Attestation type", agent.attestation_type.clone()),
        (
            "Expiration time",
            Timestamp::from_unix(agent.x509svid_expires_at).to_string(),
        ),
        ("Serial number", agent.x509svid_serial_number.clone()),
        ("Can re-attest", agent.can_reattest.to_string()),
    ];
    if agent.banned {
        lines.push(("Banned", "true".into()));
    }
    if !agent.agent_version.is_empty() {
        lines.push(("Agent version", agent.agent_version.clone()));
    }
    let selectors = agent
        .selectors
        .iter()
        .map(|selector| format!("{}:{}", selector.r#type, selector.value));
    lines.extend(selectors.map(|selector| ("Selector", selector)));
    facts(&lines)
}
