//! `api`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};
use pem::Pem;
use proto::spiffe::workload::{
    X509svid, X509svidRequest, X509svidResponse, spiffe_workload_api_client::SpiffeWorkloadApiClient,
};
use rustls_pki_types::CertificateDer;
use tokio::time::timeout;
use tonic::{Request, metadata::MetadataValue};

use super::{CommandError, Common, Output, line};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Fetches once.
    #[command(subcommand)]
    Fetch(Fetch),
    /// Prints the X509-SVIDs, and each update of them, until interrupted.
    Watch(Watch),
}

#[derive(Debug, Subcommand)]
pub(super) enum Fetch {
    /// Fetches the X509-SVIDs that this process is entitled to.
    X509(X509),
}

#[derive(Args, Debug)]
pub(super) struct X509 {
    /// How long to wait.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Prints nothing.
    #[arg(long)]
    silent: bool,
    /// Writes svid.N.pem, svid.N.key (mode 0600) and bundle.N.pem into this folder.
    #[arg(long, value_name = "FOLDER")]
    write: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
pub(super) struct Watch {
    #[command(flatten)]
    common: Common,
}

impl Command {
    pub(super) async fn execute(self) -> Result<(), CommandError> {
        match self {
            Self::Fetch(Fetch::X509(fetch)) => fetch.execute().await,
            Self::Watch(watch) => watch.execute().await,
        }
    }
}

impl X509 {
    async fn execute(self) -> Result<(), CommandError> {
        let first = self.common.call(async |client| {
            let mut client = SpiffeWorkloadApiClient::new(client);
            let mut stream = client.fetch_x509svid(request()).await?.into_inner();
            Ok(stream.message().await?)
        });
        let response = timeout(self.timeout, first)
            .await
            .map_err(|_| CommandError::Timeout(self.timeout))??;
        let response =
            response.ok_or_else(|| CommandError::Input("agent ended the stream at once".into()))?;
        if let Some(folder) = &self.write {
            write_all(folder, &response)?;
        }
        if !self.silent {
            print(self.common.output, &response)?;
        }
        Ok(())
    }
}

impl Watch {
    async fn execute(self) -> Result<(), CommandError> {
        let output = self.common.output;
        self.common
            .call(async |client| {
                let mut client = SpiffeWorkloadApiClient::new(client);
                let mut stream = client.fetch_x509svid(request()).await?.into_inner();
                while let Some(response) = stream.message().await? {
                    print(output, &response)?;
                }
                Ok(())
            })
            .await
    }
}

fn request() -> Request<X509svidRequest> {
    let mut request = Request::new(X509svidRequest {});
    request
        .metadata_mut()
        .insert("workload.spiffe.io", MetadataValue::from_static("true"));
    request
}

fn print(output: Output, response: &X509svidResponse) -> Result<(), CommandError> {
    match output {
        Output::Json => {
            let svids = response.svids.iter().map(json).collect::<Result<Vec<_>, _>>()?;
            line(&edge::json::pretty(&serde_json::json!({ "svids": svids }))?);
        }
        Output::Pretty => {
            line(&format!("Received {} SVID(s)\n", response.svids.len()));
            for svid in &response.svids {
                let parsed = parse(svid)?;
                line(&format!(
                    "SPIFFE ID    : {}\nValid after  : {}\nValid until  : {}\nSerial number: {}\nHint         : {}\n",
                    parsed.id, parsed.not_before, parsed.not_after, parsed.serial, svid.hint,
                ));
            }
        }
    }
    Ok(())
}

/// Everything but the key.
fn json(svid: &X509svid) -> Result<serde_json::Value, CommandError> {
    let parsed = parse(svid)?;
    Ok(serde_json::json!({
        "spiffe_id": parsed.id.to_string(),
        "not_before": parsed.not_before.to_string(),
        "not_after": parsed.not_after.to_string(),
        "serial_number": parsed.serial.to_string(),
        "hint": svid.hint,
        "x509_svid": certificates(&svid.x509_svid)?,
        "bundle": certificates(&svid.bundle)?,
    }))
}

fn parse(svid: &X509svid) -> Result<svid::x509::X509Svid, CommandError> {
    let parsed = svid::x509::X509Svid::parse(&CertificateDer::from(first(&svid.x509_svid)?.0));
    parsed.map_err(|error| CommandError::Input(format!("agent sent an unusable SVID: {error}")))
}

/// Splits the first of concatenated certificates off.
fn first(der: &[u8]) -> Result<(&[u8], &[u8]), CommandError> {
    let malformed = || CommandError::Input("agent sent something that is no certificate".into());
    let length = match *der {
        [0x30, 0x82, high, low, ..] => 4 + usize::from(u16::from_be_bytes([high, low])),
        [0x30, 0x81, low, ..] => 3 + usize::from(low),
        [0x30, low @ 0..=0x7f, ..] => 2 + usize::from(low),
        _ => return Err(malformed()),
    };
    der.split_at_checked(length).ok_or_else(malformed)
}

fn certificates(mut der: &[u8]) -> Result<String, CommandError> {
    let mut text = String::new();
    while !der.is_empty() {
        let (certificate, rest) = first(der)?;
        text.push_str(&pem::encode(&Pem::new("CERTIFICATE", certificate)));
        der = rest;
    }
    Ok(text)
}

fn write_all(folder: &Path, response: &X509svidResponse) -> Result<(), CommandError> {
    for (number, svid) in response.svids.iter().enumerate() {
        let key = pem::encode(&Pem::new("PRIVATE KEY", svid.x509_svid_key.to_vec()));
        write(
            &folder.join(format!("svid.{number}.pem")),
            &certificates(&svid.x509_svid)?,
            0o644,
        )?;
        write(&folder.join(format!("svid.{number}.key")), &key, 0o600)?;
        write(
            &folder.join(format!("bundle.{number}.pem")),
            &certificates(&svid.bundle)?,
            0o644,
        )?;
    }
    Ok(())
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), CommandError> {
    edge::file::replace(path, text.as_bytes(), mode).map_err(|source| CommandError::File {
        path: path.into(),
        source,
    })
}
