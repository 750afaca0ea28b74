//! The parsers of TPM evidence.

use std::sync::LazyLock;

use attest::{
    AttestationKey, CapturedKey, CapturedQuote, Digest, HashAlg, Name, PcrSelection, PcrSet, PcrValues,
    Quote, Reject,
    credential::IssuedCredential,
    ek::{
        CaCertificate, CertificateId, EkCertificate, EkHash, EkRoots, EndorsementKey, Expiry,
        PlatformCertificate, PlatformHolder, PlatformRoots,
    },
    event_log::{self, EventLog, Handover, Measurement, Measurements, SbatLevel, SecureBoot},
    ima::{self, Entry, MeasurementList, Progress, Quoted},
    wire::{Attest, Attested, Public, Signature},
};

use crate::parts::Parts;

/// 2025-01-01, when most certificates of the test data are valid.
const NOW: i64 = 1_735_689_600;

/// [`Public::parse`].
pub fn public(bytes: &[u8]) {
    let Ok(public) = Public::parse(bytes) else { return };
    assert_eq!(public.as_bytes(), bytes, "other bytes have another Name");
    assert_eq!(public.name().as_bytes().len(), 2 + public.name_alg.digest_len());
    assert_eq!(Public::parse(public.as_bytes()).as_ref(), Ok(&public));
    let _hash = EkHash::of(&public.key);
}

/// [`AttestationKey::parse`].
pub fn ak(bytes: &[u8]) {
    let Ok(key) = AttestationKey::parse(bytes) else {
        return;
    };
    assert_eq!(key.public().as_bytes(), bytes);
    assert_eq!(*key.name(), key.public().name());
    assert_eq!(Name::parse(key.name().as_bytes()).as_ref(), Ok(key.name()));
    assert!(EndorsementKey::parse(bytes).is_err(), "a key is of one kind");
}

/// [`EndorsementKey::parse`].
pub fn ek(bytes: &[u8]) {
    let Ok(key) = EndorsementKey::parse(bytes) else {
        return;
    };
    assert_eq!(key.public().as_bytes(), bytes);
    let hash = key.hash();
    assert_eq!(hash.to_string().parse(), Ok(hash));
    assert!(key.vouched(&hash).is_ok(), "the hash is that of the key");
}

/// [`EkHash`] from text.
pub fn ek_hash(bytes: &[u8]) {
    let Some(hash) = str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse::<EkHash>().ok())
    else {
        return;
    };
    assert!(hash.to_string().as_bytes().eq_ignore_ascii_case(bytes));
}

/// [`Name::parse`].
pub fn name(bytes: &[u8]) {
    let Ok(name) = Name::parse(bytes) else { return };
    assert_eq!(name.as_bytes(), bytes);
    assert!(name.qualified_under_endorsement().is_some());
}

/// A credential for a key that is any public area: [`IssuedCredential::issue`].
pub fn credential(bytes: &[u8]) {
    let Ok(public) = Public::parse(bytes) else { return };
    let Ok((issued, blob)) = IssuedCredential::issue(&public, &public.name()) else {
        return;
    };
    assert_eq!(*issued.endorsement_key(), public.name());
    let refused = issued.verify(&blob.credential_blob);
    assert_eq!(
        refused,
        Err(Reject::CredentialMismatch),
        "the secret is not sent in the open"
    );
}

/// [`Attest::parse`].
pub fn statement(bytes: &[u8]) {
    let Ok(statement) = Attest::parse(bytes) else {
        return;
    };
    assert!(bytes.len() <= Attest::MAX_LEN);
    let rest = match &statement.attested {
        Attested::Certify { name } => name.len(),
        Attested::Quote {
            selection,
            pcr_digest,
        } => {
            check_selection(selection);
            pcr_digest.len()
        }
    };
    let parts = statement.qualified_signer.len() + statement.extra_data.len() + rest;
    assert!(parts <= bytes.len(), "no part is larger than the whole");
}

