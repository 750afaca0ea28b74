//! The server's configuration: what the file says, and what follows from it.

use std::{collections::HashSet, net::IpAddr, path::PathBuf, time::Duration};

use edge::{health, log, otlp, webhook};
use ipnet::IpNet;
use plugin_api::KeyKind;
use plugin_catalog::{ServerPluginError, ServerPlugins};
use serde::{Deserialize, Deserializer};
use svid::{SpiffeId, TrustDomain};

use crate::{
    issue::{JwtProfile, Lifetimes},
    pulses::EvidenceTimes,
    registry::consent::Approvals,
    store,
};

/// `server.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `[server]`.
    pub server: Server,
    /// `[store]`.
    #[serde(default)]
    pub store: store::Config,
    /// `[plugins.NAME]`.
    #[serde(default)]
    pub plugins: ServerPlugins,
}

/// `[server]`; names as SPIRE's where it has them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// The trust domain that the server signs for.
    pub trust_domain: TrustDomain,
    /// Address to listen on.
    #[serde(default = "default_bind_address")]
    pub bind_address: IpAddr,
    /// Port to listen on.
    #[serde(default = "default_bind_port")]
    pub bind_port: u16,
    /// The local socket: whoever may open it administers the server.
    #[serde(default = "default_socket_path")]
    pub socket_path: PathBuf,
    /// Where the server keeps its state.
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    /// How much is logged.
    #[serde(default)]
    pub log_level: log::Level,
    /// The form of log lines.
    #[serde(default)]
    pub log_format: log::Format,
    /// How long signing authorities live.
    #[serde(default = "default_ca_ttl", with = "humantime_serde")]
    pub ca_ttl: Duration,
    /// Kind of the X.509 authorities' keys.
    #[serde(default = "default_key_kind", deserialize_with = "key_kind")]
    pub ca_key_type: KeyKind,
    /// Kind of the JWT authorities' keys.
    #[serde(default = "default_key_kind", deserialize_with = "key_kind")]
    pub jwt_key_type: KeyKind,
    /// How long X509-SVIDs live where the entry does not say.
    #[serde(default = "default_svid_ttl", with = "humantime_serde")]
    pub default_x509_svid_ttl: Duration,
    /// How long JWT-SVIDs live where the entry does not say; 5 minutes if not set, or less where authorities live
    /// for less than half an hour.
    #[serde(default, with = "humantime_serde")]
    pub default_jwt_svid_ttl: Option<Duration>,
    /// Who is said to have made JWT-SVIDs.
    #[serde(default)]
    pub jwt_issuer: Option<String>,
    /// How long agents' SVIDs live; as `default_x509_svid_ttl` if not set.
    #[serde(default, with = "humantime_serde")]
    pub agent_ttl: Option<Duration>,
    /// How often a host that attests by TPM shows anew what it is, at least.
    #[serde(default = "default_evidence_interval", with = "humantime_serde")]
    pub evidence_interval: Duration,
    /// Nothing is signed for a host that was silent for longer; two intervals and 10 s if not set.
    #[serde(default, with = "humantime_serde")]
    pub evidence_ttl: Option<Duration>,
    /// What was signed for a host that is silent for longer is revoked; never if not set.
    #[serde(default, with = "humantime_serde")]
    pub lost_after: Option<Duration>,
    /// SPIFFE IDs that administer the server.
    #[serde(default)]
    pub admin_ids: HashSet<SpiffeId>,
    /// Files of public keys, Ed25519 or P-256, in PEM or DER: only policies that one of them signed are taken. Anybody's,
    /// where there are none.
    #[serde(default)]
    pub policy_keys: Vec<PathBuf>,
    /// How many people it takes to enrol a host, to release it, or to give it another endorsement key: 1 or 2. With 2, no ID
    /// of `admin_ids` is minted. It guards against mistakes, not against an administrator who makes others by entries.
    #[serde(default)]
    pub host_approvals: Approvals,
    /// Whether an ID that node aliases give by selectors of `node-tpm` may be given to agents of other attestors, too.
    #[serde(default)]
    pub mixed: bool,
    /// Which calls are limited by source.
    #[serde(default)]
    pub ratelimit: RateLimits,
    /// Networks of load balancers, which say by the PROXY protocol whose connection it is.
    #[serde(default)]
    pub proxy_protocol_trusted_cidrs: Vec<IpNet>,
    /// The health listener.
    #[serde(default)]
    pub health_checks: health::Config,
    /// Path under which the health listener gives CRLs to everybody, each as `AUTHORITY.crl`.
    #[serde(default = "default_crl_path")]
    pub crl_path: String,
    /// The collector that metrics are pushed to.
    #[serde(default)]
    pub otlp: Option<otlp::Config>,
    /// The program that is told what becomes of hosts.
    #[serde(default)]
    pub webhook: Option<webhook::Config>,
}

/// Which calls are limited by source.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimits {
    /// Attestation.
    pub attestation: bool,
    /// Signing.
    pub signing: bool,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            attestation: true,
            signing: true,
        }
    }
}

