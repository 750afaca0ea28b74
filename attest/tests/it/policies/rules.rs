//! Rules that the captured boots alone do not try: firmware, banks, files that the kernel measured.

use attest::{
    Digest, HashAlg, PcrSet, PcrValues, Reject,
    event_log::EventLog,
    ima::{self, MeasurementList, Progress, ProvenList, explain},
    policy::{
        Differences, Evidence, Generation, Generations, Stage, appraise, judge, judge_entries, selectors,
    },
};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};

use super::{CMDLINE, boot, codes, learned, policy, recorded, replayed, words};
use crate::{evidence::Evidence as Quoted, fixtures::event_log};

const PCR0: &str = "ce729d0e02d46cecb9baa54228e55d1be49de54981fe6485a59bf9b222bcc061";
const OTHER: &str = "0000000000000000000000000000000000000000000000000000000000000000";

#[test]
fn holds_firmware_to_its_releases() {
    let check = |rule: &str, expected: &[&str]| {
        let policy = policy(rule);
        let evidence = boot("vm-sb-56c").with_tpm_firmware(0x0007_0002_0000_0000);
        assert_eq!(codes(&policy, &evidence), expected, "{rule}");
    };
    check(&format!("[[firmware]]\nname = 'a'\npcr0 = ['{PCR0}']"), &[]);
    check(
        &format!("[[firmware]]\nname = 'a'\npcr0 = ['{OTHER}']\n[[firmware]]\nname = 'b'\npcr0 = ['{PCR0}']"),
        &[],
    );
    check(
        &format!("[[firmware]]\nname = 'a'\npcr0 = ['{OTHER}']"),
        &["policy_firmware"],
    );
    check("firmware = []", &["policy_firmware"]);
    check(
        "[tpm]\nat_least = '0007000200000000'\nat_most = '0007000200000000'",
        &[],
    );
    check("[tpm]\nat_least = '0007000200000001'", &["policy_tpm_firmware"]);
    check("[tpm]\nat_most = '0007000100000000'", &["policy_tpm_firmware"]);
    // A version that nobody knows is none that is good enough.
    assert_eq!(
        codes(&policy("[tpm]\nat_least = '0'"), &boot("vm-sb-56c")),
        ["policy_tpm_firmware"]
    );
}

#[test]
fn a_hand_over_that_nothing_shows_is_none() {
    let evidence = recorded("keylime-binary_bios_measurements").unwrap();
    assert_eq!(codes(&policy("[boot]"), &evidence), ["policy_handover"]);
}

/// The log of a machine with Debian, whose shim measured `shim,2`, `grub,3` and `grub.debian,4`.
#[test]
fn shim_goes_by_no_fewer_revocations() {
    let evidence = recorded("keylime-binary_bios_measurements-secureboot").unwrap();
    let check = |rule: &str, expected: &[&str]| {
        assert_eq!(codes(&policy(rule), &evidence), expected, "{rule}");
    };
    check("[sbat]", &[]);
    check("[sbat]\nsbat = 1\nshim = 2\ngrub = 3\n\"grub.debian\" = 4", &[]);
    check("[sbat]\nshim = 1", &[]);
    check("[sbat]\nshim = 3", &["policy_sbat"]);
    check("[sbat]\nfwupd = 1", &["policy_sbat"]);
    assert_eq!(
        words(&policy("[sbat]\ngrub = 4\nshim = 2"), &evidence),
        [
            "SBAT level: expected at least grub 4, shim 2, found 2023012900: shim 2, grub 3, grub.debian 4 \
             (event 32, EV_EFI_VARIABLE_AUTHORITY in PCR 7)"
        ]
    );
    // The oldest level revokes nothing, and machines without shim have none.
    let old = recorded("tpm2tools-event-moklisttrusted.bin").unwrap();
    assert_eq!(codes(&policy("[sbat]\nsbat = 1"), &old), [] as [&str; 0]);
    assert_eq!(codes(&policy("[sbat]\nshim = 1"), &old), ["policy_sbat"]);
    assert_eq!(codes(&policy("[sbat]"), &boot("vm-sb-56c")), ["policy_sbat"]);
}