/// The TPML_PCR_SELECTION of a quote.
pub fn pcr_selection(bytes: &[u8]) {
    // Magic, tag, no signer, no extra data, clock, firmware version; behind it, no digest.
    let front = [&[0xff, 0x54, 0x43, 0x47, 0x80, 0x18][..], &[0; 4 + 17 + 8]].concat();
    let Ok(statement) = Attest::parse(&[&front, bytes, &[0; 2]].concat()) else {
        return;
    };
    if let Attested::Quote { selection, .. } = statement.attested {
        check_selection(&selection);
    }
}

fn check_selection(selection: &PcrSelection) {
    let banks: Vec<_> = selection.banks().collect();
    assert!(banks.len() <= PcrSelection::MAX_BANKS);
    assert!(selection.is_same_set(selection));
    assert!(
        banks.iter().all(|(alg, set)| selection.of(*alg) == *set),
        "no bank is there twice"
    );
    let values = PcrValues::default().select(selection);
    assert_eq!(values.iter().count(), selection.len());
    let again = PcrSelection::new(banks.clone());
    assert!(banks.is_empty() || again.as_ref() == Ok(selection));
    let _shown = selection.to_string();
    let _digest = values.digest(selection, HashAlg::Sha256);
}

/// [`Signature::parse`].
pub fn signature(bytes: &[u8]) {
    let Ok(signature) = Signature::parse(bytes) else {
        return;
    };
    let halves = match &signature {
        Signature::Ecdsa { r, s, .. } => r.len() + s.len() + 8,
        Signature::RsaPss { signature, .. } | Signature::RsaSsa { signature, .. } => signature.len() + 6,
    };
    assert_eq!(halves, bytes.len(), "every byte is read once");
}

/// [`Quote::parse`]. That none is accepted which is not signed is [`evidence`](super::evidence)'s matter.
pub fn quote(bytes: &[u8]) {
    let mut parts = Parts::new(bytes);
    let (statement, signature) = (parts.part(), parts.part());
    let Ok(_quote) = Quote::parse(statement, signature) else {
        return;
    };
    let parsed = Attest::parse(statement).unwrap_or_else(|error| panic!("quoted, but {error}"));
    assert_eq!(parsed.magic, Attest::MAGIC);
    assert!(matches!(parsed.attested, Attested::Quote { .. }));
}

/// [`EkCertificate::parse`].
pub fn ek_certificate(bytes: &[u8]) {
    let Ok(certificate) = EkCertificate::parse(bytes) else {
        return;
    };
    let der = certificate.as_der();
    assert!(
        bytes.windows(der.len()).any(|window| window == der),
        "the certificate is what was sent"
    );
    assert_eq!(
        EkCertificate::parse(der).as_ref(),
        Ok(&certificate),
        "what is around it does not count"
    );
    let id = certificate.id();
    assert_eq!(CertificateId::new(id.issuer(), id.serial()), id);
    let unknown = EkRoots::new(Expiry::Ignored).verify(certificate, &[], NOW);
    assert!(unknown.is_err(), "without roots nothing is trusted");
}

/// [`CaCertificate::parse`].
pub fn ca_certificate(bytes: &[u8]) {
    let Ok(certificate) = CaCertificate::parse(bytes) else {
        return;
    };
    let mut roots = EkRoots::new(Expiry::Enforced);
    roots.add_root(certificate);
    assert_eq!(roots.len(), 1);
}

/// [`PlatformCertificate::parse`].
pub fn platform_certificate(bytes: &[u8]) {
    let Ok(certificate) = PlatformCertificate::parse(bytes) else {
        return;
    };
    let chassis = certificate.chassis();
    let names = [&chassis.manufacturer, &chassis.model, &chassis.version];
    let length: usize = names.iter().map(|name| name.len()).sum();
    assert!(length <= bytes.len(), "what it says is no longer than it is");
    if let PlatformHolder::Certificate(id) = certificate.holder() {
        assert_eq!(CertificateId::new(id.issuer(), id.serial()), *id);
    }
    let mut roots = PlatformRoots::new(Expiry::Ignored);
    roots.add(bytes).ok();
    let unknown = roots.verify(certificate, NOW);
    assert!(unknown.is_err(), "without other roots nothing is trusted");
}

