//! Between the protocol's messages and our types. What comes from a peer is parsed completely, within limits, or
//! refused.

use attest::{
    AttestationKey, Certification, Digest, HashAlg, Part, PcrSelection, PcrSet, PcrValues, Quote, Reject,
    ek::{CaCertificate, EkCertificate, EndorsementKey},
    event_log::EventLog,
    wire::Public,
};
use plugin_api::{KernelList, Refusal};
use prost::Message;
use proto::{bytes::Bytes, plastron::attest::v1 as wire};

use crate::bounds;

/// Longest first message in bytes: keys with certificates take a few thousand.
const MAX_EVIDENCE: usize = 256 * 1024;
/// Longest answer in bytes: a log, a part of the kernel's list, and a quote.
const MAX_ANSWER: usize = EventLog::MAX_LEN + MAX_PART + 64 * 1024;
/// Most of the kernel's list that comes at once, in bytes: any entry fits in.
pub(crate) const MAX_PART: usize = 768 * 1024;
/// Longest command line of a kernel in bytes.
pub(crate) const MAX_COMMAND_LINE: usize = 4096;
/// Most endorsement keys of a TPM.
const MAX_KEYS: usize = 8;
/// Most certificates sent along with an endorsement key.
const MAX_CHAIN: usize = 8;
/// Longest certificate in bytes.
const MAX_CERTIFICATE: usize = 8 * 1024;
/// Most logs of a host.
const MAX_LOGS: usize = 4;
/// Longest version of an agent in bytes.
const MAX_VERSION: usize = 255;

/// A first message. Nothing in it is believed.
#[derive(Debug)]
pub(crate) struct Opening {
    /// The hello as sent: quotes cover it.
    pub(crate) hello: Bytes,
    /// At least one; those that are no endorsement keys are left out.
    pub(crate) endorsement_keys: Vec<OfferedEk>,
    pub(crate) attestation_key: AttestationKey,
    /// What the host quotes by itself: of every bank that it has active.
    pub(crate) selection: PcrSelection,
    /// SHA-256 of the event log that the host could send.
    pub(crate) event_log: Option<[u8; 32]>,
    /// Whether the host could send its kernel's measurement list.
    pub(crate) has_list: bool,
    pub(crate) quote: Quote,
    /// That the key of the request is in the TPM.
    pub(crate) svid_key: Option<OfferedKey>,
}

/// A key that a host says is in its TPM.
#[derive(Clone, Debug)]
pub(crate) struct OfferedKey {
    pub(crate) key: Public,
    pub(crate) certification: Certification,
}

/// An endorsement key that a host says it has.
#[derive(Clone, Debug)]
pub(crate) struct OfferedEk {
    pub(crate) key: EndorsementKey,
    /// One that can't be read proves nothing, and does not harm a host that is enrolled by hash.
    pub(crate) certificate: Option<EkCertificate>,
    pub(crate) chain: Vec<CaCertificate>,
}

/// What a host sends when it was asked for more.
#[derive(Debug)]
pub(crate) struct Supplied {
    pub(crate) quote: Quote,
    /// Values that the prover read.
    pub(crate) claimed: Option<PcrValues>,
    pub(crate) event_log: Option<Bytes>,
    pub(crate) list: Option<ListPart>,
    /// What the host says that its kernel's command line is. No text is no command line.
    pub(crate) command_line: Option<String>,
}

/// A part of the kernel's measurement list.
#[derive(Debug)]
pub(crate) struct ListPart {
    /// Whole entries, not parsed.
    pub(crate) content: Bytes,
    /// How many entries come before.
    pub(crate) offset: u64,
    /// Whether entries follow that the quote may cover.
    pub(crate) more: bool,
}

impl Opening {
    /// Parses a first message.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, Refusal> {
        let (evidence, hello) = evidence(payload)?;
        let too_many = hello.endorsement_keys.len() > MAX_KEYS || hello.logs.len() > MAX_LOGS;
        if too_many || hello.agent_version.len() > MAX_VERSION {
            return Err(Reject::TooLarge.into());
        }
        let (quote, _) = quote(evidence.quote)?;
        Ok(Self {
            endorsement_keys: endorsement_keys(&hello.endorsement_keys)?,
            attestation_key: AttestationKey::parse(&hello.attestation_key)?,
            selection: selection_from_wire(&hello.selection).ok_or(Reject::Unexpected)?,
            event_log: event_log(&hello.logs)?,
            svid_key: evidence.certification.as_deref().map(certified).transpose()?,
            has_list: hello.logs.iter().any(|log| log.kind() == wire::LogKind::Ima),
            hello: evidence.hello,
            quote,
        })
    }
}