/// A log with an event of PCR 7 behind all others, as whoever runs later can put one there.
fn with_later(log: &str, measured: &[u8], data: &[u8]) -> Evidence<'static> {
    let mut bytes = event_log(log);
    bytes.extend([7_u32.to_le_bytes(), 0x0d_u32.to_le_bytes(), 1_u32.to_le_bytes()].concat());
    bytes.extend([&[0x0b, 0], HashAlg::Sha256.digest(&[measured]).as_bytes()].concat());
    bytes.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
    bytes.extend(data);
    let log = EventLog::parse(&bytes).unwrap();
    Evidence::recorded(&replayed(&log), &log).unwrap()
}

/// shim's variable, as an event has it.
fn sbat_level(table: &str) -> Vec<u8> {
    let name: Vec<u8> = "SbatLevel".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let shim = hex::decode("50ab5d6046e00043abb63dd810dd8b23").unwrap();
    let lengths = [9, table.len() as u64].map(u64::to_le_bytes).concat();
    [&shim[..], &lengths, &name, table.as_bytes()].concat()
}

#[test]
fn a_level_that_is_added_later_hides_no_lower_one() {
    const LOG: &str = "keylime-binary_bios_measurements-secureboot";
    let added = |level: &[u8], data: &[u8]| codes(&policy("[sbat]\nshim = 2"), &with_later(LOG, level, data));
    let higher = sbat_level("sbat,1,2024040900\nshim,4\ngrub,4\n");
    assert_eq!(added(&higher, &higher), [] as [&str; 0]);
    let lower = sbat_level("sbat,1,2021030218\n");
    assert_eq!(added(&lower, &lower), ["policy_sbat"]);
    let malformed = sbat_level("sbat,1,2024040900\nshim,4\nshim,1\n");
    assert_eq!(added(&malformed, &malformed), ["policy_sbat"]);
    // Of what the log does not show nobody knows that it was none.
    assert_eq!(added(&lower, b""), ["policy_sbat"]);
}

#[test]
fn an_authority_that_the_log_does_not_show_is_unknown() {
    const LOG: &str = "keylime-binary_bios_measurements-secureboot";
    let learned = learned(&recorded(LOG).unwrap()).policy;
    assert_eq!(
        codes(&learned, &with_later(LOG, b"own", b"")),
        ["policy_sbat", "policy_secure_boot_authority"]
    );
    let higher = sbat_level("sbat,1,2024040900\nshim,4\ngrub,4\ngrub.debian,5\n");
    assert_eq!(
        codes(&learned, &with_later(LOG, &higher, &higher)),
        [] as [&str; 0]
    );
    // Only shim's variable is a level.
    let mut other = higher;
    other[0] ^= 1;
    let found = codes(&learned, &with_later(LOG, &other, &other));
    assert_eq!(found, ["policy_secure_boot_authority"]);
}

/// Each bank that both have has to have a value of the list, and one has to be there.
#[test]
fn compares_pcrs_in_the_banks_that_both_have() {
    let evidence = recorded("gotpmtools-cos-101-amd-sev.bin").unwrap();
    let of = |alg| evidence.values().get(alg, 2).unwrap().to_string();
    let (sha256, sha384) = (of(HashAlg::Sha256), of(HashAlg::Sha384));
    let (other, sha512) = (OTHER.to_owned(), OTHER.repeat(2));
    let check = |values: &[&String], expected: &[&str]| {
        let values: Vec<_> = values.iter().map(|value| format!("'{value}'")).collect();
        let policy = policy(&format!("[[pcr]]\nindex = 2\nvalues = [{}]", values.join(", ")));
        assert_eq!(codes(&policy, &evidence), expected, "{values:?}");
    };
    check(&[&sha256], &[]);
    check(&[&sha384], &[]);
    check(&[&sha256, &sha384, &other], &[]);
    check(&[&other, &sha384], &["policy_pcr"]);
    check(&[&other], &["policy_pcr"]);
    check(&[&sha512], &["policy_pcr"]);
    check(&[], &["policy_pcr"]);
}

