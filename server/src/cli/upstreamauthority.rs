//! `upstreamauthority`.

use clap::{Args, Subcommand};
use proto::spire::api::server::localauthority::v1::{
    RevokeX509UpstreamAuthorityRequest, TaintX509UpstreamAuthorityRequest,
    local_authority_client::LocalAuthorityClient,
};

use super::{CommandError, Common, output::facts};

/// To replace an upstream authority: put another one into its place, `localauthority x509 prepare` and `activate`, taint
/// the old one here, wait until SVIDs are replaced, revoke it.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Removes a tainted authority of others from the bundle: what rests on it is worth nothing from then on.
    Revoke(Root),
    /// Has everything replaced that rests on an authority of others.
    Taint(Root),
}

#[derive(Args, Debug)]
pub(super) struct Root {
    /// The root: subject key identifier in hex.
    #[arg(long, value_name = "ID")]
    subject_key_id: String,
    #[command(flatten)]
    common: Common,
}

impl Command {
    pub(super) async fn execute(self) -> Result<(), CommandError> {
        match self {
            Self::Revoke(root) => root.revoke().await,
            Self::Taint(root) => root.taint().await,
        }
    }
}

impl Root {
    async fn revoke(self) -> Result<(), CommandError> {
        let request = RevokeX509UpstreamAuthorityRequest {
            subject_key_id: self.subject_key_id,
        };
        let revoked = self.common.call(async |client| {
            let mut client = LocalAuthorityClient::new(client);
            Ok(client.revoke_x509_upstream_authority(request).await?.into_inner())
        });
        let revoked = revoked.await?;
        let name = "spire.api.server.localauthority.v1.RevokeX509UpstreamAuthorityResponse";
        let id = &revoked.upstream_authority_subject_key_id;
        let text = || text("Revoked upstream authority:", id);
        self.common.output.print(name, &revoked, text)
    }

    async fn taint(self) -> Result<(), CommandError> {
        let request = TaintX509UpstreamAuthorityRequest {
            subject_key_id: self.subject_key_id,
        };
        let tainted = self.common.call(async |client| {
            let mut client = LocalAuthorityClient::new(client);
            Ok(client.taint_x509_upstream_authority(request).await?.into_inner())
        });
        let tainted = tainted.await?;
        let name = "spire.api.server.localauthority.v1.TaintX509UpstreamAuthorityResponse";
        let id = &tainted.upstream_authority_subject_key_id;
        let text = || text("Tainted upstream authority:", id);
        self.common.output.print(name, &tainted, text)
    }
}

fn text(says: &str, subject_key_id: &str) -> String {
    let facts = facts(&[("  Subject key ID", subject_key_id.to_owned())]);
    format!("{says}\n{facts}")
}
