//! What certificates say: pure decisions from who asks, what they may have, and the time.

use std::time::Duration;

use svid::{
    DnsName, SpiffeId, Timestamp,
    x509::{PublicKey, SerialNumber, Subject, Template, TemplateKind},
};

use crate::registry::Entry;

/// How far back validity begins: clocks differ.
const BACKDATE: Duration = Duration::from_secs(10);
const ORGANIZATION: &str = "Plastron";

/// How long what is issued lives where nothing else is said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lifetimes {
    /// X509-SVIDs of workloads, and of the server itself.
    pub x509_svid: Duration,
    /// X509-SVIDs of agents.
    pub agent: Duration,
    /// Signing authorities.
    pub ca: Duration,
}

/// A certificate's time and number, decided when it is asked for.
#[derive(Clone, Debug)]
pub struct Occasion {
    /// Now.
    pub now: Timestamp,
    /// When the signing authority ends: nothing it signs outlives it.
    pub authority_not_after: Timestamp,
    /// A fresh serial number.
    pub serial: SerialNumber,
}

/// The certificate of an agent.
#[must_use]
pub fn agent_svid(
    id: SpiffeId,
    public_key: PublicKey,
    lifetimes: &Lifetimes,
    occasion: Occasion,
) -> Template {
    leaf(id, public_key, Vec::new(), lifetimes.agent, occasion)
}

/// The certificate of a workload that `entry` describes.
#[must_use]
pub fn workload_svid(
    id: SpiffeId,
    entry: &Entry,
    public_key: PublicKey,
    lifetimes: &Lifetimes,
    occasion: Occasion,
) -> Template {
    let ttl = entry.x509_svid_ttl.unwrap_or(lifetimes.x509_svid);
    leaf(id, public_key, entry.dns_names.clone(), ttl, occasion)
}

/// A certificate that an administrator asked for.
#[must_use]
pub fn minted_svid(
    id: SpiffeId,
    dns_names: Vec<DnsName>,
    public_key: PublicKey,
    ttl: Duration,
    occasion: Occasion,
) -> Template {
    leaf(id, public_key, dns_names, ttl, occasion)
}

/// The certificate of the server.
#[must_use]
pub fn server_svid(
    id: SpiffeId,
    public_key: PublicKey,
    lifetimes: &Lifetimes,
    occasion: Occasion,
) -> Template {
    leaf(id, public_key, Vec::new(), lifetimes.x509_svid, occasion)
}

/// The self-signed certificate of an authority.
#[must_use]
pub fn authority(
    id: SpiffeId,
    public_key: PublicKey,
    ttl: Duration,
    now: Timestamp,
    serial: SerialNumber,
) -> Template {
    // Authorities that differ by their key alone confuse path builders that look at names first.
    let common_name = Some(format!("{} {}", id.trust_domain(), serial));
    Template {
        id,
        dns_names: Vec::new(),
        public_key,
        serial,
        not_before: now.minus(BACKDATE),
        not_after: now.plus(ttl),
        subject: Subject {
            organization: ORGANIZATION.into(),
            common_name,
        },
        kind: TemplateKind::Authority,
    }
}

fn leaf(
    id: SpiffeId,
    public_key: PublicKey,
    dns_names: Vec<DnsName>,
    ttl: Duration,
    occasion: Occasion,
) -> Template {
    // As SPIRE: software that knows no SPIFFE looks at the common name.
    let common_name = dns_names.first().map(ToString::to_string);
    Template {
        id,
        dns_names,
        public_key,
        serial: occasion.serial,
        not_before: occasion.now.minus(BACKDATE),
        not_after: occasion.now.plus(ttl).min(occasion.authority_not_after),
        subject: Subject {
            organization: ORGANIZATION.into(),
            common_name,
        },
        kind: TemplateKind::Leaf,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::PublicKeyData;

    use super::*;

    const LIFETIMES: Lifetimes = Lifetimes {
        x509_svid: Duration::from_secs(3600),
        agent: Duration::from_secs(1800),
        ca: Duration::from_secs(86400),
    };

    fn occasion(remaining: u64) -> Occasion {
        let now = Timestamp::from_unix(1_800_000_000);
        Occasion {
            now,
            authority_not_after: now.plus(Duration::from_secs(remaining)),
            serial: SerialNumber::from_random([1; 16]),
        }
    }

    fn key() -> PublicKey {
        PublicKey::from_spki(&rcgen::KeyPair::generate().unwrap().subject_public_key_info()).unwrap()
    }

    fn lifetime(template: &Template) -> u64 {
        template.not_after.since(template.not_before).as_secs()
    }

    #[test]
    fn an_entry_decides_lifetime_and_names() {
        let id = SpiffeId::parse("spiffe://td/db").unwrap();
        let mut entry = Entry::default();
        let of = |entry: &Entry| workload_svid(id.clone(), entry, key(), &LIFETIMES, occasion(86400));
        assert_eq!(lifetime(&of(&entry)), 3610);
        entry.x509_svid_ttl = Some(Duration::from_secs(60));
        entry.dns_names = vec!["db.example.org".parse().unwrap(), "db".parse().unwrap()];
        let template = of(&entry);
        assert_eq!(lifetime(&template), 70);
        assert_eq!(template.subject.common_name.as_deref(), Some("db.example.org"));
        assert_eq!(template.dns_names, entry.dns_names);
    }

    #[test]
    fn nothing_outlives_its_authority() {
        let id = SpiffeId::parse("spiffe://td/spire/agent/x").unwrap();
        let template = agent_svid(id, key(), &LIFETIMES, occasion(100));
        assert_eq!(lifetime(&template), 110);
    }
}
