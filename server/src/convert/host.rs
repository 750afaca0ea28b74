//! Hosts.

use std::sync::Arc;

use attest::ek::{CaKey, CertificateId, EkHash, EkHashError, TpmAttributes};
use plugin_api::{EnrolledEk, Enrolment, Finding, Host, Staleness, SvidKeyPlace, Verdict};
use proto::plastron::host::v1 as wire;
use svid::{SpiffeId, SpiffeIdError, Timestamp, TrustDomain};

use super::{PolicyFieldError, policy_names, standing_to_wire};
use crate::registry::{
    HostId,
    host_changes::{AGENT_PATHS, NewHost},
};

/// A field of a host is wrong.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HostFieldError {
    /// An endorsement key; they are counted from 0.
    #[error("endorsement_keys[{index}]")]
    EndorsementKey {
        /// Which one.
        index: usize,
        /// Why.
        source: EkFieldError,
    },
    /// There is no such enrolment.
    #[error("enrolment {0} is unknown")]
    Enrolment(i32),
    /// Names are printed on terminals.
    #[error("name contains control characters")]
    NameCharacters,
    /// The name is too long.
    #[error("name is too long, at most {MAX_NAME} bytes are allowed")]
    NameTooLong,
    /// Nothing says which host it is.
    #[error("endorsement_keys is empty: give a hash, or issuer and serial_number")]
    NoKeys,
    /// What follows `/spire/agent/tpm/` makes no SPIFFE ID.
    #[error("path")]
    Path(#[from] SpiffeIdError),
    /// Another host would have that ID by its endorsement key.
    #[error(
        "path looks like the hash of an endorsement key, and is none of this host's: another host could have that ID"
    )]
    PathOfKey,
    /// A policy.
    #[error("policies")]
    Policies(#[from] PolicyFieldError),
    /// More keys than any TPM has.
    #[error("endorsement_keys has too many, at most {MAX_KEYS} are allowed")]
    TooManyKeys,
}

/// A field of an endorsement key is wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EkFieldError {
    /// Only a chain to a configured root proves a certificate.
    #[error(
        "certificate_verified, manufacturer, model and firmware_version are for the server to say; leave them out"
    )]
    Claimed,
    /// The hash.
    #[error("invalid hash")]
    Hash(#[from] EkHashError),
    /// Half of a certificate's identity, or nothing at all.
    #[error("give a hash, or both issuer and serial_number")]
    Incomplete,
    /// The issuer is no distinguished name.
    #[error("issuer is not a distinguished name such as `CN=TPM EK CA,O=Vendor,C=CH`")]
    Issuer,
    /// The issuer is too long.
    #[error("issuer is too long, at most {MAX_ISSUER} bytes are allowed")]
    IssuerTooLong,
    /// The issuer's key.
    #[error(
        "issuer_key is not 64 hex digits: SHA-256 of the SubjectPublicKeyInfo of the CA that issued the certificate"
    )]
    IssuerKey,
    /// The serial number is not what certificates have.
    #[error("serial_number is not a positive number of at most {MAX_SERIAL} hex digits, with or without `:`")]
    SerialNumber,
}

/// Longest name in bytes.
const MAX_NAME: usize = 255;
/// Most endorsement keys of a host.
const MAX_KEYS: usize = Host::MAX_KEYS;
/// Longest issuer in bytes.
const MAX_ISSUER: usize = 1024;
/// Longest serial number in hex digits.
const MAX_SERIAL: usize = 64;

/// Reads a host that is to be enrolled; `id` is for its row.
///
/// # Errors
///
/// A field is wrong, or nothing says which host it is.
pub fn new_host_from_wire(
    id: HostId,
    trust_domain: &TrustDomain,
    wire: wire::NewHost,
) -> Result<NewHost, HostFieldError> {
    if wire.endorsement_keys.is_empty() {
        return Err(HostFieldError::NoKeys);
    }
    if wire.endorsement_keys.len() > MAX_KEYS {
        return Err(HostFieldError::TooManyKeys);
    }
    let key =
        |(index, key)| ek_from_wire(key).map_err(|source| HostFieldError::EndorsementKey { index, source });
    let endorsement_keys = wire
        .endorsement_keys
        .iter()
        .enumerate()
        .map(key)
        .collect::<Result<Vec<_>, _>>()?;
    Ok(NewHost {
        id,
        name: host_name(wire.name)?,
        agent_path: agent_path(trust_domain, &wire.path, &endorsement_keys)?,
        endorsement_keys,
        policies: policy_names(&wire.policies)?,
    })
}