/// A certificate and those sent along, up to real roots: [`EkRoots::verify`].
pub fn ek_chain(bytes: &[u8]) {
    static VENDORS: LazyLock<EkRoots> = LazyLock::new(vendors);
    let mut parts = Parts::new(bytes);
    let Ok(leaf) = EkCertificate::parse(parts.part()) else {
        return;
    };
    let mut sent = Vec::new();
    while !parts.rest().is_empty() {
        sent.extend(CaCertificate::parse(parts.part()));
    }
    let without = VENDORS.verify(leaf.clone(), &[], NOW);
    let with = VENDORS.verify(leaf.clone(), &sent, NOW);
    assert!(
        with.is_ok() || without.is_err(),
        "what is sent along closes no way"
    );
    if let Ok(trusted) = with {
        assert_eq!(*trusted.get(), leaf);
        let nobody = EkRoots::new(Expiry::Ignored).verify(leaf, &sent, NOW);
        assert!(nobody.is_err(), "what is sent along is not trusted by itself");
    }
}

fn vendors() -> EkRoots {
    let mut roots = EkRoots::new(Expiry::Ignored);
    roots.add_shipped();
    assert!(!roots.is_empty(), "the vendors' roots can't be read");
    roots
}

/// [`EventLog::parse`], and all that is done with a log: replay, explanation, measurements.
pub fn event_log(bytes: &[u8]) {
    let Ok(log) = EventLog::parse(bytes) else { return };
    let size: usize = log.events().map(|event| event.data.len() + digests(&event)).sum();
    assert!(size <= bytes.len(), "events are not larger than the log");
    let is_safe = |event: event_log::Event<'_>| !event.remark().chars().any(char::is_control);
    assert!(
        log.events().all(is_safe),
        "a terminal takes no remark for a command"
    );
    for alg in log.banks() {
        replay(&log, alg);
        measure(&log, alg, bytes.len());
    }
}

fn digests(event: &event_log::Event<'_>) -> usize {
    event.digests.iter().map(|(_, digest)| digest.len()).sum()
}

/// A log explains the PCRs that it adds up to, and no others.
fn replay(log: &EventLog, alg: HashAlg) {
    let Ok(values) = log.replay(alg) else { return };
    let all = (0..PcrSet::COUNT).collect();
    let Ok(selection) = PcrSelection::new(vec![(alg, all)]) else {
        return;
    };
    let hash = HashAlg::Sha256;
    let digest = values.digest(&selection, hash);
    let explained = event_log::explain(&selection, digest.as_bytes(), hash, None, log);
    assert_eq!(explained.as_ref(), Ok(&values.select(&selection)));
    let other = Digest::filled(0, hash);
    let refused = event_log::explain(&selection, other.as_bytes(), hash, Some(&values), log);
    assert_eq!(refused, Err(Reject::PcrDigest));
}

fn measure(log: &EventLog, alg: HashAlg, len: usize) {
    let pcrs: PcrSet = (0..PcrSet::COUNT).collect();
    let Ok(measurements) = Measurements::verify(log.clone(), alg, pcrs) else {
        return;
    };
    let all = pcrs.iter().filter_map(|pcr| measurements.of(pcr)).flatten();
    let shown: usize = all.filter_map(|measurement| content(alg, &measurement)).sum();
    assert!(shown <= len, "no more is shown than there is");
    let _handover = Handover::of(&measurements);
    let _sections = event_log::uki_sections(&measurements);
    let _levels = SbatLevel::all(&measurements);
    let texts = event_log::boot_texts(&measurements).unwrap_or_default();
    assert!(texts.len() <= len, "each text is of an event");
    if let Ok(state) = SecureBoot::of(&measurements) {
        let lists = [&state.pk, &state.kek, &state.db, &state.dbx];
        let held: usize = lists.into_iter().flatten().map(|key| key.data.len()).sum();
        assert!(held <= len, "keys are not larger than the log");
    }
}

