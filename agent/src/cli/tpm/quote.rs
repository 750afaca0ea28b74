//! `tpm quote`: a quote about a nonce of whoever asks.

use std::path::{Path, PathBuf};

use attest::{PcrSelection, wire::Public};
use clap::Args;
use edge::json::pretty;
use plugin_api::{RawQuote, TpmDevice};
use serde::Serialize;
use svid::TrustDomain;

use super::{CommandError, Device, Output, config, line};
use crate::host_tpm;

/// Has the TPM sign its PCRs and a nonce with the attestation key that this host attests with, which is made where there
/// is none.
///
///   plastron-agent tpm quote --nonce $(openssl rand -hex 32) --folder evidence
///   plastron-server verify quote --ak evidence/ak.pub --quote evidence/quote.bin --signature evidence/quote.sig --nonce …
#[derive(Args, Debug)]
pub(in crate::cli) struct Quote {
    /// The nonce: 64 hexadecimal digits. Whoever verifies the quote has to have chosen it.
    #[arg(long, value_name = "HEX", value_parser = nonce)]
    nonce: [u8; 32],
    /// Which PCRs.
    #[arg(long, value_name = "BANK:PCRS", default_value = "sha256:0-9,14")]
    pcrs: PcrSelection,
    /// The trust domain whose attestation key signs, over the configuration: each has one of its own.
    #[arg(long, value_name = "NAME")]
    trust_domain: Option<TrustDomain>,
    /// A folder for `ak.pub`, `quote.bin` and `quote.sig`, as `plastron-server verify quote` takes them.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    device: Device,
}

/// A quote, with all that it takes to verify it.
#[derive(Serialize)]
struct Report {
    trust_domain: String,
    attestation_key: String,
    name: String,
    selection: String,
    nonce: String,
    quote: String,
    signature: String,
}

fn nonce(text: &str) -> Result<[u8; 32], String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let bytes = hex::decode(digits).map_err(|error| error.to_string())?;
    bytes
        .try_into()
        .map_err(|_| "a nonce has 64 hexadecimal digits".to_owned())
}

impl Quote {
    pub(super) fn execute(&self) -> Result<(), CommandError> {
        let trust_domain = self.trust_domain()?;
        let mut tpm = tpm::open(host_tpm::settings(&self.device.settings()?))?;
        let key = tpm.identify(&trust_domain)?.attestation_key;
        let quote = tpm.quote(&self.nonce, &self.pcrs)?;
        if let Some(folder) = &self.folder {
            write(folder, &key, &quote)?;
        }
        let report = self.report(&trust_domain, &key, &quote);
        match self.device.output {
            Output::Json => line(&pretty(&report)?),
            Output::Pretty => line(&report.text()),
        }
        Ok(())
    }

    fn trust_domain(&self) -> Result<TrustDomain, CommandError> {
        if let Some(trust_domain) = &self.trust_domain {
            return Ok(trust_domain.clone());
        }
        let options = edge::config::Options::default();
        let config: config::Config = edge::config::load(&self.device.config, &options)?;
        Ok(config.agent.trust_domain)
    }

    fn report(&self, trust_domain: &TrustDomain, key: &[u8], quote: &RawQuote) -> Report {
        Report {
            trust_domain: trust_domain.to_string(),
            attestation_key: hex::encode(key),
            name: Public::parse(key).map_or_else(|_| String::new(), |public| public.name().to_string()),
            selection: self.pcrs.to_string(),
            nonce: hex::encode(self.nonce),
            quote: hex::encode(&quote.attest),
            signature: hex::encode(&quote.signature),
        }
    }
}

fn write(folder: &Path, key: &[u8], quote: &RawQuote) -> Result<(), CommandError> {
    let parts: [(&str, &[u8]); 3] = [
        ("ak.pub", key),
        ("quote.bin", &quote.attest),
        ("quote.sig", &quote.signature),
    ];
    for (name, bytes) in parts {
        let path = folder.join(name);
        edge::file::replace(&path, bytes, 0o644).map_err(|source| CommandError::File { path, source })?;
    }
    Ok(())
}

impl Report {
    fn text(&self) -> String {
        format!(
            "Key           : {} (trust domain {})\nPCRs          : {}\nNonce         : {}\nQuote         : {}\nSignature     : {}",
            self.name, self.trust_domain, self.selection, self.nonce, self.quote, self.signature
        )
    }
}
