//! `agent`.

use std::time::Duration;

use clap::{Args, Subcommand};
use edge::{Clock, grpc::Client};
use proto::spire::api::{
    server::agent::v1::{
        BanAgentRequest, CountAgentsRequest, DeleteAgentRequest, GetAgentRequest, ListAgentsRequest,
        ListAgentsResponse, agent_client::AgentClient, count_agents_request, list_agents_request::Filter,
    },
    types::{self, Agent, SelectorMatch},
};
use svid::{Selector, SpiffeId, Timestamp};

use super::{
    CommandError, Common,
    entry::MatchOn,
    output::{Output, facts, line},
    token::seconds,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Forbids an agent to come back, until it is evicted. Its SVID is worth nothing from then on.
    Ban(One),
    /// Counts the agents that attested.
    Count(Count),
    /// Forgets an agent. Its SVID is worth nothing from then on; it may attest again.
    Evict(One),
    /// Lists the agents that attested.
    List(List),
    /// Forgets the agents whose SVID ended long ago, if they can attest again and are not banned.
    Purge(Purge),
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
pub(super) struct Count {
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
pub(super) struct List {
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
pub(super) struct Purge {
    /// How long ago the SVID must have ended: seconds, or as `30d`.
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = seconds)]
    expired_for: Duration,
    /// Says which agents would be forgotten, and forgets none.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
}

/// Which agents a command is about.
#[derive(Args, Debug)]
struct Filters {
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
}

const PAGE: i32 = 500;

impl Command {
    pub(super) async fn execute(self) -> Result<(), CommandError> {
        match self {
            Self::Ban(one) => {
                let request = BanAgentRequest {
                    id: Some(wire_id(&one.spiffe_id)),
                };
                one.common
                    .call(async |client| Ok(AgentClient::new(client).ban_agent(request).await?))
                    .await?;
                one.common
                    .output
                    .print("google.protobuf.Empty", &(), || "Agent banned.".into())
            }
            Self::Count(count) => count.execute().await,
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
            Self::Purge(purge) => purge.execute().await,
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

impl Count {
    async fn execute(self) -> Result<(), CommandError> {
        let Filter {
            by_attestation_type,
            by_selector_match,
            by_banned,
            by_can_reattest,
            by_expires_before,
        } = self.filters.to_wire();
        let request = CountAgentsRequest {
            filter: Some(count_agents_request::Filter {
                by_attestation_type,
                by_selector_match,
                by_banned,
                by_can_reattest,
                by_expires_before,
            }),
        };
        let counted = self
            .common
            .call(async |client| Ok(AgentClient::new(client).count_agents(request).await?))
            .await?
            .into_inner();
        let name = "spire.api.server.agent.v1.CountAgentsResponse";
        self.common
            .output
            .print(name, &counted, || format!("{} attested agent(s)", counted.count))
    }
}

impl List {
    async fn execute(self) -> Result<(), CommandError> {
        let filter = self.filters.to_wire();
        let agents = self
            .common
            .call(async |client| list(client, &filter).await)
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
}

impl Purge {
    async fn execute(self) -> Result<(), CommandError> {
        let before = Clock::system().now().minus(self.expired_for);
        let filter = Filter {
            by_can_reattest: Some(true),
            by_banned: Some(false),
            by_expires_before: time_text(before),
            ..Filter::default()
        };
        let dry_run = self.dry_run;
        let purged = self
            .common
            .call(async |client| {
                let mut purged = Vec::new();
                for agent in list(client.clone(), &filter).await? {
                    let agent_id = id_text(agent.id.as_ref());
                    let error = if dry_run {
                        None
                    } else {
                        let request = DeleteAgentRequest { id: agent.id };
                        let deleted = AgentClient::new(client.clone()).delete_agent(request).await;
                        deleted.err().map(|status| status.message().to_owned())
                    };
                    purged.push(Purged { agent_id, error });
                }
                Ok(purged)
            })
            .await?;
        self.show(&purged)
    }

    fn show(&self, purged: &[Purged]) -> Result<(), CommandError> {
        let failed = purged.iter().filter(|agent| agent.error.is_some()).count();
        if self.common.output == Output::Json {
            let agents: Vec<_> = purged.iter().map(|agent| agent.to_json(self.dry_run)).collect();
            line(&edge::json::pretty(
                &serde_json::json!({ "expired_agents": agents }),
            )?);
        } else {
            let what = if self.dry_run { "would be purged" } else { "purged" };
            line(&format!("{} agent(s) {what}", purged.len() - failed));
            for Purged { agent_id, error } in purged {
                let error = error.as_ref().map(|error| format!(": not purged, {error}"));
                line(&format!("  {agent_id}{}", error.unwrap_or_default()));
            }
        }
        if failed > 0 {
            return Err(CommandError::Items {
                failed,
                all: purged.len(),
                what: "purged",
            });
        }
        Ok(())
    }
}

/// An agent that was to be purged, and why it was not.
struct Purged {
    agent_id: String,
    error: Option<String>,
}

impl Purged {
    fn to_json(&self, dry_run: bool) -> serde_json::Value {
        serde_json::json!({
            "agent_id": self.agent_id,
            "deleted": !dry_run && self.error.is_none(),
            "error": self.error.clone().unwrap_or_default(),
        })
    }
}

/// All agents that `filter` lets through.
pub(super) async fn list(client: Client, filter: &Filter) -> Result<Vec<Agent>, CommandError> {
    let mut client = AgentClient::new(client);
    let mut agents = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListAgentsRequest {
            filter: Some(filter.clone()),
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
}

impl Filters {
    fn to_wire(&self) -> Filter {
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

/// As the filter has it: Go's way to print times, with the zone twice.
fn time_text(time: Timestamp) -> String {
    time.to_string().replace('T', " ").replace('Z', " +0000 +00")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_the_filter_wants_them() {
        let text = time_text(Timestamp::from_unix(1_795_338_000));
        assert_eq!(text, "2026-11-22 09:00:00 +0000 +00");
    }
}
