//! Host rows in the store.

use std::sync::Arc;

use attest::{
    Digest, HashAlg, Name, PcrSelection, PcrSet, PcrValues, Standing,
    ek::{CaKey, CertificateId, EkHash, TpmAttributes},
    ima::Progress,
    wire::{ClockInfo, Public, WireError},
};
use plugin_api::{
    Alarm, Appraised, EnrolledEk, Enrolment, Finding, Host, KernelList, KnownLog, Offence, Proposal,
    Staleness, SvidKeyPlace, Verdict,
};
use prost::Message;
use proto::plastron::store::v1 as stored;
use svid::Timestamp;

use super::{CodecError, policy_codec};

const HOST: &[u8] = b"host/";

pub(super) const PREFIX: &[u8] = HOST;

pub(super) fn host_key(id: &str) -> Vec<u8> {
    [HOST, id.as_bytes()].concat()
}

pub(super) fn encode_host(host: &Host) -> Vec<u8> {
    let unix = |time: Option<Timestamp>| time.map_or(0, Timestamp::as_unix);
    let record = stored::Host {
        id: host.id.as_ref().into(),
        name: host.name.clone(),
        enrolled: host.is_enrolled(),
        endorsement_keys: host.endorsement_keys.iter().map(encode_ek).collect(),
        attestation_key: host
            .attestation_key
            .as_ref()
            .map(|key| key.as_bytes().into())
            .unwrap_or_default(),
        created_at: host.created_at.as_unix(),
        expires_at: match host.enrolment {
            Enrolment::Enrolled => 0,
            Enrolment::Pending { expires_at } => expires_at.as_unix(),
        },
        last_attested_at: unix(host.last_attested_at),
        last_address: host.last_address.clone(),
        appraised: host.appraised.as_ref().map(encode_appraised),
        agent_path: host
            .agent_path
            .as_ref()
            .map(|path| path.as_ref().into())
            .unwrap_or_default(),
        revision: host.revision,
        verdict: Some(encode_verdict(&host.verdict)),
        proposal: host.proposal.as_ref().map(|proposal| stored::Proposal {
            what: proposal.what.clone(),
            by: proposal.by.clone(),
            at: proposal.at.as_unix(),
        }),
        alarm: host.alarm.as_ref().map(|alarm| stored::Alarm {
            code: alarm.code.clone(),
            text: alarm.text.clone(),
            at: alarm.at.as_unix(),
            count: alarm.count,
        }),
        svid_key: encode_place(host.svid_key).into(),
        policies: host.policies.iter().map(ToString::to_string).collect(),
    };
    record.encode_to_vec()
}

const fn encode_place(place: Option<SvidKeyPlace>) -> stored::SvidKeyPlace {
    match place {
        None => stored::SvidKeyPlace::Unspecified,
        Some(SvidKeyPlace::Tpm) => stored::SvidKeyPlace::Tpm,
        Some(SvidKeyPlace::Unproven) => stored::SvidKeyPlace::Unproven,
    }
}

const fn decode_place(place: stored::SvidKeyPlace) -> Option<SvidKeyPlace> {
    match place {
        stored::SvidKeyPlace::Unspecified => None,
        stored::SvidKeyPlace::Tpm => Some(SvidKeyPlace::Tpm),
        stored::SvidKeyPlace::Unproven => Some(SvidKeyPlace::Unproven),
    }
}

fn encode_verdict(verdict: &Verdict) -> stored::Verdict {
    let finding = match &verdict.finding {
        Finding::Quarantined(_) => stored::Finding::Quarantined,
        Finding::Stale(Staleness::Lost) => stored::Finding::Lost,
        Finding::Stale(Staleness::New) => stored::Finding::New,
        Finding::Stale(Staleness::Released) => stored::Finding::Released,
        Finding::Stale(Staleness::Replaced) => stored::Finding::Replaced,
        Finding::Stale(Staleness::Silent) => stored::Finding::Silent,
        Finding::Verified => stored::Finding::Verified,
    };
    let (code, difference) = match &verdict.finding {
        Finding::Quarantined(offence) => (offence.code.clone(), offence.difference.clone()),
        Finding::Stale(_) | Finding::Verified => <(String, String)>::default(),
    };
    stored::Verdict {
        finding: finding.into(),
        since: verdict.since.as_unix(),
        generation: verdict.generation,
        code,
        difference,
    }
}