/// A kernel image of two that are known, with the sections of the other, is none of the two.
#[test]
fn an_image_belongs_to_its_sections() {
    let mut policy = learned(&boot("vm-sb-56c")).policy;
    let other = learned(&boot("vm-sb-56c-cmd2")).policy;
    let boot_rule = policy.boot.as_mut().unwrap();
    boot_rule.uki.extend(other.boot.unwrap().uki);
    let evidence = boot("vm-sb-56c");
    assert_eq!(codes(&policy, &evidence), [""; 0]);
    let [one, two] = &mut policy.boot.as_mut().unwrap().uki[..] else {
        panic!()
    };
    std::mem::swap(&mut one.sections, &mut two.sections);
    assert_eq!(codes(&policy, &evidence), ["policy_uki_section"]);
}

/// Loaders may come before a kernel image, and nothing else may.
#[test]
fn loaders_come_first() {
    let mut policy = learned(&boot("vm-nosb-56c")).policy;
    let boot_rule = policy.boot.as_mut().unwrap();
    let uki = &mut boot_rule.uki[0];
    let (image, kernel) = (uki.image, uki.kernel.take().unwrap());
    assert_eq!(
        codes(&policy, &boot("vm-nosb-56c")),
        ["policy_boot_image"],
        "the kernel is not known"
    );
    let boot_rule = policy.boot.as_mut().unwrap();
    (boot_rule.loaders, boot_rule.uki[0].image) = (vec![image], kernel);
    assert_eq!(
        codes(&policy, &boot("vm-nosb-56c")),
        [""; 0],
        "the last one is taken for the image"
    );
    policy.boot.as_mut().unwrap().loaders.clear();
    assert_eq!(codes(&policy, &boot("vm-nosb-56c")), ["policy_boot_image"]);
}

/// An event behind the last one of a log of SHA-256 alone: what measures `content`.
fn extended(mut log: Vec<u8>, pcr: u8, content: &[u8]) -> Vec<u8> {
    let digest = HashAlg::Sha256.digest(&[content]);
    let head = [
        &[pcr, 0, 0, 0, 0x0d, 0, 0, 0, 1, 0, 0, 0, 0x0b, 0][..],
        digest.as_bytes(),
    ]
    .concat();
    log.extend([&head[..], &[0; 4]].concat());
    log
}

/// A log without the events of a PCR.
fn without(log: &[u8], pcr: u8) -> Vec<u8> {
    let len = |at: usize| u32::from_le_bytes(log[at..at + 4].try_into().unwrap()) as usize;
    let mut at = 32 + len(28);
    let mut kept = log[..at].to_vec();
    while at < log.len() {
        let end = at + 50 + len(at + 46);
        if log[at] != pcr {
            kept.extend(&log[at..end]);
        }
        at = end;
    }
    kept
}

/// Who owns the system can extend PCRs by a command line that never was, and write the log to it. What the kernel
/// measured stays, and is looked at all the same.
#[test]
fn no_later_event_speaks_for_a_command_line() {
    let booted = without(&event_log("vm-sdboot-type1.bin"), 12);
    let options: Vec<u8> = CMDLINE
        .encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect();
    let sections = [".linux\0", "kernel", ".cmdline\0", CMDLINE];
    let in_pcr_11 = sections
        .iter()
        .fold(booted.clone(), |log, part| extended(log, 11, part.as_bytes()));
    let logs = [
        booted.clone(),
        in_pcr_11.clone(),
        extended(booted.clone(), 12, &options),
        extended(booted, 9, &options),
        extended(extended(in_pcr_11, 12, &options), 9, &options),
    ];
    let rule = format!("[command_line]\nexact = ['{CMDLINE}']");
    let initrd = "[initrd]\ndigests = ['1173641e86fbc62569e32a14e7fe6f98b8cf2ac3b6c29272d99bddd2654f61e1']";
    for log in logs {
        let log = EventLog::parse(&log).unwrap();
        let evidence = Evidence::recorded(&replayed(&log), &log).unwrap();
        let differences = judge(&policy(&rule), &evidence);
        let kernel = differences
            .iter()
            .filter_map(|difference| difference.event)
            .any(|place| place.pcr == 9);
        assert!(kernel, "{differences}");
        assert!(codes(&policy(&format!("{rule}\n{initrd}")), &evidence).contains(&"policy_initrd"));
    }
}

