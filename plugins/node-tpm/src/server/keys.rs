//! Whose keys are they? A key that is merely listed proves nothing.

use std::sync::Arc;

use attest::{
    Reject, VerifiedAk,
    ek::{EkRoots, TpmAttributes, TrustedCertificate, VerifiedEk},
};
use plugin_api::{EnrolledEk, Host, Records, Refusal};
use svid::Timestamp;

use super::Proven;
use crate::wire::{OfferedEk, Opening};

/// The enrolled host that the attestation key was activated for before, if there is one (15).
pub(super) fn recognise(
    opening: &Opening,
    records: &dyn Records,
) -> Result<Option<(Arc<Host>, VerifiedAk)>, Reject> {
    let host = records.host_of_ak(opening.attestation_key.name());
    let Some(host) = host.filter(|host| host.is_enrolled()) else {
        return Ok(None);
    };
    let Some(known) = &host.attestation_key else {
        return Ok(None);
    };
    let ak = opening.attestation_key.clone().remembered(known)?;
    Ok(Some((host, ak)))
}

/// The endorsement key to challenge: that of an enrolled host before one with a certificate before any.
pub(super) fn choose<'a>(offered: &'a [OfferedEk], records: &dyn Records) -> Option<&'a OfferedEk> {
    let enrolled = offered.iter().find(|ek| is_enrolled(ek, records));
    let certified = || offered.iter().find(|ek| ek.certificate.is_some());
    enrolled.or_else(certified).or_else(|| offered.first())
}

fn is_enrolled(ek: &OfferedEk, records: &dyn Records) -> bool {
    let by_hash = records.host_of_ek(&ek.key.hash());
    by_hash.is_some_and(|host| host.is_enrolled()) || is_enrolled_by_certificate(ek, records)
}

/// Whether it says that it has the certificate by which a host is enrolled.
fn is_enrolled_by_certificate(ek: &OfferedEk, records: &dyn Records) -> bool {
    let certificate = ek.certificate.as_ref();
    let host = certificate.and_then(|certificate| records.host_of_certificate(&certificate.id()));
    host.is_some_and(|host| host.is_enrolled())
}

/// What is known of an endorsement key with which a credential was recovered, and whose it is.
pub(super) fn identify(
    ek: &OfferedEk,
    roots: &EkRoots,
    records: &dyn Records,
    now: Timestamp,
) -> Result<(EnrolledEk, Option<Arc<Host>>), Refusal> {
    let by_hash = records.host_of_ek(&ek.key.hash());
    let certified = match certify(ek, roots, now) {
        Ok(certified) => Some(certified),
        // Where it is the certificate that counts, why it does not is said.
        Err(reject) if by_hash.is_none() && is_enrolled_by_certificate(ek, records) => {
            return Err(reject.into());
        }
        Err(_) => None,
    };
    let known = known(ek, certified.as_ref());
    let by_certificate = match host_of(&known, records) {
        // As above: the certificate does not harm a host that is enrolled by hash.
        Err(_) if by_hash.is_some() => None,
        by_certificate => by_certificate?,
    };
    let mut hosts = [by_hash, by_certificate]
        .into_iter()
        .flatten()
        .filter(|host| host.is_enrolled());
    let host = hosts.next();
    let other = hosts.find(|other| host.as_ref().is_some_and(|host| host.id != other.id));
    if let (Some(host), Some(other)) = (&host, &other) {
        return Err(Refusal::from(Reject::EkOfOtherHost).alarming([&**host, &**other]));
    }
    Ok((known, host))
}

fn known(ek: &OfferedEk, certified: Option<&VerifiedEk>) -> EnrolledEk {
    let trusted = certified.and_then(VerifiedEk::certificate);
    EnrolledEk {
        hash: Some(ek.key.hash()),
        certificate: trusted.map(|trusted| trusted.get().id()),
        is_certified: trusted.is_some(),
        issuer_key: trusted.map(TrustedCertificate::issuer_key),
        attributes: trusted.map(|trusted| trusted.get().attributes().clone()),
        name: Some(ek.key.name()),
    }
}

/// The host that is enrolled by this key's certificate. Issuer and serial number are text, which another CA can take: the
/// row counts for the CA and for the key that it names, or that it saw first (15).
fn host_of(key: &EnrolledEk, records: &dyn Records) -> Result<Option<Arc<Host>>, Reject> {
    let Some(id) = &key.certificate else {
        return Ok(None);
    };
    let host = records.host_of_certificate(id).filter(|host| host.is_enrolled());
    let on_record = host.as_ref().and_then(|host| host.ek_of_certificate(id));
    let is_other = |known: &EnrolledEk| {
        let is_other_ca = known.issuer_key.is_some() && known.issuer_key != key.issuer_key;
        is_other_ca || (known.hash.is_some() && known.hash != key.hash)
    };
    if on_record.is_some_and(is_other) {
        return Err(Reject::EkIssuer);
    }
    Ok(host)
}

/// What the verified certificate says of a host's TPM, of the first of its keys that has one. A host that had one before
/// has to show it again: it does not get around an advisory by leaving it out (16).
pub(super) fn attributes(
    offered: &[OfferedEk],
    proven: &Proven,
    roots: &EkRoots,
    now: Timestamp,
) -> Result<Option<TpmAttributes>, Reject> {
    let activated = proven.activated.as_ref();
    let is_own = |ek: &&OfferedEk| {
        let hash = ek.key.hash();
        proven.host.has_ek(&hash) || activated.is_some_and(|key| key.hash == Some(hash))
    };
    let mut reason = Reject::EkChainUnknown;
    for ek in offered.iter().filter(is_own) {
        match certify(ek, roots, now) {
            Ok(verified) => {
                let trusted = verified.certificate();
                return Ok(trusted.map(|trusted| trusted.get().attributes().clone()));
            }
            Err(reject) => reason = reject,
        }
    }
    if proven.host.endorsement_keys.iter().any(|key| key.is_certified) {
        return Err(reason);
    }
    Ok(None)
}

fn certify(ek: &OfferedEk, roots: &EkRoots, now: Timestamp) -> Result<VerifiedEk, Reject> {
    let certificate = ek.certificate.clone().ok_or(Reject::EkChainUnknown)?;
    let trusted = roots.verify(certificate, &ek.chain, now.as_unix())?;
    ek.key.clone().certified(&trusted)
}

/// Refuses a host that lists a key of another enrolled host (15). Its signature says so by now: both are for somebody to
/// look at (63).
pub(super) fn check_listed(offered: &[OfferedEk], host: &Host, records: &dyn Records) -> Result<(), Refusal> {
    let mut owners = offered.iter().filter_map(|ek| records.host_of_ek(&ek.key.hash()));
    let other = owners.find(|owner| owner.is_enrolled() && owner.id != host.id);
    match other {
        Some(owner) => Err(Refusal::from(Reject::EkOfOtherHost).alarming([host, &*owner])),
        None => Ok(()),
    }
}
