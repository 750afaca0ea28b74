//! `jwt`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use proto::spire::api::server::svid::v1::{MintJwtsvidRequest, svid_client::SvidClient};
use svid::SpiffeId;

use super::{
    CommandError, Common,
    agent::wire_id,
    output::{self, line},
    token::seconds,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Has the server sign a JWT-SVID, without any attestation. For break-glass access and for tests; every use is in
    /// the audit trail.
    Mint(Mint),
}

#[derive(Args, Debug)]
pub(super) struct Mint {
    /// SPIFFE ID of the SVID.
    #[arg(long, value_name = "ID")]
    spiffe_id: SpiffeId,
    /// For whom the token is; may be repeated.
    #[arg(long, value_name = "NAME", required = true)]
    audience: Vec<String>,
    /// How long it lives: seconds, or as `5m`; the server's default if not given.
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = seconds)]
    ttl: Duration,
    /// Writes the token into this file (mode 0600) instead of printing it.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

impl Command {
    pub(super) async fn execute(self) -> Result<(), CommandError> {
        let Self::Mint(mint) = self;
        let request = MintJwtsvidRequest {
            id: Some(wire_id(&mint.spiffe_id)),
            audience: mint.audience,
            ttl: i32::try_from(mint.ttl.as_secs()).unwrap_or(i32::MAX),
        };
        let minted = mint
            .common
            .call(async |client| Ok(SvidClient::new(client).mint_jwtsvid(request).await?))
            .await?
            .into_inner();
        let token = minted.svid.as_ref().map(|svid| svid.token.as_str());
        let token = token.ok_or_else(|| CommandError::Input("server answered without an SVID".into()))?;
        if let Some(path) = &mint.write {
            output::write(path, token, 0o600)?;
            line(&format!("Wrote the JWT-SVID to {}", path.display()));
            return Ok(());
        }
        let name = "spire.api.server.svid.v1.MintJWTSVIDResponse";
        mint.common.output.print(name, &minted, || token.into())
    }
}