/// Values that the log does not explain are no evidence, but for PCRs that nobody writes into it.
#[test]
fn a_log_explains_the_pcrs() {
    let log = EventLog::parse(&event_log("vm-sb-56c.bin")).unwrap();
    let good = replayed(&log);
    for pcr in 0..PcrSet::COUNT {
        let mut values = good.clone();
        values.set(HashAlg::Sha256, pcr, Digest::filled(1, HashAlg::Sha256));
        let refused = Evidence::recorded(&values, &log).err();
        // The log has no events of PCRs 10, 12, 13 and from 15 on.
        let is_free = matches!(pcr, 10 | 12 | 13 | 15..);
        let expected = (!is_free).then_some(Reject::LogMismatch(HashAlg::Sha256, pcr));
        assert_eq!(refused, expected, "PCR {pcr}");
    }
    let nothing = Evidence::recorded(&PcrValues::default(), &log).err();
    assert_eq!(nothing, Some(Reject::PcrBank(HashAlg::Sha1)));
    // What is only a value may be pinned, and no rule takes it for a PCR without events.
    let mut values = good;
    values.set(HashAlg::Sha256, 12, Digest::filled(1, HashAlg::Sha256));
    let evidence = Evidence::recorded(&values, &log).unwrap();
    let rule = format!("[command_line]\nexact = ['{CMDLINE}']");
    assert_eq!(codes(&policy(&rule), &evidence), ["policy_not_proven"]);
}

/// One initial file system has to be there, beside whatever other files may be.
#[test]
fn other_files_are_no_initial_file_system() {
    let initrd = "1173641e86fbc62569e32a14e7fe6f98b8cf2ac3b6c29272d99bddd2654f61e1";
    let check = |digests: &str, files: &str, expected: &[&str]| {
        let policy = policy(&format!("[initrd]\ndigests = ['{digests}']\nfiles = ['{files}']"));
        for host in ["vm-sdboot-type1", "vm-sb-56c"] {
            assert_eq!(
                codes(&policy, &boot(host).with_command_line(CMDLINE)),
                expected,
                "{host}"
            );
        }
    };
    check(initrd, OTHER, &[]);
    check(OTHER, initrd, &["policy_initrd"]);
    check(OTHER, OTHER, &["policy_initrd"]);
}

/// From the quote of a TPM to what a node is called.
#[test]
fn a_quote_and_its_log_are_appraised() {
    let evidence = Quoted::good();
    let pcrs = evidence.verify().unwrap();
    let log = EventLog::parse(&evidence.log).unwrap();
    let proven = Evidence::proven(&pcrs, &log).unwrap();
    let learned = learned(&proven).policy;
    let generations = Generations::new(vec![Generation::new(learned, Stage::Enforced)]).unwrap();
    let appraisal = appraise(&generations, &proven);
    assert!(appraisal.met().is_some());
    let found = selectors(&[appraisal], &proven);
    assert!(found.contains(&"policy:golden".to_owned()) && found.contains(&"secure_boot:on".to_owned()));
    assert_eq!(
        found
            .iter()
            .filter(|selector| selector.starts_with("pcr:sha256:"))
            .count(),
        9
    );
    let other = EventLog::parse(&event_log("guard-issue926-x1carbon-before.eventlog.bin")).unwrap();
    assert!(matches!(
        Evidence::proven(&pcrs, &other),
        Err(Reject::LogMismatch(HashAlg::Sha256, _))
    ));
}

/// Even if hardly anything is proven, what was learned lets not everybody pass.
#[test]
fn something_is_always_learned() {
    let mut values = PcrValues::default();
    values.set(HashAlg::Sha256, 15, Digest::filled(7, HashAlg::Sha256));
    let log = EventLog::parse(&event_log("vm-sb-56c.bin")).unwrap();
    let evidence = Evidence::recorded(&values, &log).unwrap();
    let policy = learned(&evidence).policy;
    assert_eq!(codes(&policy, &evidence), [""; 0]);
    assert_eq!(codes(&policy, &boot("vm-sb-56c")), ["policy_not_proven"]);
    values.set(HashAlg::Sha256, 15, Digest::filled(8, HashAlg::Sha256));
    assert_eq!(
        codes(&policy, &Evidence::recorded(&values, &log).unwrap()),
        ["policy_pcr"]
    );
}

