//! `bundle`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use edge::file;
use proto::{
    plastron::revocation::v1::{
        self as revocation, ListCrlsRequest, ListCrlsResponse, revocation_client::RevocationClient,
    },
    spire::api::{
        server::bundle::v1::{GetBundleRequest, bundle_client::BundleClient},
        types,
    },
};
use svid::{Bundle, JwtAuthority, Timestamp, TrustDomain, X509Authority};

use super::{
    CommandError, Common,
    output::{Output, facts},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Lists the CRLs of the server's X.509 authorities, or writes them to files.
    ///
    /// They name the SVIDs of agents that were banned or evicted, or whose host was removed, and those of workloads
    /// that they asked for.
    ///
    /// Example: plastron-server bundle crl --output-dir /etc/nginx/crl
    #[command(verbatim_doc_comment)]
    Crl(Crl),
    /// Prints the bundle of the server's own trust domain.
    Show(Show),
}

#[derive(Args, Debug)]
pub(super) struct Crl {
    /// Writes each CRL to `<authority ID>.crl` in this folder, in DER.
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
pub(super) struct Show {
    /// `pem`: the X.509 roots; `spiffe`: the whole bundle as a JWK Set.
    #[arg(long, value_enum, default_value_t = Format::Pem)]
    format: Format,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Pem,
    Spiffe,
}

impl Command {
    pub(super) async fn execute(self) -> Result<(), CommandError> {
        match self {
            Self::Crl(crl) => crl.execute().await,
            Self::Show(show) => show.execute().await,
        }
    }
}

impl Crl {
    async fn execute(self) -> Result<(), CommandError> {
        let listed = self.common.call(async |client| {
            let mut client = RevocationClient::new(client).max_decoding_message_size(MAX_CRLS);
            Ok(client.list_crls(ListCrlsRequest {}).await?)
        });
        let listed = listed.await?.into_inner();
        if let Some(folder) = &self.output_dir {
            for crl in &listed.crls {
                write(folder, crl)?;
            }
        }
        let name = "plastron.revocation.v1.ListCrlsResponse";
        self.common.output.print(name, &listed, || table(&listed))
    }
}

/// Most bytes of CRLs: a million certificates.
const MAX_CRLS: usize = 64 * 1024 * 1024;

/// The name is an identifier in hex, whatever the server says.
fn write(folder: &Path, crl: &revocation::Crl) -> Result<(), CommandError> {
    let id = &crl.authority_id;
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(CommandError::Input(format!(
            "server's CRL: `{id}` is no authority ID"
        )));
    }
    let path = folder.join(format!("{id}.crl"));
    let written = file::replace(&path, &crl.der, 0o644);
    written.map_err(|error| CommandError::Input(format!("cannot write `{}`: {error}", path.display())))
}

fn table(listed: &ListCrlsResponse) -> String {
    let crls = listed.crls.iter().map(|crl| {
        facts(&[
            ("Authority ID", crl.authority_id.clone()),
            ("Number", crl.number.to_string()),
            ("This update", Timestamp::from_unix(crl.this_update).to_string()),
            ("Next update", Timestamp::from_unix(crl.next_update).to_string()),
            ("Revoked", crl.revoked_count.to_string()),
        ])
    });
    crls.collect::<Vec<_>>().join("\n")
}

impl Show {
    async fn execute(self) -> Result<(), CommandError> {
        let Self { format, common } = self;
        let wire = common
            .call(async |client| {
                Ok(BundleClient::new(client)
                    .get_bundle(GetBundleRequest::default())
                    .await?)
            })
            .await?
            .into_inner();
        let text = match (common.output, format) {
            (Output::Json, _) => String::new(),
            (Output::Pretty, Format::Pem) => pem(&wire),
            (Output::Pretty, Format::Spiffe) => jwks(&wire)?,
        };
        common.output.print("spire.api.types.Bundle", &wire, || text)
    }
}

fn pem(wire: &types::Bundle) -> String {
    let certificates = wire.x509_authorities.iter();
    certificates
        .map(|root| pem::encode(&pem::Pem::new("CERTIFICATE", root.asn1.clone())))
        .collect()
}

fn jwks(wire: &types::Bundle) -> Result<String, CommandError> {
    let malformed = |error: &dyn std::fmt::Display| CommandError::Input(format!("server's bundle: {error}"));
    let mut bundle =
        Bundle::empty(TrustDomain::parse(&wire.trust_domain).map_err(|error| malformed(&error))?);
    bundle.sequence = wire.sequence_number;
    bundle.refresh_hint = u64::try_from(wire.refresh_hint)
        .ok()
        .map(std::time::Duration::from_secs);
    bundle
        .x509_authorities
        .extend(wire.x509_authorities.iter().map(|root| X509Authority {
            certificate: root.asn1.clone().into(),
            tainted: root.tainted,
        }));
    bundle
        .jwt_authorities
        .extend(wire.jwt_authorities.iter().map(|key| JwtAuthority {
            key_id: key.key_id.clone(),
            public_key: key.public_key.clone(),
            expires_at: Some(Timestamp::from_unix(key.expires_at)),
            tainted: key.tainted,
        }));
    let value: serde_json::Value =
        serde_json::from_str(&bundle.to_jwks()).map_err(|error| malformed(&error))?;
    Ok(edge::json::pretty(&value)?)
}