/// A configuration that reads well and can't work.
#[derive(Debug, thiserror::Error)]
pub enum Unworkable {
    /// Every host would be stale before it is asked.
    #[error("evidence_ttl must be longer than evidence_interval, which must be at least 1s")]
    EvidenceTtl,
    /// The health listener.
    #[error(transparent)]
    Health(#[from] health::BadPaths),
    /// Where CRLs are.
    #[error(
        "crl_path must begin with `/`, not end with it, and have only letters, digits, `/`, `-`, `_` and `.`"
    )]
    CrlPath,
    /// The collector of metrics.
    #[error(transparent)]
    Otlp(#[from] otlp::BadConfig),
    /// It is stale first.
    #[error("lost_after must be longer than evidence_ttl")]
    LostAfter,
    /// No verifier would take it.
    #[error("jwt_issuer must be 1 to {MAX_ISSUER} characters, none of them a control character")]
    Issuer,
    /// The plugins.
    #[error(transparent)]
    Plugins(#[from] ServerPluginError),
    /// SVIDs would be cut short by the authority's end.
    #[error(
        "{name} ({}) is longer than a sixth of ca_ttl ({}): SVIDs could end early when authorities rotate; \
         set ca_ttl to {} or more",
        humantime::format_duration(*ttl), humantime::format_duration(*ca_ttl), humantime::format_duration(*ttl * 6)
    )]
    TtlTooLong {
        /// Which setting.
        name: &'static str,
        /// Its value.
        ttl: Duration,
        /// The authorities' life.
        ca_ttl: Duration,
    },
    /// Nothing lives that short.
    #[error("{0} must be at least 1s")]
    TtlTooShort(&'static str),
}

impl Config {
    /// Checks what a file can't show.
    ///
    /// # Errors
    ///
    /// The configuration can't work.
    pub fn check(&self) -> Result<(), Unworkable> {
        let Lifetimes { x509_svid, agent, ca } = self.lifetimes();
        for (name, ttl) in [
            ("ca_ttl", ca),
            ("default_x509_svid_ttl", x509_svid),
            ("agent_ttl", agent),
            ("default_jwt_svid_ttl", self.jwt_profile().ttl),
        ] {
            if ttl < Duration::from_secs(1) {
                return Err(Unworkable::TtlTooShort(name));
            }
        }
        for (name, ttl) in [
            ("default_x509_svid_ttl", x509_svid),
            ("agent_ttl", agent),
            ("default_jwt_svid_ttl", self.jwt_profile().ttl),
        ] {
            if ttl > ca / 6 {
                return Err(Unworkable::TtlTooLong {
                    name,
                    ttl,
                    ca_ttl: ca,
                });
            }
        }
        let unusable = |issuer: &String| {
            issuer.is_empty() || issuer.len() > MAX_ISSUER || issuer.chars().any(char::is_control)
        };
        if self.server.jwt_issuer.as_ref().is_some_and(unusable) {
            return Err(Unworkable::Issuer);
        }
        let EvidenceTimes {
            interval,
            ttl,
            lost_after,
        } = self.evidence_times();
        if interval < Duration::from_secs(1) || ttl <= interval {
            return Err(Unworkable::EvidenceTtl);
        }
        if lost_after.is_some_and(|after| after <= ttl) {
            return Err(Unworkable::LostAfter);
        }
        self.server.health_checks.check()?;
        let crl_path = &self.server.crl_path;
        if !health::is_plain(crl_path) || crl_path.ends_with('/') {
            return Err(Unworkable::CrlPath);
        }
        if let Some(otlp) = &self.server.otlp {
            otlp.check()?;
        }
        self.plugins.check()?;
        Ok(())
    }

    /// How often hosts are asked for evidence, and what their silence means.
    #[must_use]
    pub fn evidence_times(&self) -> EvidenceTimes {
        let interval = self.server.evidence_interval;
        let default = interval.saturating_mul(2).saturating_add(SLACK);
        EvidenceTimes {
            interval,
            ttl: self.server.evidence_ttl.unwrap_or(default),
            lost_after: self.server.lost_after,
        }
    }

    /// What is the same in all JWT-SVIDs.
    #[must_use]
    pub fn jwt_profile(&self) -> JwtProfile {
        let default = DEFAULT_JWT_TTL.min(self.server.ca_ttl / 6);
        JwtProfile {
            ttl: self.server.default_jwt_svid_ttl.unwrap_or(default),
            issuer: self.server.jwt_issuer.clone(),
        }
    }

    /// How long what is issued lives.
    #[must_use]
    pub fn lifetimes(&self) -> Lifetimes {
        Lifetimes {
            x509_svid: self.server.default_x509_svid_ttl,
            agent: self.server.agent_ttl.unwrap_or(self.server.default_x509_svid_ttl),
            ca: self.server.ca_ttl,
        }
    }
}

