//! What a report on an event log judges by: the bank and the PCRs whose values are known, and no others.

use attest::{
    HashAlg, PcrValues, Reject,
    event_log::{Event, EventKind, EventLog, before_words},
    ima::{self, MeasurementList, Progress, Quoted},
    report::{Beside, Captured, Comparison, Finding, LogReport, PcrRow, QuoteReport, Verdict},
};

use crate::{
    evidence::{BINDING, selection, statement},
    fixtures::{event_log, ima_list_of, pcrs},
    tpm::{Area, SHA256, quoted as tpm_quoted, sign, signing_key},
};

const BOOT: &str = "vm-sb-56c";

/// Invents a digest of an event for the bank of SHA-384.
type Invent = fn(EventKind, &[u8]) -> Vec<u8>;

/// The log of a boot that somebody wrote anew, with its SHA-256 digests: `change` says what an event is called and has for
/// data, if it stays; `invent` makes up digests of another bank.
fn rewritten(change: impl Fn(&Event<'_>) -> Option<(EventKind, Vec<u8>)>, invent: Option<Invent>) -> Vec<u8> {
    let log = EventLog::parse(&event_log(&format!("{BOOT}.bin"))).unwrap();
    let banks: &[(u16, u16)] = match invent {
        Some(_) => &[(0x0b, 32), (0x0c, 48)],
        None => &[(0x0b, 32)],
    };
    let mut spec_id = b"Spec ID Event03\0\0\0\0\0\0\x02\0\x02".to_vec();
    spec_id.extend(len(banks.len()));
    for (id, size) in banks {
        spec_id.extend([id.to_le_bytes(), size.to_le_bytes()].concat());
    }
    spec_id.push(0);
    let mut bytes = [
        &[0, 0, 0, 0, 3, 0, 0, 0][..],
        &[0; 20],
        &len(spec_id.len()),
        &spec_id,
    ]
    .concat();
    for event in log.events() {
        let Some((kind, data)) = change(&event) else {
            continue;
        };
        bytes.extend(u32::from(event.pcr).to_le_bytes());
        bytes.extend(kind.0.to_le_bytes());
        bytes.extend(len(banks.len()));
        bytes.extend([&[0x0b, 0], event.digests.of(HashAlg::Sha256).unwrap()].concat());
        if let Some(invent) = invent {
            bytes.extend([&[0x0c, 0], &*invent(kind, &data)].concat());
        }
        bytes.extend(len(data.len()));
        bytes.extend(data);
    }
    bytes
}

fn unchanged(event: &Event<'_>) -> Option<(EventKind, Vec<u8>)> {
    Some((event.kind, event.data.into()))
}

/// EV_IPL.
const IPL: EventKind = EventKind(0x0d);

/// Another value of the variables of PCR 7, under a type whose data need not be measured.
fn other_variables(event: &Event<'_>) -> Option<(EventKind, Vec<u8>)> {
    let mut data = event.data.to_vec();
    if event.pcr == 7 && event.kind != EventKind::SEPARATOR {
        *data.last_mut()? ^= 1;
        return Some((IPL, data));
    }
    Some((event.kind, data))
}

fn len(len: usize) -> [u8; 4] {
    u32::try_from(len).unwrap().to_le_bytes()
}

fn sha384_of_data(_: EventKind, data: &[u8]) -> Vec<u8> {
    HashAlg::Sha384.digest(&[data]).as_bytes().into()
}

/// The values of some PCRs after the boot.
fn known(pcrs_of: impl Fn(u8) -> bool) -> PcrValues {
    let mut values = PcrValues::default();
    for (alg, pcr, value) in pcrs(BOOT).values.iter().filter(|(_, pcr, _)| pcrs_of(*pcr)) {
        values.set(alg, pcr, *value);
    }
    values
}

/// The codes of what is refused.
fn refused(findings: &[Finding]) -> Vec<&'static str> {
    let is_refused = |finding: &&Finding| finding.verdict == Verdict::Refused;
    findings
        .iter()
        .filter(is_refused)
        .map(|finding| finding.code)
        .collect()
}

/// The banks of which there are PCRs with this outcome.
fn banks_of(report: &LogReport, outcome: Comparison) -> Vec<&str> {
    let rows = report.pcrs.iter().filter(|row| row.compared == outcome);
    let mut banks: Vec<_> = rows.map(|row| row.bank.as_str()).collect();
    banks.dedup();
    banks
}

