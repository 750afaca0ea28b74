//! What certificates and tokens say: pure decisions from who asks, what they may have, and the time.

use std::time::Duration;

use svid::{
    DnsName, SpiffeId, Timestamp,
    jwt::{Audience, Claims},
    x509::{PublicKey, SerialNumber, Subject, Template, TemplateKind},
};

use crate::registry::{Agent, Entry};

/// How far back validity begins: clocks differ.
const BACKDATE: Duration = Duration::from_secs(10);
const ORGANIZATION: &str = "Plastron";
/// Longest life of a token on a host that proved itself by TPM: nobody can take a token back.
const LONGEST_ON_HOST: Duration = Duration::from_secs(300);

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

/// What is the same in all tokens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JwtProfile {
    /// How long they live where nothing else is said.
    pub ttl: Duration,
    /// Who is said to have made them.
    pub issuer: Option<String>,
}

/// A token's time and identifier, decided when it is asked for.
#[derive(Clone, Debug)]
pub struct TokenOccasion {
    /// Now.
    pub now: Timestamp,
    /// When the signing authority ends: nothing it signs outlives it.
    pub authority_not_after: Timestamp,
    /// A fresh identifier, for tokens that carry one.
    pub token_id: String,
}

/// The token of a workload on `agent`'s host that `entry` describes.
#[must_use]
pub fn workload_jwt(
    id: SpiffeId,
    entry: &Entry,
    agent: &Agent,
    audience: Audience,
    profile: &JwtProfile,
    occasion: &TokenOccasion,
) -> Claims {
    let ttl = entry.jwt_svid_ttl.unwrap_or(profile.ttl);
    let longest = agent.host.as_ref().map_or(Duration::MAX, |_| LONGEST_ON_HOST);
    let has_token_id = entry
        .attributes
        .is_some_and(|attributes| attributes.jwt_svid_include_jti);
    Claims {
        token_id: has_token_id.then(|| occasion.token_id.clone()),
        ..minted_jwt(id, audience, Some(ttl.min(longest)), profile, occasion)
    }
}

/// A token that an administrator asked for.
#[must_use]
pub fn minted_jwt(
    id: SpiffeId,
    audience: Audience,
    ttl: Option<Duration>,
    profile: &JwtProfile,
    occasion: &TokenOccasion,
) -> Claims {
    let ends = occasion.now.plus(ttl.unwrap_or(profile.ttl));
    Claims {
        id,
        audience,
        issued_at: occasion.now,
        expires_at: ends.min(occasion.authority_not_after),
        issuer: profile.issuer.clone(),
        token_id: None,
    }
}

/// How long anything that was signed for an agent with these entries, or for workloads on it, may live.
#[must_use]
pub fn longest_life<'a>(lifetimes: &Lifetimes, entries: impl Iterator<Item = &'a Entry>) -> Duration {
    let workloads = entries.map(|entry| entry.x509_svid_ttl.unwrap_or(lifetimes.x509_svid));
    workloads.fold(lifetimes.agent, Duration::max)
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

    fn agent(host: Option<&str>) -> Agent {
        Agent {
            path: "/spire/agent/x".into(),
            attestation_type: "t".into(),
            current: crate::registry::AgentSvid {
                serial: SerialNumber::from_bytes(&[1]),
                not_after: Timestamp::NEVER,
            },
            next: None,
            banned: false,
            can_reattest: true,
            host: host.map(Into::into),
            selectors: svid::SelectorSet::default(),
            version: String::new(),
            attested_at: Timestamp::default(),
        }
    }

    fn check_jwt(ttl: Option<u64>, host: Option<&str>, remaining: u64, lives: u64) {
        let id = SpiffeId::parse("spiffe://td/db").unwrap();
        let profile = JwtProfile {
            ttl: Duration::from_secs(400),
            issuer: Some("https://td".into()),
        };
        let entry = Entry {
            jwt_svid_ttl: ttl.map(Duration::from_secs),
            ..Entry::default()
        };
        let now = Timestamp::from_unix(1_800_000_000);
        let occasion = TokenOccasion {
            now,
            authority_not_after: now.plus(Duration::from_secs(remaining)),
            token_id: "t".into(),
        };
        let audience = Audience::new(vec!["a".into()]).unwrap();
        let claims = workload_jwt(id, &entry, &agent(host), audience, &profile, &occasion);
        assert_eq!(
            claims.expires_at.since(claims.issued_at),
            Duration::from_secs(lives)
        );
        assert_eq!((claims.issuer, claims.token_id), (profile.issuer, None));
    }

    #[test]
    fn a_token_lives_as_its_entry_says_but_not_long_on_a_host_with_a_tpm() {
        check_jwt(None, None, 86400, 400);
        check_jwt(Some(900), None, 86400, 900);
        check_jwt(Some(900), None, 100, 100);
        check_jwt(Some(900), Some("h"), 86400, 300);
        check_jwt(Some(60), Some("h"), 86400, 60);
        check_jwt(None, Some("h"), 86400, 300);
    }

    #[test]
    fn the_longest_life_is_the_exposure_of_a_host() {
        let entry = |ttl: Option<u64>| Entry {
            x509_svid_ttl: ttl.map(Duration::from_secs),
            ..Entry::default()
        };
        let check = |entries: &[Entry], expected: u64| {
            let longest = longest_life(&LIFETIMES, entries.iter());
            assert_eq!(longest, Duration::from_secs(expected));
        };
        check(&[], 1800);
        check(&[entry(Some(60))], 1800);
        check(&[entry(Some(60)), entry(None)], 3600);
        check(&[entry(Some(7200)), entry(None)], 7200);
    }

    #[test]
    fn nothing_outlives_its_authority() {
        let id = SpiffeId::parse("spiffe://td/spire/agent/x").unwrap();
        let template = agent_svid(id, key(), &LIFETIMES, occasion(100));
        assert_eq!(lifetime(&template), 110);
    }
}