/// Longest issuer in bytes.
const MAX_ISSUER: usize = 1024;
/// What a host may be late beyond a question that it missed.
const SLACK: Duration = Duration::from_secs(10);
const DEFAULT_JWT_TTL: Duration = Duration::from_secs(300);
/// Where the configuration is looked for.
pub const DEFAULT_PATH: &str = "/etc/plastron/server.toml";
/// Where the local socket is looked for.
pub const DEFAULT_SOCKET: &str = "/run/plastron-server/api.sock";

fn default_bind_address() -> IpAddr {
    std::net::Ipv4Addr::UNSPECIFIED.into()
}

const fn default_bind_port() -> u16 {
    8081
}

fn default_socket_path() -> PathBuf {
    DEFAULT_SOCKET.into()
}

fn default_data_dir() -> PathBuf {
    "/var/lib/plastron-server".into()
}

const fn default_ca_ttl() -> Duration {
    Duration::from_secs(24 * 3600)
}

const fn default_svid_ttl() -> Duration {
    Duration::from_secs(3600)
}

fn default_crl_path() -> String {
    "/crl".into()
}

const fn default_evidence_interval() -> Duration {
    Duration::from_secs(60)
}

const fn default_key_kind() -> KeyKind {
    KeyKind::EcP256
}

fn key_kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<KeyKind, D::Error> {
    #[derive(Deserialize)]
    enum Name {
        #[serde(rename = "ec-p256")]
        EcP256,
        #[serde(rename = "ec-p384")]
        EcP384,
        #[serde(rename = "rsa-2048")]
        Rsa2048,
        #[serde(rename = "rsa-4096")]
        Rsa4096,
    }
    Ok(match Name::deserialize(deserializer)? {
        Name::EcP256 => KeyKind::EcP256,
        Name::EcP384 => KeyKind::EcP384,
        Name::Rsa2048 => KeyKind::Rsa2048,
        Name::Rsa4096 => KeyKind::Rsa4096,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parse(text: &str) -> Config {
        edge::config::parse(Path::new("server.toml"), text, &[]).unwrap()
    }

    #[test]
    fn the_shortest_configuration_works() {
        let config = parse("[server]\ntrust_domain = \"example.org\"\n[plugins.node-join-token]\n");
        config.check().unwrap();
        assert_eq!(config.server.bind_port, 8081);
        assert_eq!(config.lifetimes().agent, Duration::from_secs(3600));
        assert_eq!(config.jwt_profile().ttl, Duration::from_secs(300));
        let evidence = config.evidence_times();
        assert_eq!(evidence.interval, Duration::from_secs(60));
        assert_eq!(evidence.ttl, Duration::from_secs(130));
        assert_eq!(evidence.lost_after, None);
    }

    #[test]
    fn the_annotated_configuration_works() {
        let config = parse(include_str!("../../deploy/config/server.toml"));
        config.check().unwrap();
    }

    #[test]
    fn it_may_take_two_to_let_a_host_in_and_another_program_may_be_told() {
        let config = parse(
            "[server]\ntrust_domain = \"td\"\nhost_approvals = 2\n[server.webhook]\nurl = \"https://a/b\"\n\
             secret_path = \"/s\"\n[plugins.node-join-token]\n",
        );
        config.check().unwrap();
        assert_eq!(config.server.host_approvals, Approvals::Two);
        let webhook = config.server.webhook.unwrap();
        assert_eq!(webhook.url.to_string(), "https://a");
        assert_eq!(webhook.ca_path, Path::new("/etc/ssl/certs/ca-certificates.crt"));
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let refused = |text: &str| {
            let text = format!("[server]\ntrust_domain = \"td\"\n{text}");
            parse(&text).check().unwrap_err().to_string()
        };
        assert!(refused("").contains("no node attestor"));
        let long = refused("default_x509_svid_ttl = \"5h\"\n[plugins.node-join-token]\n");
        assert!(long.contains("set ca_ttl to 1day 6h or more"), "{long}");
        let long = refused("default_jwt_svid_ttl = \"5h\"\n[plugins.node-join-token]\n");
        assert!(long.starts_with("default_jwt_svid_ttl"), "{long}");
        assert!(refused("jwt_issuer = \"\"\n[plugins.node-join-token]\n").contains("jwt_issuer"));
        assert!(refused("agent_ttl = \"1ms\"\n[plugins.node-join-token]\n").contains("at least 1s"));
        let short = refused("evidence_ttl = \"60s\"\n[plugins.node-join-token]\n");
        assert!(short.contains("longer than evidence_interval"), "{short}");
        let never = refused("evidence_interval = \"0s\"\n[plugins.node-join-token]\n");
        assert!(never.contains("at least 1s"), "{never}");
        let early = refused("lost_after = \"130s\"\n[plugins.node-join-token]\n");
        assert!(early.contains("lost_after"), "{early}");
        let both = refused("[plugins.node-join-token]\n[plugins.keys-disk]\n[plugins.keys-memory]\n");
        assert!(both.contains("exclude each other"), "{both}");
    }
}