fn encode_ek(key: &EnrolledEk) -> stored::EndorsementKey {
    let certificate = key.certificate.as_ref();
    stored::EndorsementKey {
        hash: key.hash.map(|hash| hash.0.into()).unwrap_or_default(),
        name: key
            .name
            .as_ref()
            .map(|name| name.as_bytes().into())
            .unwrap_or_default(),
        issuer: certificate.map(|id| id.issuer().into()).unwrap_or_default(),
        serial_number: certificate.map(|id| id.serial().into()).unwrap_or_default(),
        certificate_verified: key.is_certified,
        issuer_key: key.issuer_key.map(|key| key.0.into()).unwrap_or_default(),
        attributes: key.attributes.as_ref().map(|said| stored::TpmAttributes {
            manufacturer: said.manufacturer.clone(),
            model: said.model.clone(),
            version: said.version.clone(),
        }),
    }
}

fn encode_appraised(appraised: &Appraised) -> stored::Appraised {
    let bank = |(alg, set): (HashAlg, PcrSet)| stored::Selection {
        hash_alg: alg.to_tpm().into(),
        pcrs: set.mask(),
    };
    let log = appraised.event_log.as_ref();
    let clock = &appraised.standing.clock;
    stored::Appraised {
        reset_count: clock.reset_count,
        restart_count: clock.restart_count,
        clock: clock.clock,
        clock_safe: clock.safe,
        firmware_version: appraised.standing.firmware_version,
        selection: appraised.selection.banks().map(bank).collect(),
        pcr_digest: appraised.pcr_digest.into(),
        policy_generation: appraised.policy_generation,
        event_log_kept: log.is_some_and(|log| log.is_kept),
        policies: appraised
            .policies
            .iter()
            .map(policy_codec::encode_standing)
            .collect(),
        selectors: appraised.selectors.clone(),
        event_log_sha256: log.map(|log| log.sha256.into()).unwrap_or_default(),
        values: log.map(|log| encode_values(&log.values)).unwrap_or_default(),
        kernel_list: appraised.kernel_list.as_ref().map(encode_list),
    }
}

fn encode_list(list: &KernelList) -> stored::KernelList {
    stored::KernelList {
        reset_count: list.progress.reset_count(),
        entries: list.progress.entries(),
        bytes: list.bytes,
        violations: list.violations,
        values: encode_values(list.progress.pcrs()),
    }
}

fn encode_values(values: &PcrValues) -> Vec<stored::PcrValue> {
    let value = |(alg, index, value): (HashAlg, u8, &Digest)| stored::PcrValue {
        hash_alg: alg.to_tpm().into(),
        index: index.into(),
        digest: value.as_bytes().into(),
    };
    values.iter().map(value).collect()
}

pub(super) fn decode_host(value: &[u8]) -> Result<Host, CodecError> {
    let record = stored::Host::decode(value)?;
    let time = |seconds: i64| (seconds != 0).then(|| Timestamp::from_unix(seconds));
    let created_at = Timestamp::from_unix(record.created_at);
    let svid_key = decode_place(record.svid_key());
    let public = (!record.attestation_key.is_empty()).then(|| Public::parse(&record.attestation_key));
    Ok(Host {
        id: record.id.into(),
        name: record.name,
        enrolment: if record.enrolled {
            Enrolment::Enrolled
        } else {
            Enrolment::Pending {
                expires_at: Timestamp::from_unix(record.expires_at),
            }
        },
        endorsement_keys: record
            .endorsement_keys
            .iter()
            .map(decode_ek)
            .collect::<Result<_, _>>()?,
        attestation_key: public.transpose()?,
        created_at,
        last_attested_at: time(record.last_attested_at),
        last_address: record.last_address,
        appraised: record.appraised.map(decode_appraised).transpose()?,
        agent_path: (!record.agent_path.is_empty()).then(|| Arc::from(record.agent_path)),
        svid_key,
        policies: record
            .policies
            .iter()
            .map(|name| policy_codec::decode_name(name))
            .collect::<Result<_, _>>()?,
        // A row of a server that had no verdicts: the host attests before anything is signed.
        verdict: record
            .verdict
            .map_or(Ok(Verdict::first(created_at)), decode_verdict)?,
        proposal: record.proposal.map(|proposal| Proposal {
            what: proposal.what,
            by: proposal.by,
            at: Timestamp::from_unix(proposal.at),
        }),
        alarm: record.alarm.map(|alarm| Alarm {
            code: alarm.code,
            text: alarm.text,
            at: Timestamp::from_unix(alarm.at),
            count: alarm.count,
        }),
        revision: record.revision,
    })
}