fn evidence(payload: &[u8]) -> Result<(wire::Evidence, wire::Hello), Refusal> {
    check_len(payload, MAX_EVIDENCE)?;
    bounds::check(payload, &bounds::EVIDENCE)?;
    let evidence = wire::Evidence::decode(payload).map_err(malformed)?;
    bounds::check(&evidence.hello, &bounds::HELLO)?;
    let hello = wire::Hello::decode(&*evidence.hello).map_err(malformed)?;
    Ok((evidence, hello))
}

fn certified(offered: &wire::Certification) -> Result<OfferedKey, Reject> {
    let key = Public::parse(&offered.public);
    Ok(OfferedKey {
        key: key.map_err(|error| Reject::Malformed(Part::CertifiedKey, error))?,
        certification: Certification::parse(&offered.attest, &offered.signature)?,
    })
}

/// The first endorsement key that a first message names, as it stands there.
pub(crate) fn first_endorsement_key(payload: &[u8]) -> Option<Bytes> {
    let (_, hello) = evidence(payload).ok()?;
    hello.endorsement_keys.into_iter().next().map(|key| key.public)
}

/// The recovered credential in an answer.
pub(crate) fn credential(answer: &[u8]) -> Result<Bytes, Refusal> {
    match answer_step(answer)? {
        wire::answer::Step::Credential(credential) => Ok(credential),
        wire::answer::Step::Supplied(_) => Err(Reject::Unexpected.into()),
    }
}

/// The quote and logs in an answer of AttestAgent.
pub(crate) fn supplied_answer(answer: &[u8]) -> Result<Supplied, Refusal> {
    match answer_step(answer)? {
        wire::answer::Step::Supplied(supplied) => parse_supplied(supplied),
        wire::answer::Step::Credential(_) => Err(Reject::Unexpected.into()),
    }
}

/// The quote and logs in an answer of a session.
pub(crate) fn supplied(answer: &[u8]) -> Result<Supplied, Refusal> {
    check_len(answer, MAX_ANSWER)?;
    bounds::check(answer, &bounds::SUPPLIED)?;
    parse_supplied(wire::Supplied::decode(answer).map_err(malformed)?)
}

fn parse_supplied(supplied: wire::Supplied) -> Result<Supplied, Refusal> {
    if supplied.logs.len() > MAX_LOGS {
        return Err(Reject::TooLarge.into());
    }
    check_len(&supplied.command_line, MAX_COMMAND_LINE)?;
    let (quote, claimed) = quote(supplied.quote)?;
    let (mut event_log, mut list) = (None, None);
    for log in supplied.logs {
        let is_twice = match log.kind() {
            wire::LogKind::EventLog => event_log.replace(log.content).is_some(),
            wire::LogKind::Ima => list.replace(list_part(log)?).is_some(),
            wire::LogKind::Unspecified => false,
        };
        if is_twice {
            return Err(Reject::Unexpected.into());
        }
    }
    let command_line = String::from_utf8(supplied.command_line.into()).ok();
    Ok(Supplied {
        quote,
        claimed,
        event_log,
        list,
        command_line: command_line.filter(|text| !text.is_empty()),
    })
}

fn list_part(log: wire::Log) -> Result<ListPart, Reject> {
    check_len(&log.content, MAX_PART)?;
    Ok(ListPart {
        content: log.content,
        offset: log.offset,
        more: log.more,
    })
}

fn answer_step(answer: &[u8]) -> Result<wire::answer::Step, Refusal> {
    check_len(answer, MAX_ANSWER)?;
    bounds::check(answer, &bounds::ANSWER)?;
    let answer = wire::Answer::decode(answer).map_err(malformed)?;
    Ok(answer.step.ok_or(Reject::Unexpected)?)
}

fn check_len(message: &[u8], most: usize) -> Result<(), Reject> {
    if message.len() > most {
        Err(Reject::TooLarge)
    } else {
        Ok(())
    }
}

fn malformed(error: prost::DecodeError) -> Refusal {
    Refusal::invalid("message_malformed", error)
}

/// Keys of unknown templates prove nothing and are left out, as long as one remains.
fn endorsement_keys(offered: &[wire::EndorsementKey]) -> Result<Vec<OfferedEk>, Reject> {
    let mut keys = Vec::new();
    let mut reason = Reject::Unexpected;
    for offered in offered {
        match endorsement_key(offered) {
            Ok(key) => keys.push(key),
            Err(Reject::TooLarge) => return Err(Reject::TooLarge),
            Err(reject) => reason = reject,
        }
    }
    if keys.is_empty() { Err(reason) } else { Ok(keys) }
}

