//! `host replace-tpm`, `host add-ek` and `host remove-ek`.

use std::path::PathBuf;

use attest::ek::EkHash;
use clap::{ArgGroup, Args};
use proto::plastron::host::v1::{
    AddEndorsementKeyRequest, EndorsementKey, RemoveEndorsementKeyRequest, ReplaceTpmRequest,
};

use super::{certificates, hosts};
use crate::cli::{CommandError, Common};

/// An endorsement key, and of which host it is.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("key").required(true).args(["ek", "ek_certificate"])))]
pub(in crate::cli) struct Key {
    /// Identifier of the host, as `host list` shows it.
    #[arg(long, value_name = "ID")]
    id: String,
    /// SHA-256 of the endorsement key, as `plastron-agent tpm ek` prints it.
    #[arg(long, value_name = "HEX")]
    ek: Option<EkHash>,
    /// The endorsement key's certificate, in PEM or DER.
    #[arg(long, value_name = "FILE")]
    ek_certificate: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct ReplaceTpm {
    #[command(flatten)]
    key: Key,
    /// Keeps the endorsement keys that the host has: either TPM may be in it.
    #[arg(long)]
    keep_old: bool,
}

impl ReplaceTpm {
    pub(in crate::cli) async fn execute(self) -> Result<(), CommandError> {
        let request = ReplaceTpmRequest {
            id: self.key.id.clone(),
            endorsement_key: Some(self.key.named()?),
            keep_old: self.keep_old,
        };
        let common = self.key.common;
        let host = common
            .call(async |client| Ok(hosts(client).replace_tpm(request).await?))
            .await?;
        common.print(host.get_ref(), "TPM replaced; it has to attest.")
    }
}

impl Key {
    pub(in crate::cli) async fn add(self) -> Result<(), CommandError> {
        let request = AddEndorsementKeyRequest {
            id: self.id.clone(),
            endorsement_key: Some(self.named()?),
        };
        let host = self
            .common
            .call(async |client| Ok(hosts(client).add_endorsement_key(request).await?))
            .await?;
        self.common.print(host.get_ref(), "Endorsement key added.")
    }

    pub(in crate::cli) async fn remove(self) -> Result<(), CommandError> {
        let request = RemoveEndorsementKeyRequest {
            id: self.id.clone(),
            endorsement_key: Some(self.named()?),
        };
        let host = self
            .common
            .call(async |client| Ok(hosts(client).remove_endorsement_key(request).await?))
            .await?;
        self.common.print(host.get_ref(), "Endorsement key taken off.")
    }

    fn named(&self) -> Result<EndorsementKey, CommandError> {
        if let Some(path) = &self.ek_certificate {
            return certificates::key_of(path)
                .map_err(|why| CommandError::Input(format!("`{}` {why}", path.display())));
        }
        Ok(EndorsementKey {
            hash: self.ek.map(|hash| hash.to_string()).unwrap_or_default(),
            ..EndorsementKey::default()
        })
    }
}
