//! Tells another program something over HTTP: each message a signed POST on a connection of its own.

mod post;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::hmac;
use http::{Uri, uri::Scheme};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde::{Deserialize, Deserializer, de::Error as _};
use tokio_rustls::TlsConnector;

use crate::tls;
pub use post::PostError;

/// `webhook` in a configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the other program listens.
    pub url: Url,
    /// File of the secret that messages are signed with, 16 bytes at least. White space at its ends does not count.
    pub secret_path: PathBuf,
    /// File of certificates in PEM that the listener's certificate has to lead to; those of the system if not set.
    #[serde(default = "default_ca_path")]
    pub ca_path: PathBuf,
}

/// `https://HOST[:PORT]/PATH`, or `http://…` on networks of yours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Url {
    is_tls: bool,
    /// As `Host` names it.
    authority: String,
    host: String,
    port: u16,
    target: String,
}

/// Sends messages. Clones send to the same place.
#[derive(Clone)]
pub struct Poster {
    url: Url,
    key: hmac::Key,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// Messages can't be sent as configured.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// No certificate can lead to it.
    #[error("ca_path of webhook: `{}` has no certificates in PEM", .0.display())]
    Ca(PathBuf),
    /// Nothing has that name.
    #[error("url of webhook: `{0}` is no name that a certificate could have")]
    Name(String),
    /// A file can't be read.
    #[error("cannot read `{}`, named by webhook", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Anybody could guess it.
    #[error("secret_path of webhook: `{}` has less than {LEAST_SECRET} bytes", .0.display())]
    Secret(PathBuf),
    /// TLS can't be set up.
    #[error("cannot set up TLS for webhook")]
    Tls(#[from] rustls::Error),
}

const LEAST_SECRET: usize = 16;
/// Where Debian and its relatives keep the roots of the web.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

fn default_ca_path() -> PathBuf {
    SYSTEM_ROOTS.into()
}

impl Poster {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    ///
    /// A file can't be used.
    pub fn open(config: &Config) -> Result<Self, WebhookError> {
        let secret = read(&config.secret_path)?;
        let secret = secret.trim_ascii();
        if secret.len() < LEAST_SECRET {
            return Err(WebhookError::Secret(config.secret_path.clone()));
        }
        let url = config.url.clone();
        let tls = if url.is_tls {
            let name = ServerName::try_from(url.host.clone());
            let name = name.map_err(|_| WebhookError::Name(url.host.clone()))?;
            let client = tls::web_client_config(roots(&config.ca_path)?)?;
            Some((TlsConnector::from(Arc::new(client)), name))
        } else {
            None
        };
        Ok(Self {
            url,
            key: hmac::Key::new(hmac::HMAC_SHA256, secret),
            tls,
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, WebhookError> {
    fs::read(path).map_err(|source| WebhookError::Read {
        path: path.into(),
        source,
    })
}

/// Certificates that no verifier would take are left out, as the system's file may have some.
fn roots(path: &Path) -> Result<RootCertStore, WebhookError> {
    let content = read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&content).filter_map(Result::ok);
    let mut roots = RootCertStore::empty();
    let (added, _left_out) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(WebhookError::Ca(path.into()));
    }
    Ok(roots)
}

impl<'de> Deserialize<'de> for Url {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // It is not repeated: its path may be a secret, and this is for a log.
        let wanted = || D::Error::custom("is no URL: write `https://HOST[:PORT]/PATH`");
        let uri: Uri = text.parse().map_err(|_| wanted())?;
        let is_tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(wanted()),
        };
        let authority = uri.authority().ok_or_else(wanted)?.as_str().to_owned();
        let host = uri.host().ok_or_else(wanted)?.trim_matches(['[', ']']).to_owned();
        if host.is_empty() || authority.contains('@') {
            return Err(wanted());
        }
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        Ok(Self {
            is_tls,
            authority,
            host,
            port: uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            target: target.to_owned(),
        })
    }
}

/// Without its path: that may be a secret.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority)
    }
}

impl fmt::Debug for Poster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poster")
            .field("url", &self.url.to_string())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