/// Reads what follows `/spire/agent/tpm/` in the ID of a host's agent; `None` where nothing does.
fn agent_path(
    trust_domain: &TrustDomain,
    path: &str,
    keys: &[EnrolledEk],
) -> Result<Option<Arc<str>>, HostFieldError> {
    if path.is_empty() {
        return Ok(None);
    }
    let is_own = |hash: &EkHash| keys.iter().any(|key| key.hash.as_ref() == Some(hash));
    if path.parse().is_ok_and(|hash| !is_own(&hash)) {
        return Err(HostFieldError::PathOfKey);
    }
    let id = SpiffeId::new(trust_domain.clone(), &format!("{AGENT_PATHS}{path}"))?;
    Ok(Some(id.shared_path()))
}

/// Reads what an operator calls a host; may be empty.
///
/// # Errors
///
/// It is too long, or can't be printed.
pub fn host_name(name: String) -> Result<String, HostFieldError> {
    if name.len() > MAX_NAME {
        return Err(HostFieldError::NameTooLong);
    }
    if name.chars().any(char::is_control) {
        return Err(HostFieldError::NameCharacters);
    }
    Ok(name)
}

/// Reads which hosts are asked for: `Some(true)` for those that are enrolled, `None` for all.
///
/// # Errors
///
/// There is no such enrolment.
pub fn enrolment_filter(wire: i32) -> Result<Option<bool>, HostFieldError> {
    match wire::Enrolment::try_from(wire) {
        Ok(wire::Enrolment::Unspecified) => Ok(None),
        Ok(wire::Enrolment::Pending) => Ok(Some(false)),
        Ok(wire::Enrolment::Enrolled) => Ok(Some(true)),
        Err(_) => Err(HostFieldError::Enrolment(wire)),
    }
}

/// Writes a host.
#[must_use]
pub fn host_to_wire(trust_domain: &TrustDomain, host: &Host) -> wire::Host {
    let (enrolment, expires_at) = match host.enrolment {
        Enrolment::Enrolled => (wire::Enrolment::Enrolled, 0),
        Enrolment::Pending { expires_at } => (wire::Enrolment::Pending, expires_at.as_unix()),
    };
    let agent_id = host.agent_path.as_ref();
    let ak = host.attestation_key.as_ref();
    wire::Host {
        id: host.id.as_ref().into(),
        name: host.name.clone(),
        enrolment: enrolment.into(),
        endorsement_keys: host.endorsement_keys.iter().map(ek_to_wire).collect(),
        agent_id: agent_id
            .map(|path| format!("spiffe://{trust_domain}{path}"))
            .unwrap_or_default(),
        attestation_key_name: ak.map(|key| key.name().to_string()).unwrap_or_default(),
        created_at: host.created_at.as_unix(),
        expires_at,
        last_attested_at: host.last_attested_at.map_or(0, Timestamp::as_unix),
        last_address: host.last_address.clone(),
        verdict: Some(verdict_to_wire(&host.verdict)),
        proposal: host.proposal.as_ref().map(|proposal| wire::Proposal {
            what: proposal.what.clone(),
            by: proposal.by.clone(),
            at: proposal.at.as_unix(),
        }),
        alarm: host.alarm.as_ref().map(|alarm| wire::Alarm {
            code: alarm.code.clone(),
            text: alarm.text.clone(),
            at: alarm.at.as_unix(),
            count: alarm.count,
        }),
        svid_key: match host.svid_key {
            None => wire::SvidKeyPlace::Unspecified,
            Some(SvidKeyPlace::Tpm) => wire::SvidKeyPlace::Tpm,
            Some(SvidKeyPlace::Unproven) => wire::SvidKeyPlace::Unproven,
        }
        .into(),
        policies: host.policies.iter().map(ToString::to_string).collect(),
        appraisals: host
            .appraised
            .iter()
            .flat_map(|appraised| &appraised.policies)
            .map(standing_to_wire)
            .collect(),
    }
}