/// The report on a quote over the known PCRs of SHA-256.
fn quoted(values: &PcrValues, log: &[u8]) -> QuoteReport {
    let key = signing_key();
    let mut said = statement(&key, values);
    let mask = values.iter().fold(0, |mask, (_, pcr, _)| mask | 1 << pcr);
    let digest = values.digest(&selection(HashAlg::Sha256, mask), HashAlg::Sha256);
    said.attested = tpm_quoted(&[(SHA256, mask)], digest.as_bytes());
    let marshaled = said.marshal();
    let captured = Captured {
        ak: &Area::attestation(&key).marshal(),
        quote: &marshaled,
        signature: &sign(&key, &marshaled),
        nonce: &BINDING.extra_data(),
    };
    let beside = Beside {
        pcrs: Some(values),
        event_log: Some(log),
        ima_log: None,
    };
    QuoteReport::of(&captured, &beside)
}

#[test]
fn a_bank_without_known_pcrs_is_not_judged_by() {
    let values = known(|pcr| pcr != 10);
    let honest = LogReport::of(&rewritten(unchanged, None), Some(&values));
    assert_eq!(refused(&honest.findings), [] as [&str; 0]);
    assert!(honest.secure_boot.is_some_and(|state| state.on));
    let forged = LogReport::of(&rewritten(other_variables, Some(sha384_of_data)), Some(&values));
    assert!(forged.secure_boot.is_none(), "{forged}");
    let mut variables = forged.events.iter().filter(|event| event.kind == IPL.to_string());
    assert!(variables.all(|event| event.content == "absent"), "{forged}");
    let is_right =
        |row: &PcrRow| (row.compared == Comparison::Unproven) == (row.bank != "sha256" || row.index == 10);
    assert!(forged.pcrs.iter().all(is_right), "{forged}");
}

#[test]
fn a_bank_that_is_not_judged_by_may_be_broken() {
    let values = known(|pcr| pcr != 10);
    let no_separators: Invent = |kind, data| match kind {
        EventKind::SEPARATOR => vec![7; 48],
        _ => sha384_of_data(kind, data),
    };
    let report = LogReport::of(&rewritten(unchanged, Some(no_separators)), Some(&values));
    assert_eq!(refused(&report.findings), [] as [&str; 0]);
    assert!(report.secure_boot.is_some_and(|state| state.on));
}

/// The log with digests of SHA-384, but for its last event: as where Windows does not extend a bank that firmware does.
fn without_the_last_sha384() -> Vec<u8> {
    let mut log = rewritten(unchanged, Some(sha384_of_data));
    log.extend(
        [
            &12_u32.to_le_bytes()[..],
            &IPL.0.to_le_bytes(),
            &len(1),
            &[0x0b, 0],
            &[1; 32],
        ]
        .concat(),
    );
    log.extend(len(0));
    log
}

#[test]
fn a_bank_that_not_all_events_have_is_judged_by_only_if_it_is_known() {
    let log = without_the_last_sha384();
    let codes = |report: &LogReport| -> Vec<_> {
        let findings = report.findings.iter();
        findings.map(|finding| (finding.verdict, finding.code)).collect()
    };
    let report = LogReport::of(&log, None);
    assert_eq!(codes(&report), [(Verdict::Noted, "log_banks")], "{report}");
    assert!(
        report.secure_boot.as_ref().is_some_and(|state| state.on),
        "{report}"
    );
    // Somebody knows what that bank holds: then the log has to tell it.
    let mut values = PcrValues::default();
    values.set(HashAlg::Sha384, 12, HashAlg::Sha384.digest(&[]));
    let known = LogReport::of(&log, Some(&values));
    assert_eq!(codes(&known), [(Verdict::Refused, "log_banks")], "{known}");
}

#[test]
fn a_log_and_values_of_different_banks_prove_nothing() {
    let mut values = PcrValues::default();
    let log = rewritten(unchanged, None);
    assert_eq!(
        refused(&LogReport::of(&log, Some(&values)).findings),
        ["pcr_bank"]
    );
    values.set(HashAlg::Sha384, 0, HashAlg::Sha384.digest(&[]));
    values.set(HashAlg::Sha1, 0, HashAlg::Sha1.digest(&[]));
    let report = LogReport::of(&log, Some(&values));
    assert_eq!(refused(&report.findings), ["pcr_bank"]);
    assert!(report.secure_boot.is_none() && report.images.is_empty());
    assert_eq!(banks_of(&report, Comparison::Unproven), ["sha256"]);
    assert!(report.pcrs.iter().all(|row| row.compared == Comparison::Unproven));
    assert!(report.events.iter().all(|event| event.content == "unproven"));
}