#[test]
fn nothing_passes_where_nothing_is_listed() {
    for rule in [
        "[boot]",
        "[command_line]",
        "[initrd]",
        "firmware = []",
        "[secure_boot]\nenforced = false\nauthorities = []",
    ] {
        for host in ["vm-sb-56c", "vm-sb-systemd"] {
            assert_ne!(codes(&policy(rule), &boot(host)), [""; 0], "{rule} {host}");
        }
    }
}

/// A list of files: path, content, and a signature if there is one. An empty content is a violation.
fn list(files: &[(&str, &[u8], Vec<u8>)]) -> ProvenList {
    let le = |len: usize| u32::try_from(len).unwrap().to_le_bytes();
    let mut bytes = Vec::new();
    let mut values = PcrValues::default();
    for (path, content, signature) in files {
        let digest = HashAlg::Sha256.digest(&[content]);
        let digest = [b"sha256:\0", digest.as_bytes()].concat();
        let path = [path.as_bytes(), b"\0"].concat();
        let fields: Vec<_> = [&digest, &path, signature]
            .into_iter()
            .flat_map(|field| [&le(field.len())[..], field].concat())
            .collect();
        let is_violation = content.is_empty();
        let sha1 = HashAlg::Sha1.digest(&[&fields]);
        let template = if is_violation {
            vec![0; 20]
        } else {
            sha1.as_bytes().to_vec()
        };
        bytes.extend(
            [
                &le(10)[..],
                &template,
                &le(7),
                b"ima-sig",
                &le(fields.len()),
                &fields,
            ]
            .concat(),
        );
        let extension = HashAlg::Sha256.digest(&[&fields]);
        let extension = if is_violation {
            vec![0xff; 32]
        } else {
            extension.as_bytes().to_vec()
        };
        values.extend(HashAlg::Sha256, 10, &extension);
    }
    let list = MeasurementList::parse(&bytes).unwrap();
    explain(list, 0, &Progress::of_boot(0), 0, &ima::Quoted::Values(&values)).unwrap()
}

/// signature_v2_hdr, and the signature.
fn signed(key: &EcdsaKeyPair, content: &[u8]) -> Vec<u8> {
    let signature = key.sign(&SystemRandom::new(), content).unwrap();
    let id = HashAlg::Sha1.digest(&[key.public_key().as_ref()]);
    let len = u16::try_from(signature.as_ref().len()).unwrap().to_be_bytes();
    [&[3, 2, 4], &id.as_bytes()[16..], &len, signature.as_ref()].concat()
}

fn spki(key: &EcdsaKeyPair) -> String {
    let algorithm = "3059301306072a8648ce3d020106082a8648ce3d030107034200";
    format!("{algorithm}{}", hex::encode(key.public_key()))
}