fn verdict_to_wire(verdict: &Verdict) -> wire::Verdict {
    let (finding, code) = match &verdict.finding {
        Finding::Quarantined(offence) => (wire::Finding::Quarantined, offence.code.as_str()),
        Finding::Stale(Staleness::Lost) => (wire::Finding::Stale, "lost"),
        Finding::Stale(Staleness::New) => (wire::Finding::Stale, "new"),
        Finding::Stale(Staleness::Released) => (wire::Finding::Stale, "released"),
        Finding::Stale(Staleness::Replaced) => (wire::Finding::Stale, "replaced"),
        Finding::Stale(Staleness::Silent) => (wire::Finding::Stale, "silent"),
        Finding::Verified => (wire::Finding::Verified, ""),
    };
    let difference = match &verdict.finding {
        Finding::Quarantined(offence) => offence.difference.clone(),
        Finding::Stale(_) | Finding::Verified => String::new(),
    };
    wire::Verdict {
        finding: finding.into(),
        since: verdict.since.as_unix(),
        code: code.into(),
        difference,
    }
}

/// Reads an endorsement key that an operator names.
///
/// # Errors
///
/// It is missing, or a field is wrong.
pub fn endorsement_key_from_wire(wire: Option<wire::EndorsementKey>) -> Result<EnrolledEk, EkFieldError> {
    ek_from_wire(&wire.unwrap_or_default())
}

fn ek_from_wire(wire: &wire::EndorsementKey) -> Result<EnrolledEk, EkFieldError> {
    let said = [&wire.manufacturer, &wire.model, &wire.firmware_version];
    if wire.certificate_verified || said.into_iter().any(|text| !text.is_empty()) {
        return Err(EkFieldError::Claimed);
    }
    let hash = (!wire.hash.is_empty()).then(|| wire.hash.parse::<EkHash>());
    let certificate = match (wire.issuer.is_empty(), wire.serial_number.is_empty()) {
        (true, true) => None,
        (false, false) => Some(certificate_from_wire(wire)?),
        _ => return Err(EkFieldError::Incomplete),
    };
    if hash.is_none() && certificate.is_none() {
        return Err(EkFieldError::Incomplete);
    }
    Ok(EnrolledEk {
        hash: hash.transpose()?,
        issuer_key: issuer_key(wire, certificate.as_ref())?,
        certificate,
        ..EnrolledEk::default()
    })
}

fn issuer_key(
    wire: &wire::EndorsementKey,
    certificate: Option<&CertificateId>,
) -> Result<Option<CaKey>, EkFieldError> {
    if wire.issuer_key.is_empty() {
        return Ok(None);
    }
    let mut key = [0; 32];
    hex::decode_to_slice(&wire.issuer_key, &mut key).map_err(|_| EkFieldError::IssuerKey)?;
    if certificate.is_none() {
        return Err(EkFieldError::Incomplete);
    }
    Ok(Some(CaKey(key)))
}

fn certificate_from_wire(wire: &wire::EndorsementKey) -> Result<CertificateId, EkFieldError> {
    if wire.issuer.len() > MAX_ISSUER {
        return Err(EkFieldError::IssuerTooLong);
    }
    if wire.issuer.chars().any(char::is_control) {
        return Err(EkFieldError::Issuer);
    }
    let serial = serial_number(&wire.serial_number).ok_or(EkFieldError::SerialNumber)?;
    let id = CertificateId::new(&wire.issuer, &serial);
    if !id.issuer().contains('=') {
        return Err(EkFieldError::Issuer);
    }
    // RFC 5280 §4.1.2.2: serial numbers are positive.
    if id.serial().is_empty() {
        return Err(EkFieldError::SerialNumber);
    }
    Ok(id)
}

