//! `x509`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};
use pem::Pem;
use proto::spire::api::server::{
    bundle::v1::{GetBundleRequest, bundle_client::BundleClient},
    svid::v1::{MintX509svidRequest, MintX509svidResponse, svid_client::SvidClient},
};
use rcgen::{CertificateParams, KeyPair, SanType};
use svid::{DnsName, SpiffeId, Timestamp};

use super::{
    CommandError, Common,
    output::{Output, facts, line},
    token::seconds,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Makes a key here and has the server sign an X509-SVID for it, without any attestation. For break-glass
    /// access and for software that can't use the Workload API; every use is in the audit trail.
    Mint(Mint),
}

#[derive(Args, Debug)]
pub(super) struct Mint {
    /// SPIFFE ID of the SVID.
    #[arg(long, value_name = "ID")]
    spiffe_id: SpiffeId,
    /// DNS name in the SVID; may be repeated.
    #[arg(long, value_name = "NAME")]
    dns: Vec<DnsName>,
    /// How long it lives: seconds, or as `1h`; the server's default if not given.
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = seconds)]
    ttl: Duration,
    /// Writes svid.pem, key.pem (mode 0600) and bundle.pem into this folder instead of printing them.
    #[arg(long, value_name = "FOLDER")]
    write: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

impl Command {
    pub(super) async fn execute(self) -> Result<(), CommandError> {
        let Self::Mint(mint) = self;
        let key = KeyPair::generate().map_err(|error| CommandError::Input(error.to_string()))?;
        let request = mint.request(&key)?;
        let (minted, roots) = mint
            .common
            .call(async |client| {
                let minted = SvidClient::new(client.clone())
                    .mint_x509svid(request)
                    .await?
                    .into_inner();
                let bundle = BundleClient::new(client)
                    .get_bundle(GetBundleRequest::default())
                    .await?
                    .into_inner();
                Ok((minted, bundle.x509_authorities))
            })
            .await?;
        let roots = roots.into_iter().map(|root| root.asn1).collect();
        mint.show(&minted, &key, roots)
    }
}

impl Mint {
    fn request(&self, key: &KeyPair) -> Result<MintX509svidRequest, CommandError> {
        let unusable =
            |error: &dyn std::fmt::Display| CommandError::Input(format!("cannot make a CSR: {error}"));
        let mut params = CertificateParams::default();
        let uri = self
            .spiffe_id
            .to_string()
            .try_into()
            .map_err(|error| unusable(&error))?;
        params.subject_alt_names.push(SanType::URI(uri));
        for name in &self.dns {
            let name = name.as_str().try_into().map_err(|error| unusable(&error))?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        let csr = params.serialize_request(key).map_err(|error| unusable(&error))?;
        let ttl = i32::try_from(self.ttl.as_secs()).unwrap_or(i32::MAX);
        Ok(MintX509svidRequest {
            csr: csr.der().to_vec(),
            ttl,
        })
    }

    fn show(
        &self,
        minted: &MintX509svidResponse,
        key: &KeyPair,
        roots: Vec<Vec<u8>>,
    ) -> Result<(), CommandError> {
        let Some(svid) = &minted.svid else {
            return Err(CommandError::Input("server answered without an SVID".into()));
        };
        let chain = certificates(svid.cert_chain.clone());
        let bundle = certificates(roots);
        let key = pem::encode(&Pem::new("PRIVATE KEY", key.serialize_der()));
        let expires_at = Timestamp::from_unix(svid.expires_at);
        if let Some(folder) = &self.write {
            write(&folder.join("svid.pem"), &chain, 0o644)?;
            write(&folder.join("key.pem"), &key, 0o600)?;
            write(&folder.join("bundle.pem"), &bundle, 0o644)?;
            line(&format!(
                "Wrote svid.pem, key.pem and bundle.pem to {}",
                folder.display()
            ));
            return Ok(());
        }
        if self.common.output == Output::Json {
            let json = serde_json::json!({
                "x509_svid": chain, "private_key": key, "root_cas": bundle, "expires_at": svid.expires_at.to_string(),
            });
            line(&edge::json::pretty(&json)?);
            return Ok(());
        }
        let id = self.spiffe_id.to_string();
        line(&facts(&[
            ("SPIFFE ID", id),
            ("Expires at", expires_at.to_string()),
        ]));
        line(&format!(
            "\nX509-SVID:\n{chain}\nPrivate key:\n{key}\nRoot CAs:\n{bundle}"
        ));
        Ok(())
    }
}

fn certificates(der: Vec<Vec<u8>>) -> String {
    der.into_iter()
        .map(|der| pem::encode(&Pem::new("CERTIFICATE", der)))
        .collect()
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), CommandError> {
    edge::file::replace(path, text.as_bytes(), mode).map_err(|source| CommandError::File {
        path: path.into(),
        source,
    })
}