#[test]
fn holds_files_to_digests_and_keys() {
    let (key, stranger) = (generate(), generate());
    let list = list(&[
        ("boot_aggregate", b"pcrs", vec![]),
        ("/bin/known", b"known", vec![]),
        ("/bin/signed", b"signed", signed(&key, b"signed")),
        ("/bin/other", b"other", signed(&key, b"another")),
        ("/bin/strange", b"strange", signed(&stranger, b"strange")),
    ]);
    let of = |content: &[u8]| format!("'{}'", HashAlg::Sha256.digest(&[content]));
    let check = |rule: &str, expected: &[&str]| {
        let policy = policy(&format!("[ima]\n{rule}"));
        let evidence = boot("vm-sb-56c").with_ima(&list);
        let found: Vec<_> = judge(&policy, &evidence)
            .iter()
            .map(|difference| format!("{} {}", difference.kind.code(), difference.subject))
            .collect();
        assert_eq!(found, expected, "{rule}");
    };
    let unknown = |path: &str| format!("policy_ima_unknown file `{path}`");
    let [known, good, other, strange] =
        ["known", "signed", "other", "strange"].map(|name| unknown(&format!("/bin/{name}")));
    check("", &[]);
    check("allow = []", &[&known, &good, &other, &strange]);
    check(&format!("allow = [{}]", of(b"known")), &[&good, &other, &strange]);
    check(&format!("keys = ['{}']", spki(&key)), &[&known, &other, &strange]);
    check(
        &format!("keys = ['{}', '{}']", spki(&key), spki(&stranger)),
        &[&known, &other],
    );
    check(
        &format!("allow = [{}]\nkeys = ['{}']", of(b"known"), spki(&key)),
        &[&other, &strange],
    );
    check(
        &format!("deny = [{}]", of(b"signed")),
        &["policy_ima_denied file `/bin/signed`"],
    );
    check(
        &format!(
            "deny = [{}]\nallow = [{}]\nkeys = ['{}']",
            of(b"signed"),
            of(b"signed"),
            spki(&key)
        ),
        &[&known, "policy_ima_denied file `/bin/signed`", &other, &strange],
    );
    assert_eq!(
        codes(&policy("[ima]"), &boot("vm-sb-56c")),
        ["policy_ima_missing"]
    );
}

/// The name alone makes no boot: who runs a file by that name does not go by unseen.
#[test]
fn the_first_entry_of_a_boot_is_no_file_and_no_other() {
    let list = list(&[
        ("boot_aggregate", b"pcrs", vec![]),
        ("boot_aggregate", b"evil", vec![]),
    ]);
    let places = |before: u64| {
        let mut differences = Differences::default();
        let policy = policy("[ima]\nallow = []");
        judge_entries(&policy, list.entries(), before, &mut differences);
        let places = differences
            .iter()
            .filter_map(|found| found.event.map(|at| at.index));
        places.collect::<Vec<_>>()
    };
    assert_eq!(places(0), [1]);
    assert_eq!(places(7), [7, 8]);
}

/// A digest that can't be compared does not say that a file is none of those.
#[test]
fn a_file_without_a_digest_of_a_denied_hash_is_not_let_pass() {
    let list = list(&[
        ("boot_aggregate", b"pcrs", vec![]),
        ("/bin/known", b"known", vec![]),
        ("/bin/other", b"other", vec![]),
    ]);
    let denied = HashAlg::Sha512.digest(&[b"denied"]);
    let known = HashAlg::Sha256.digest(&[b"known"]);
    let check = |rule: &str, expected: &[&str]| {
        let policy = policy(&format!("[ima]\n{rule}"));
        let found = words(&policy, &boot("vm-sb-56c").with_ima(&list));
        let is_told = |(found, path): (&String, &&str)| found.contains(path);
        assert!(
            found.len() == expected.len() && found.iter().zip(expected).all(is_told),
            "{found:?}"
        );
    };
    check(&format!("deny = ['{denied}']"), &["/bin/known", "/bin/other"]);
    check(
        &format!("deny = ['{denied}']\nallow = ['{known}']"),
        &["/bin/other"],
    );
    check(
        &format!("deny = ['{denied}', '{}']", HashAlg::Sha256.digest(&[b"x"])),
        &[],
    );
}

/// Whoever met a generation is looked at by what its kernel measured since, and by that alone.
#[test]
fn what_a_list_got_since_is_held_to_each_generation() {
    let list = list(&[("/bin/known", b"known", vec![]), ("/bin/new", b"new", vec![])]);
    let of = |content: &[u8]| format!("'{}'", HashAlg::Sha256.digest(&[content]));
    let generation = |rules: &str, stage| Generation::new(policy(rules), stage);
    let both = format!("[ima]\nallow = [{}, {}]", of(b"known"), of(b"new"));
    let generations = Generations::new(vec![
        generation(
            "[secure_boot]\nenforced = false\n[ima]\nallow = []",
            Stage::Staged,
        ),
        generation(&format!("[ima]\nallow = [{}]", of(b"known")), Stage::Enforced),
        generation(&both, Stage::Enforced),
        generation("[secure_boot]\nenforced = false", Stage::Staged),
    ])
    .unwrap();
    let judge = |generation: &Generation| {
        let mut differences = Differences::default();
        judge_entries(&generation.policy, list.entries(), 7, &mut differences);
        let shown = differences
            .iter()
            .map(|found| (found.subject.clone(), found.event.map(|at| at.index)));
        shown.collect::<Vec<_>>()
    };
    let judged: Vec<_> = generations.iter().map(judge).collect();
    let known = ("file `/bin/known`".to_owned(), Some(7));
    let new = ("file `/bin/new`".to_owned(), Some(8));
    let expected: [Vec<(String, Option<u32>)>; 4] = [vec![new.clone()], vec![], vec![known, new], vec![]];
    assert_eq!(judged, expected);
}