/// The length of what was measured, which has to have the digest.
fn content(alg: HashAlg, measurement: &Measurement<'_>) -> Option<usize> {
    let bytes = measurement.content.bytes()?;
    assert_eq!(alg.digest(&[bytes]).as_bytes(), measurement.digest);
    let _name = measurement
        .content
        .variable()
        .and_then(|variable| variable.name());
    Some(bytes.len())
}

/// [`MeasurementList::parse`], and what is done with a list: its own PCRs prove all of it, and others nothing.
pub fn ima_list(bytes: &[u8]) {
    ima_part(bytes);
    let Ok(list) = MeasurementList::parse(bytes) else {
        return;
    };
    let shown: usize = list.entries().filter_map(|entry| shown(&entry)).sum();
    assert!(shown <= 2 * bytes.len(), "entries are not larger than the list");
    let mut pcrs = PcrValues::default();
    (0..PcrSet::COUNT).for_each(|pcr| pcrs.set(HashAlg::Sha256, pcr, Digest::filled(0xaa, HashAlg::Sha256)));
    let unexplained = ima::explain(list.clone(), 0, &Progress::of_boot(0), 0, &Quoted::Values(&pcrs));
    assert!(unexplained.is_err(), "PCRs that nothing leads to are not proven");
}

/// The same as a part of a list that travels: it is whole, and adds up to what the list does.
fn ima_part(bytes: &[u8]) {
    let whole = MeasurementList::whole_entries(bytes, bytes.len() / 2);
    assert!(whole <= bytes.len() / 2, "no more is cut off than was asked for");
    let Ok(part) = MeasurementList::parse_binary(bytes) else {
        return;
    };
    assert_eq!(part.len_of(part.len()), bytes.len());
    assert_eq!(MeasurementList::whole_entries(bytes, bytes.len()), bytes.len());
    let is_of_ima = part.entries().all(|entry| entry.pcr == ima::PCR);
    let past = Progress::of_boot(0).past(&part, 0, &PcrSelection::standard());
    assert_eq!(past.is_ok(), is_of_ima, "it goes on where nothing was");
    let Ok(past) = past else {
        return;
    };
    assert_eq!(*past.pcrs(), part.replay(HashAlg::Sha256, ima::Hashing::Whole));
    assert_eq!(past.entries(), u64::from(part.len()));
}

/// The length of what an entry shows.
fn shown(entry: &Entry<'_>) -> Option<usize> {
    let digest = entry.file_digest().map_or(0, |file| file.digest.len());
    let others = [entry.path(), entry.signature(), entry.buffer()];
    Some(digest + others.into_iter().flatten().map(<[u8]>::len).sum::<usize>())
}

/// [`CapturedKey::parse`] and [`CapturedQuote::parse`]: a key or statement, and a plain signature that none made.
pub fn captured(bytes: &[u8]) {
    let mut parts = Parts::new(bytes);
    let (key, statement) = (parts.part(), parts.part());
    let (Ok(key), Ok(quote)) = (
        CapturedKey::parse(key),
        CapturedQuote::parse(statement, parts.rest()),
    ) else {
        return;
    };
    assert!(
        quote.verify(&key, &[0xa5; 7]).is_err(),
        "nobody signed this nonce"
    );
}

/// [`PcrValues::from_file`].
pub fn pcr_file(bytes: &[u8]) {
    let Ok(values) = PcrValues::from_file(bytes, Some(&PcrSelection::standard())) else {
        return;
    };
    let is_whole = |(alg, _, value): (HashAlg, u8, &Digest)| value.as_bytes().len() == alg.digest_len();
    assert!(values.iter().all(is_whole));
    let lines: Vec<_> = values
        .iter()
        .map(|(alg, pcr, value)| format!("{alg}:{pcr}={value}"))
        .collect();
    assert_eq!(PcrValues::from_text(&lines.join("\n")), Ok(values));
}
