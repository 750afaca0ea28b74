//! `bundle`.

use clap::{Args, Subcommand, ValueEnum};
use proto::spire::api::{
    server::bundle::v1::{GetBundleRequest, bundle_client::BundleClient},
    types,
};
use svid::{Bundle, JwtAuthority, Timestamp, TrustDomain, X509Authority};

use super::{CommandError, Common, output::Output};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Prints the bundle of the server's own trust domain.
    Show(Show),
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
        let Self::Show(Show { format, common }) = self;
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