fn decode_verdict(record: stored::Verdict) -> Result<Verdict, CodecError> {
    let finding = match record.finding() {
        stored::Finding::Lost => Finding::Stale(Staleness::Lost),
        stored::Finding::New => Finding::Stale(Staleness::New),
        stored::Finding::Quarantined => Finding::Quarantined(Offence {
            code: record.code,
            difference: record.difference,
        }),
        stored::Finding::Released => Finding::Stale(Staleness::Released),
        stored::Finding::Replaced => Finding::Stale(Staleness::Replaced),
        stored::Finding::Silent => Finding::Stale(Staleness::Silent),
        stored::Finding::Unspecified => return Err(CodecError::Missing("finding")),
        stored::Finding::Verified => Finding::Verified,
    };
    Ok(Verdict {
        finding,
        since: Timestamp::from_unix(record.since),
        generation: record.generation,
    })
}

fn decode_ek(record: &stored::EndorsementKey) -> Result<EnrolledEk, CodecError> {
    let is_set = |bytes: &[u8]| !bytes.is_empty();
    let has_certificate = is_set(&record.serial_number) || !record.issuer.is_empty();
    Ok(EnrolledEk {
        hash: is_set(&record.hash)
            .then(|| decode_hash(&record.hash))
            .transpose()?
            .map(EkHash),
        certificate: has_certificate.then(|| CertificateId::new(&record.issuer, &record.serial_number)),
        is_certified: record.certificate_verified,
        issuer_key: is_set(&record.issuer_key)
            .then(|| decode_hash(&record.issuer_key))
            .transpose()?
            .map(CaKey),
        attributes: record.attributes.as_ref().map(|said| TpmAttributes {
            manufacturer: said.manufacturer.clone(),
            model: said.model.clone(),
            version: said.version.clone(),
        }),
        name: is_set(&record.name)
            .then(|| Name::parse(&record.name))
            .transpose()?,
    })
}

fn decode_appraised(record: stored::Appraised) -> Result<Appraised, CodecError> {
    let banks = record.selection.iter().map(|bank| {
        let pcrs = PcrSet::from_mask(bank.pcrs).ok_or(WireError::OutOfBounds)?;
        Ok((decode_alg(bank.hash_alg)?, pcrs))
    });
    let values = decode_values(record.values)?;
    let has_log = !record.event_log_sha256.is_empty();
    let sha256 = has_log
        .then(|| decode_hash(&record.event_log_sha256))
        .transpose()?;
    Ok(Appraised {
        standing: Standing {
            clock: ClockInfo {
                clock: record.clock,
                reset_count: record.reset_count,
                restart_count: record.restart_count,
                safe: record.clock_safe,
            },
            firmware_version: record.firmware_version,
        },
        selection: PcrSelection::new(banks.collect::<Result<_, CodecError>>()?)?,
        // An older row has none, which equals that of no quote.
        pcr_digest: record.pcr_digest.as_slice().try_into().unwrap_or_default(),
        policy_generation: record.policy_generation,
        kernel_list: record.kernel_list.map(decode_list).transpose()?,
        policies: record
            .policies
            .into_iter()
            .map(policy_codec::decode_standing)
            .collect::<Result<_, _>>()?,
        selectors: record.selectors,
        event_log: sha256.map(|sha256| KnownLog {
            sha256,
            values,
            is_kept: record.event_log_kept,
        }),
    })
}

fn decode_list(record: stored::KernelList) -> Result<KernelList, CodecError> {
    let pcrs = decode_values(record.values)?;
    Ok(KernelList {
        progress: Progress::resumed(record.reset_count, record.entries, &pcrs),
        bytes: record.bytes,
        violations: record.violations,
    })
}

fn decode_values(records: Vec<stored::PcrValue>) -> Result<PcrValues, CodecError> {
    let mut values = PcrValues::default();
    for value in records {
        let index = u8::try_from(value.index).map_err(|_| WireError::OutOfBounds)?;
        let alg = decode_alg(value.hash_alg)?;
        if value.digest.len() != alg.digest_len() {
            return Err(WireError::OutOfBounds.into());
        }
        values.set(alg, index, value.digest.into_iter().collect());
    }
    Ok(values)
}

fn decode_hash(bytes: &[u8]) -> Result<[u8; 32], CodecError> {
    Ok(<[u8; 32]>::try_from(bytes).map_err(|_| WireError::OutOfBounds)?)
}

fn decode_alg(id: u32) -> Result<HashAlg, CodecError> {
    let alg = u16::try_from(id).ok().and_then(HashAlg::from_tpm);
    Ok(alg.ok_or(WireError::Unsupported)?)
}

#[cfg(test)]
pub(super) mod tests;
