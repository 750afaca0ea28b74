//! `token`.

use std::time::Duration;

use clap::{Args, Subcommand};
use proto::spire::api::{
    server::agent::v1::{CreateJoinTokenRequest, agent_client::AgentClient},
    types,
};
use svid::SpiffeId;

use super::{CommandError, Common};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Makes a join token and prints it. Give it to one agent, as `join_token` in its configuration.
    Generate(Generate),
}

#[derive(Args, Debug)]
pub(super) struct Generate {
    /// A further SPIFFE ID for the agent that will use the token, to register entries under.
    #[arg(long, value_name = "ID")]
    spiffe_id: Option<SpiffeId>,
    /// How long the token may be used: seconds, or as `10m`.
    #[arg(long, value_name = "TIME", default_value = "600", value_parser = seconds)]
    ttl: Duration,
    #[command(flatten)]
    common: Common,
}

/// Whole seconds, as SPIRE's flags have them, or a time with a unit.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let duration = text
        .parse()
        .map(Duration::from_secs)
        .or_else(|_| humantime::parse_duration(text));
    duration.map_err(|error| format!("{error}; give seconds, or a time such as 10m"))
}

impl Command {
    pub(super) async fn execute(self) -> Result<(), CommandError> {
        let Self::Generate(Generate {
            spiffe_id,
            ttl,
            common,
        }) = self;
        let agent_id = spiffe_id.map(|id| types::Spiffeid {
            trust_domain: id.trust_domain().to_string(),
            path: id.path().into(),
        });
        let ttl = i32::try_from(ttl.as_secs()).unwrap_or(i32::MAX);
        let request = CreateJoinTokenRequest {
            ttl,
            token: String::new(),
            agent_id,
        };
        let token = common
            .call(async |client| Ok(AgentClient::new(client).create_join_token(request).await?))
            .await?
            .into_inner();
        common.output.print("spire.api.types.JoinToken", &token, || {
            format!("Token: {}", token.value)
        })
    }
}