#[test]
fn what_pcrs_tell_that_are_not_known_is_not_believed() {
    let log = rewritten(unchanged, None);
    let shown = |report: &LogReport| {
        (
            report.secure_boot.is_some(),
            !report.images.is_empty(),
            !report.sections.is_empty(),
        )
    };
    let check = |pcrs_of: fn(u8) -> bool, expected| {
        let values = known(pcrs_of);
        for report in [
            LogReport::of(&log, Some(&values)),
            quoted(&values, &log).event_log.unwrap(),
        ] {
            assert_eq!(shown(&report), expected, "{report}");
            let is_proven = |row: &PcrRow| row.compared != Comparison::Unproven;
            assert!(
                report.pcrs.iter().all(|row| pcrs_of(row.index) == is_proven(row)),
                "{report}"
            );
            let is_right = |pcr, content: &str| pcrs_of(pcr) == (content != "unproven");
            let mut events = report.events.iter();
            assert!(events.all(|event| is_right(event.pcr, event.content)), "{report}");
        }
    };
    check(|pcr| pcr == 16, (false, false, false));
    check(|pcr| pcr == 7, (true, false, false));
    check(|pcr| pcr <= 4, (false, false, false));
    check(|pcr| pcr == 4 || pcr == 5, (false, true, false));
    check(|pcr| pcr == 11, (false, false, true));
    check(|pcr| pcr < 8 || pcr == 11, (true, true, true));
    let own_word = LogReport::of(&log, None);
    assert_eq!(shown(&own_word), (true, true, true));
    assert_eq!(banks_of(&own_word, Comparison::Unproven), ["sha256"]);
    assert!(own_word.to_string().contains("own word"), "{own_word}");
}

#[test]
fn every_bank_is_replayed_whatever_is_known() {
    let log = rewritten(unchanged, Some(sha384_of_data));
    let shown = |report: &LogReport| {
        let count = |outcome| report.pcrs.iter().filter(|row| row.compared == outcome).count();
        let counts = [Comparison::Equal, Comparison::Differs, Comparison::Unproven].map(count);
        let mut banks: Vec<_> = report.pcrs.iter().map(|row| row.bank.clone()).collect();
        banks.dedup();
        (banks.join("+"), counts)
    };
    let extended = LogReport::of(&log, None).pcrs.len() / 2;
    let both = || "sha256+sha384".to_owned();
    let report = LogReport::of(&log, None);
    assert_eq!(shown(&report), (both(), [0, 0, 2 * extended]));
    let report = LogReport::of(&log, Some(&known(|pcr| pcr == 7)));
    assert_eq!(shown(&report), (both(), [1, 0, 2 * extended - 1]), "{report}");
    let other = |pcr: u8| {
        let mut values = known(|known| known == pcr);
        values.extend(HashAlg::Sha256, pcr, &[1; 32]);
        values
    };
    let report = LogReport::of(&log, Some(&other(7)));
    assert_eq!(shown(&report), (both(), [0, 1, 2 * extended - 1]), "{report}");
    let text = report.to_string();
    assert!(text.contains("unproven\nsha384 PCR  0"), "{text}");
}

#[test]
fn all_that_was_quoted_has_to_be_explained() {
    // A kernel's events removed, which its PCRs still hold.
    for pcr in [8, 9, 12, 13, 14, 11] {
        let mut values = known(|pcr| pcr != 10);
        if values
            .get(HashAlg::Sha256, pcr)
            .is_some_and(|value| value.is_filled(0))
        {
            values.extend(HashAlg::Sha256, pcr, &[1; 32]);
        }
        let log = rewritten(|event| unchanged(event).filter(|_| event.pcr != pcr), None);
        let report = quoted(&values, &log);
        assert_eq!(refused(&report.findings), ["log_mismatch"], "PCR {pcr}: {report}");
        let read = LogReport::of(&log, Some(&values));
        let expected: &[&str] = if pcr == 11 { &[] } else { &["log_mismatch"] };
        assert_eq!(refused(&read.findings), expected, "PCR {pcr}: {read}");
        assert!(read.sections.is_empty() || pcr != 11, "{read}");
    }
    // IMA writes into no log of firmware.
    let all = known(|_| true);
    assert_eq!(
        refused(&quoted(&all, &rewritten(unchanged, None)).findings),
        [] as [&str; 0]
    );
}

#[test]
fn a_log_can_not_command_a_terminal() {
    // `db` of the authority, behind the separator of PCR 7: whoever extends the PCR names it as he likes.
    let name: Vec<u8> = "\u{1b}[2J\r".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let variable = [
        &[7; 16][..],
        &[5, 0, 0, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0, 0, 0],
        &name,
        &[1],
    ]
    .concat();
    let mut log = rewritten(unchanged, None);
    log.extend([7_u32.to_le_bytes(), IPL.0.to_le_bytes(), len(1)].concat());
    log.extend([&[0x0b, 0], HashAlg::Sha256.digest(&[&variable]).as_bytes()].concat());
    log.extend([&len(variable.len())[..], &variable].concat());
    let report = LogReport::of(&log, None);
    let state = report.secure_boot.as_ref().unwrap();
    assert!(
        state
            .authorities
            .iter()
            .any(|(database, _)| database.contains("[2J")),
        "{state:?}"
    );
    let text = report.to_string();
    assert!(
        text.lines().flat_map(str::chars).all(|char| !char.is_control()),
        "{text:?}"
    );
}