/// Reads `0a1b`, `A1B` and `0A:1B`.
fn serial_number(text: &str) -> Option<Vec<u8>> {
    if text.contains(':') && text.split(':').any(|byte| byte.len() != 2) {
        return None;
    }
    let mut digits = text.replace(':', "");
    if digits.len() > MAX_SERIAL {
        return None;
    }
    if digits.len() % 2 == 1 {
        digits.insert(0, '0');
    }
    hex::decode(digits).ok()
}

fn ek_to_wire(key: &EnrolledEk) -> wire::EndorsementKey {
    let certificate = key.certificate.as_ref();
    let said =
        |text: fn(&TpmAttributes) -> &String| key.attributes.as_ref().map(text).cloned().unwrap_or_default();
    wire::EndorsementKey {
        hash: key.hash.map(|hash| hash.to_string()).unwrap_or_default(),
        issuer: certificate.map(|id| id.issuer().into()).unwrap_or_default(),
        serial_number: certificate.map(|id| hex::encode(id.serial())).unwrap_or_default(),
        certificate_verified: key.is_certified,
        issuer_key: key.issuer_key.map(|key| key.to_string()).unwrap_or_default(),
        manufacturer: said(|said| &said.manufacturer),
        model: said(|said| &said.model),
        firmware_version: said(|said| &said.version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "1111111111111111111111111111111111111111111111111111111111111111";
    const ISSUER: &str = "CN=TPM EK CA,O=Vendor";

    fn key(hash: &str, issuer: &str, serial_number: &str) -> wire::EndorsementKey {
        wire::EndorsementKey {
            hash: hash.into(),
            issuer: issuer.into(),
            serial_number: serial_number.into(),
            ..wire::EndorsementKey::default()
        }
    }

    fn trust_domain() -> TrustDomain {
        TrustDomain::parse("td").unwrap()
    }

    fn check(
        key: wire::EndorsementKey,
        expected: Result<(Option<EkHash>, Option<CertificateId>), EkFieldError>,
    ) {
        let new = wire::NewHost {
            name: "db-1".into(),
            endorsement_keys: vec![key],
            ..wire::NewHost::default()
        };
        let read = new_host_from_wire("id".into(), &trust_domain(), new).map(|mut new| {
            let key = new.endorsement_keys.remove(0);
            (key.hash, key.certificate)
        });
        let expected = expected.map_err(|source| HostFieldError::EndorsementKey { index: 0, source });
        assert_eq!(read, expected);
    }

    #[test]
    fn keys_are_known_by_hash_or_certificate_or_both() {
        let hash = Some(EkHash([0x11; 32]));
        let id = |serial: &[u8]| Some(CertificateId::new(ISSUER, serial));
        check(key(HASH, "", ""), Ok((hash, None)));
        check(key("", ISSUER, "0a1b"), Ok((None, id(&[0x0a, 0x1b]))));
        check(key("", ISSUER, "A1B"), Ok((None, id(&[0x0a, 0x1b]))));
        check(key("", ISSUER, "00:0A:1b"), Ok((None, id(&[0x0a, 0x1b]))));
        check(key(HASH, ISSUER, "1"), Ok((hash, id(&[1]))));
    }

    #[test]
    fn a_certificate_may_name_its_issuers_key() {
        let new = wire::NewHost {
            name: "db-1".into(),
            endorsement_keys: vec![wire::EndorsementKey {
                issuer_key: HASH.into(),
                ..key("", ISSUER, "0a")
            }],
            ..wire::NewHost::default()
        };
        let read = new_host_from_wire("id".into(), &trust_domain(), new).unwrap();
        assert_eq!(read.endorsement_keys[0].issuer_key, Some(CaKey([0x11; 32])));
    }

    #[test]
    fn refuses_keys_that_are_malformed() {
        check(key("", "", ""), Err(EkFieldError::Incomplete));
        check(key(HASH, ISSUER, ""), Err(EkFieldError::Incomplete));
        check(key(HASH, "", "0a"), Err(EkFieldError::Incomplete));
        check(key("1111", "", ""), Err(EkFieldError::Hash(EkHashError)));
        check(key("xy", ISSUER, "0a"), Err(EkFieldError::Hash(EkHashError)));
        check(key("", "Vendor", "0a"), Err(EkFieldError::Issuer));
        check(key("", ",", "0a"), Err(EkFieldError::Issuer));
        check(key("", "CN=a\nb", "0a"), Err(EkFieldError::Issuer));
        let long = format!("CN={}", "x".repeat(MAX_ISSUER));
        check(key("", &long, "0a"), Err(EkFieldError::IssuerTooLong));
        for serial in ["0", "00:00", "0x0a", "a:1b", "0a:", "0a 1b", "é", &"1".repeat(65)] {
            check(key("", ISSUER, serial), Err(EkFieldError::SerialNumber));
        }
        let by = |issuer_key: &str, base| wire::EndorsementKey {
            issuer_key: issuer_key.into(),
            ..base
        };
        for other in ["ab", "xy", &"g".repeat(64)] {
            check(by(other, key("", ISSUER, "0a")), Err(EkFieldError::IssuerKey));
        }
        check(by(HASH, key(HASH, "", "")), Err(EkFieldError::Incomplete));
        let claimed = wire::EndorsementKey {
            certificate_verified: true,
            ..key(HASH, "", "")
        };
        check(claimed, Err(EkFieldError::Claimed));
        let described = wire::EndorsementKey {
            model: "ST33".into(),
            ..key(HASH, "", "")
        };
        check(described, Err(EkFieldError::Claimed));
    }

    #[test]
    fn refuses_hosts_that_nothing_names_or_that_have_too_much() {
        let read = |name: &str, keys: usize| {
            let new = wire::NewHost {
                name: name.into(),
                endorsement_keys: vec![key(HASH, "", ""); keys],
                ..wire::NewHost::default()
            };
            new_host_from_wire("id".into(), &trust_domain(), new).map(|new| new.name)
        };
        assert_eq!(read("db-1 «é»", 1), Ok("db-1 «é»".into()));
        assert_eq!(read("", MAX_KEYS), Ok(String::new()));
        assert_eq!(read("", 0), Err(HostFieldError::NoKeys));
        assert_eq!(read("", MAX_KEYS + 1), Err(HostFieldError::TooManyKeys));
        assert_eq!(read(&"x".repeat(255), 1), Ok("x".repeat(255)));
        assert_eq!(read(&"x".repeat(256), 1), Err(HostFieldError::NameTooLong));
        assert_eq!(read("a\u{1b}[2J", 1), Err(HostFieldError::NameCharacters));
    }

    #[test]
    fn a_path_is_below_the_attestors_and_of_no_other_key() {
        let read = |path: &str| {
            let new = wire::NewHost {
                endorsement_keys: vec![key(HASH, "", "")],
                path: path.into(),
                ..wire::NewHost::default()
            };
            new_host_from_wire("id".into(), &trust_domain(), new).map(|new| new.agent_path)
        };
        let at = |path: &str| Ok(Some(Arc::from(path)));
        assert_eq!(read(""), Ok(None));
        assert_eq!(read("dc1/db-1"), at("/spire/agent/tpm/dc1/db-1"));
        assert_eq!(read(HASH), at(&format!("/spire/agent/tpm/{HASH}")));
        let other = HASH.replace('1', "2");
        assert_eq!(read(&other), Err(HostFieldError::PathOfKey));
        assert_eq!(read(&other.to_uppercase()), Err(HostFieldError::PathOfKey));
        for bad in [
            "/",
            "a//b",
            "a/",
            "..",
            "a/../../x",
            "{name}",
            "a b",
            &"x".repeat(3000),
        ] {
            assert!(matches!(read(bad), Err(HostFieldError::Path(_))), "{bad}");
        }
    }

    #[test]
    fn enrolments_are_known_or_refused() {
        assert_eq!(enrolment_filter(0), Ok(None));
        assert_eq!(enrolment_filter(1), Ok(Some(false)));
        assert_eq!(enrolment_filter(2), Ok(Some(true)));
        assert_eq!(enrolment_filter(3), Err(HostFieldError::Enrolment(3)));
    }
}