fn generate() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap()
}

#[test]
fn refuses_violations_unless_told_otherwise() {
    let list = list(&[("boot_aggregate", b"pcrs", vec![]), ("/var/log", b"", vec![])]);
    let evidence = boot("vm-sb-56c").with_ima(&list);
    assert_eq!(codes(&policy("[ima]"), &evidence), ["policy_ima_violation"]);
    let found = selectors(&[], &evidence);
    assert!(found.contains(&"ima:proven".to_owned()) && !found.contains(&"ima:clean".to_owned()));
    assert_eq!(codes(&policy("[ima]\nviolations = 'accept'"), &evidence), [""; 0]);
}

#[test]
fn names_some_and_counts_the_rest() {
    let files: Vec<_> = (0..100)
        .map(|number| (format!("/bin/{number}\u{1b}[2J"), vec![number, 1]))
        .collect();
    let entries: Vec<_> = files
        .iter()
        .map(|(path, content)| (path.as_str(), &content[..], vec![]))
        .collect();
    let list = list(&entries);
    let evidence = boot("vm-sb-56c").with_ima(&list);
    let differences = judge(&policy("[ima]\nallow = []"), &evidence);
    assert_eq!(differences.iter().count(), Differences::MAX);
    assert_eq!(differences.more() as usize, 100 - Differences::MAX);
    let words = words(&policy("[ima]\nallow = []"), &evidence);
    let digest = HashAlg::Sha256.digest(&[&[0, 1]]);
    assert_eq!(
        words[0],
        format!(
            "file `/bin/0\\u{{1b}}[2J`: expected a known file, or one that a known key signed, found sha256 {digest} \
             (entry 0 of the measurement list in PCR 10)"
        )
    );
}

#[test]
fn learns_the_files_that_the_kernel_measured() {
    let list = list(&[
        ("boot_aggregate", b"pcrs", vec![]),
        ("/bin/known", b"known", vec![]),
        ("/var/log", b"", vec![]),
    ]);
    let evidence = boot("vm-sb-56c").with_ima(&list);
    let learned = learned(&evidence);
    assert!(judge(&learned.policy, &evidence).is_empty());
    assert!(learned.text.contains("# /bin/known"), "{}", learned.text);
    let ima = learned.policy.ima.unwrap();
    assert_eq!(ima.allow.unwrap().len(), 1);
}

/// Systemd 261 extends a separator that no log tells of. Rules about images hold all the same; those by value are about what
/// was quoted.
#[test]
fn the_separator_of_systemd_changes_no_rule_but_those_by_value() {
    let name = "vm-sb-56c";
    let log = EventLog::parse(&event_log(&format!("{name}.bin"))).unwrap();
    let golden = learned(&boot(name)).policy;
    let mut values = boot(name).values().clone();
    let word = HashAlg::Sha256.digest(&[b"os-separator"]);
    for pcr in (0..=7).chain([9, 12, 13, 14]) {
        values.extend(HashAlg::Sha256, pcr, word.as_bytes());
    }
    let evidence = Evidence::recorded(&values, &log).unwrap();
    assert_eq!(codes(&golden, &evidence), ["policy_firmware", "policy_pcr"]);
    let newer = learned(&evidence).policy;
    assert_eq!(newer.boot, golden.boot);
    assert_eq!(codes(&newer, &evidence), [] as [&str; 0]);
}