/// The log of a machine that shim and GRUB booted.
const GRUB: &str = "keylime-binary_bios_measurements-secureboot";

#[test]
fn a_log_shows_what_shim_and_grub_measured() {
    let report = LogReport::of(&event_log(GRUB), None);
    let [level] = report.sbat.as_slice() else {
        panic!("{report}");
    };
    assert_eq!(
        (level.date.as_str(), level.generations["grub.debian"]),
        ("2023012900", 4)
    );
    let texts = &report.boot_texts;
    let of_kernel: Vec<_> = texts
        .iter()
        .filter(|text| text.claimed == "kernel_cmdline")
        .collect();
    let [command_line] = of_kernel.as_slice() else {
        panic!("{report}");
    };
    assert_eq!(command_line.pcr, 8);
    let shown = format!("Boot loader   : kernel_cmdline {}\n", command_line.text);
    assert!(report.to_string().contains(&shown), "{report}");
    assert!(
        report.to_string().contains("SBAT level    : 2023012900, grub 3,"),
        "{report}"
    );
    let codes: Vec<_> = report.findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["log_handover"; 0], "{report}");
}

#[test]
fn what_fits_no_loader_is_noted() {
    let with = |pcr: u32, measured: &[u8]| {
        let mut log = event_log(GRUB);
        log.extend([pcr.to_le_bytes(), IPL.0.to_le_bytes(), len(1)].concat());
        log.extend([&[0x0b, 0], HashAlg::Sha256.digest(&[measured]).as_bytes()].concat());
        log.extend(len(0));
        let report = LogReport::of(&log, None);
        assert_eq!(refused(&report.findings), [] as [&str; 0], "{report}");
        report
            .findings
            .iter()
            .map(|finding| finding.code)
            .collect::<Vec<_>>()
    };
    assert_eq!(with(8, b"menuentry x"), ["log_boot_loader"]);
    assert_eq!(with(7, b"hidden"), ["secure_boot_sbat"]);
    assert_eq!(with(9, b"a file"), [] as [&str; 0]);
}

/// What systemd 261 leaves in PCRs: its separator is in no log of firmware's.
fn separated(mut values: PcrValues) -> PcrValues {
    let word = HashAlg::Sha256.digest(&[b"os-separator"]);
    for pcr in (0..=7).chain([9, 12, 13, 14]) {
        values.extend(HashAlg::Sha256, pcr, word.as_bytes());
    }
    values
}

#[test]
fn the_separator_of_systemd_is_explained_and_shown() {
    let log = event_log(&format!("{BOOT}.bin"));
    let values = known(|pcr| pcr < 15 && pcr != 10);
    let before = LogReport::of(&log, Some(&values));
    let report = LogReport::of(&log, Some(&separated(values.clone())));
    assert_eq!(report.findings, before.findings, "{report}");
    assert_eq!((report.words.len(), before.words.len()), (12, 0));
    let shown = "Not logged    : sha256 PCR 9 by os-separator\n";
    assert!(report.to_string().contains(shown), "{report}");
    assert_eq!(
        (&report.images, report.sections.len()),
        (&before.images, before.sections.len())
    );
    let mut twice = separated(values);
    twice.extend(
        HashAlg::Sha256,
        4,
        HashAlg::Sha256.digest(&[b"os-separator"]).as_bytes(),
    );
    assert_eq!(
        refused(&LogReport::of(&log, Some(&twice)).findings),
        ["log_mismatch"]
    );
}

/// The kernel took the PCRs into its list before systemd extended them.
#[test]
fn a_list_is_of_this_boot_although_systemd_extended_the_pcrs_since() {
    let log = EventLog::parse(&event_log(&format!("{BOOT}.bin"))).unwrap();
    let values = separated(pcrs(BOOT).values);
    let list = MeasurementList::parse(&ima_list_of(BOOT).unwrap()).unwrap();
    let boot = Progress::of_boot(0);
    let proven = ima::explain(list, 0, &boot, 0, &Quoted::Values(&values)).unwrap();
    assert_eq!(
        proven.clone().from_this_boot(&values).err(),
        Some(Reject::ImaBootAggregate)
    );
    assert!(proven.from_this_boot(&before_words(&log, &values)).is_ok());
}
