//! Whose keys are they? A key that is merely listed proves nothing.

use std::sync::Arc;

use attest::{
    Reject, VerifiedAk,
    ek::{EkRoots, VerifiedEk},
};
use plugin_api::{EnrolledEk, Host, Records};
use svid::Timestamp;

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
    check_listed(&opening.endorsement_keys, &host, records)?;
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
) -> Result<(EnrolledEk, Option<Arc<Host>>), Reject> {
    let by_hash = records.host_of_ek(&ek.key.hash());
    let certified = match certify(ek, roots, now) {
        Ok(certified) => Some(certified),
        // Where it is the certificate that counts, why it does not is said.
        Err(reject) if by_hash.is_none() && is_enrolled_by_certificate(ek, records) => return Err(reject),
        Err(_) => None,
    };
    let certificate = certified.as_ref().and_then(VerifiedEk::certificate).cloned();
    let by_certificate = certificate
        .as_ref()
        .and_then(|id| records.host_of_certificate(id));
    let mut hosts = [by_hash, by_certificate]
        .into_iter()
        .flatten()
        .filter(|host| host.is_enrolled());
    let host = hosts.next();
    let other = hosts.find(|other| host.as_ref().is_some_and(|host| host.id != other.id));
    if other.is_some() {
        return Err(Reject::EkOfOtherHost);
    }
    let known = EnrolledEk {
        hash: Some(ek.key.hash()),
        is_certified: certificate.is_some(),
        certificate,
        name: Some(ek.key.name()),
    };
    Ok((known, host))
}

fn certify(ek: &OfferedEk, roots: &EkRoots, now: Timestamp) -> Result<VerifiedEk, Reject> {
    let certificate = ek.certificate.clone().ok_or(Reject::EkChainUnknown)?;
    let trusted = roots.verify(certificate, &ek.chain, now.as_unix())?;
    ek.key.clone().certified(&trusted)
}

/// Refuses a host that lists a key of another enrolled host (15).
pub(super) fn check_listed(offered: &[OfferedEk], host: &Host, records: &dyn Records) -> Result<(), Reject> {
    let of_other = |ek: &OfferedEk| {
        let owner = records.host_of_ek(&ek.key.hash());
        owner.is_some_and(|owner| owner.is_enrolled() && owner.id != host.id)
    };
    if offered.iter().any(of_other) {
        Err(Reject::EkOfOtherHost)
    } else {
        Ok(())
    }
}