fn endorsement_key(offered: &wire::EndorsementKey) -> Result<OfferedEk, Reject> {
    let is_too_long = |certificate: &Bytes| certificate.len() > MAX_CERTIFICATE;
    let is_too_large = offered.chain.len() > MAX_CHAIN
        || offered.chain.iter().any(is_too_long)
        || is_too_long(&offered.certificate);
    if is_too_large {
        return Err(Reject::TooLarge);
    }
    let chain = offered.chain.iter();
    Ok(OfferedEk {
        key: EndorsementKey::parse(&offered.public)?,
        certificate: EkCertificate::parse(&offered.certificate).ok(),
        chain: chain.filter_map(|der| CaCertificate::parse(der).ok()).collect(),
    })
}

fn event_log(logs: &[wire::LogDigest]) -> Result<Option<[u8; 32]>, Reject> {
    let mut event_logs = logs.iter().filter(|log| log.kind() == wire::LogKind::EventLog);
    let Some(log) = event_logs.next() else {
        return Ok(None);
    };
    if event_logs.next().is_some() {
        return Err(Reject::Unexpected);
    }
    let sha256 = <[u8; 32]>::try_from(&*log.sha256);
    sha256.map(Some).map_err(|_| Reject::Unexpected)
}

fn quote(quote: Option<wire::Quote>) -> Result<(Quote, Option<PcrValues>), Reject> {
    let quote = quote.ok_or(Reject::Unexpected)?;
    let parsed = Quote::parse(&quote.attest, &quote.signature)?;
    Ok((parsed, values(quote.values)?))
}

fn values(values: Vec<wire::PcrValue>) -> Result<Option<PcrValues>, Reject> {
    if values.is_empty() {
        return Ok(None);
    }
    if values.len() > PcrSelection::MAX_BANKS * usize::from(PcrSet::COUNT) {
        return Err(Reject::TooLarge);
    }
    let mut read = PcrValues::default();
    for value in values {
        let alg = alg(value.hash_alg).ok_or(Reject::Unexpected)?;
        let index = u8::try_from(value.index)
            .ok()
            .filter(|index| *index < PcrSet::COUNT);
        let index = index.ok_or(Reject::Unexpected)?;
        if value.digest.len() != alg.digest_len() {
            return Err(Reject::Unexpected);
        }
        read.set(alg, index, value.digest.into_iter().collect());
    }
    Ok(Some(read))
}

fn alg(id: u32) -> Option<HashAlg> {
    HashAlg::from_tpm(u16::try_from(id).ok()?)
}

/// Asks for a quote of `selection` over `nonce`, for the event log where that is wanted, and for the kernel's list from
/// where it is proven.
pub(crate) fn need(
    nonce: &[u8; 32],
    selection: &PcrSelection,
    wants_log: bool,
    list: Option<&KernelList>,
) -> wire::Need {
    let log = wants_log.then_some(wire::LogKind::EventLog.into());
    let ima = list.map(|_| wire::LogKind::Ima.into());
    let from = list.filter(|list| list.progress.entries() > 0);
    wire::Need {
        nonce: Bytes::copy_from_slice(nonce),
        selection: selection_to_wire(selection),
        logs: log.into_iter().chain(ima).collect(),
        list_from: from.map(|list| wire::ListOffset {
            entries: list.progress.entries(),
            bytes: list.bytes,
        }),
    }
}

/// A selection, as a message has it.
pub(crate) fn selection_to_wire(selection: &PcrSelection) -> Vec<wire::PcrSelection> {
    let bank = |(alg, set): (HashAlg, PcrSet)| wire::PcrSelection {
        hash_alg: alg.to_tpm().into(),
        pcrs: set.mask(),
    };
    selection.banks().map(bank).collect()
}

/// A selection that a peer names; `None` if it is none.
pub(crate) fn selection_from_wire(selection: &[wire::PcrSelection]) -> Option<PcrSelection> {
    let bank = |bank: &wire::PcrSelection| Some((alg(bank.hash_alg)?, PcrSet::from_mask(bank.pcrs)?));
    let banks: Option<Vec<_>> = selection.iter().map(bank).collect();
    PcrSelection::new(banks?)
        .ok()
        .filter(|selection| !selection.is_empty())
}

/// Values, as a message has them.
pub(crate) fn values_to_wire(values: &PcrValues) -> Vec<wire::PcrValue> {
    let value = |(alg, index, digest): (HashAlg, u8, &Digest)| wire::PcrValue {
        hash_alg: alg.to_tpm().into(),
        index: index.into(),
        digest: Bytes::copy_from_slice(digest.as_bytes()),
    };
    values.iter().map(value).collect()
}
