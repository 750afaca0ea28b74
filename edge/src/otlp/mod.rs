//! Metrics pushed to an OpenTelemetry collector: OTLP 1 over gRPC, under the names and with the values that `/metrics`
//! shows. Built with the feature `otlp` alone; without it, a configuration that asks for it is refused.

#[cfg(feature = "otlp")]
mod message;
#[cfg(feature = "otlp")]
mod push;

use std::{fmt, sync::Arc, time::Duration};

use http::{Uri, uri::Scheme};
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{Clock, metrics::Registry};

/// `otlp` in a configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the collector listens.
    pub endpoint: Endpoint,
    /// How often it is told, 1 s to 1 h.
    #[serde(default = "default_interval", with = "humantime_serde")]
    pub interval: Duration,
}

/// `http://HOST:PORT` of a collector. There is no TLS: the collector is this host's own, or on a network of yours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    host: String,
    port: u16,
}

/// Who pushes.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// The program, `service.name` of OpenTelemetry.
    pub name: &'static str,
    /// Its version, `service.version`.
    pub version: &'static str,
}

/// Metrics can't be pushed as configured.
#[derive(Debug, thiserror::Error)]
pub enum BadConfig {
    /// Nobody wants it so often, or so seldom.
    #[error("interval of otlp must be from 1s to 1h")]
    Interval,
    /// The feature is off.
    #[error("this program was built without OTLP: build it with `--features otlp`, or remove the table otlp")]
    NotBuilt,
}

const LEAST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(3600);
/// The port that OTLP over gRPC has by convention.
const PORT: u16 = 4317;

fn default_interval() -> Duration {
    Duration::from_secs(60)
}

impl Config {
    /// Checks what a file can't show.
    ///
    /// # Errors
    ///
    /// It can't be done.
    pub fn check(&self) -> Result<(), BadConfig> {
        if !cfg!(feature = "otlp") {
            return Err(BadConfig::NotBuilt);
        }
        if !(LEAST..=MOST).contains(&self.interval) {
            return Err(BadConfig::Interval);
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wanted = || D::Error::custom(format!("{text:?} is no endpoint: write `http://HOST:PORT`"));
        let uri: Uri = text.parse().map_err(|_| wanted())?;
        let is_plain = uri.scheme() == Some(&Scheme::HTTP) && matches!(uri.path(), "" | "/");
        let host = uri.host().filter(|_| is_plain && uri.query().is_none());
        Ok(Self {
            host: host.ok_or_else(wanted)?.trim_matches(['[', ']']).into(),
            port: uri.port_u16().unwrap_or(PORT),
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "http://[{host}]:{port}")
        } else {
            write!(f, "http://{host}:{port}")
        }
    }
}

/// Tells the collector what `metrics` shows, again and again; a collector that is away is tried at the next turn.
#[cfg(feature = "otlp")]
pub async fn push(config: Config, service: Service, metrics: Arc<Registry>, clock: Clock) {
    push::run(&config, service, &metrics, clock).await;
}

/// Never ends; [`Config::check`] did not let it come so far.
#[cfg(not(feature = "otlp"))]
pub async fn push(_: Config, _: Service, _: Arc<Registry>, _: Clock) {
    std::future::pending::<()>().await;
}

#[cfg(test)]
mod tests;
