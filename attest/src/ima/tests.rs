//! Each rule by itself, with lists that are built for it.

use super::*;
use crate::{Digest, PcrSelection, PcrSet, PcrValues};

/// Builds a list as the kernel writes it, and the PCRs that it leaves.
#[derive(Clone)]
struct Builder {
    bytes: Vec<u8>,
    pcrs: PcrValues,
    hashing: Hashing,
}

const BANKS: [HashAlg; 2] = [HashAlg::Sha1, HashAlg::Sha256];

impl Builder {
    /// A list that begins with the digest over `boot`.
    fn of_boot() -> Self {
        let aggregate = boot().digest(&selection(0..=9), HashAlg::Sha256);
        Self::empty().ng(10, aggregate.as_bytes(), "boot_aggregate")
    }

    fn empty() -> Self {
        Self {
            bytes: Vec::new(),
            pcrs: boot(),
            hashing: Hashing::Whole,
        }
    }

    fn padded(self) -> Self {
        Self {
            hashing: Hashing::PaddedSha1,
            ..self
        }
    }

    /// A file measured by its SHA-256.
    fn ng(self, pcr: u8, digest: &[u8], path: &str) -> Self {
        let digest = [b"sha256:\0", digest].concat();
        let path = [path.as_bytes(), b"\0"].concat();
        self.entry(pcr, "ima-ng", &[&digest, &path])
    }

    fn entry(self, pcr: u8, template: &str, fields: &[&[u8]]) -> Self {
        let data: Vec<_> = fields.iter().flat_map(|field| sized(field)).collect();
        let digest = HashAlg::Sha1.digest(&[&data]);
        let sized = sized(&data);
        self.raw(pcr, template, digest.as_bytes(), &sized)
            .extend(pcr, |builder, alg| match builder.hashing {
                Hashing::Whole => alg.digest(&[&data]),
                Hashing::PaddedSha1 => padded(digest, alg),
            })
    }

    fn violation(self, pcr: u8) -> Self {
        let data = [
            sized(&[b"sha256:\0".as_slice(), &[0; 32]].concat()),
            sized(b"/open\0"),
        ]
        .concat();
        let sized = sized(&data);
        self.raw(pcr, "ima-ng", &[0; 20], &sized)
            .extend(pcr, |_, alg| Digest::filled(0xff, alg))
    }

    fn raw(mut self, pcr: u8, template: &str, digest: &[u8], data: &[u8]) -> Self {
        self.bytes.extend(u32::from(pcr).to_le_bytes());
        self.bytes.extend(digest);
        self.bytes.extend(sized(template.as_bytes()));
        self.bytes.extend(data);
        self
    }

    fn extend(mut self, pcr: u8, digest: impl Fn(&Self, HashAlg) -> Digest) -> Self {
        for alg in BANKS {
            let digest = digest(&self, alg);
            self.pcrs.extend(alg, pcr, digest.as_bytes());
        }
        self
    }

    fn parse(&self) -> Result<MeasurementList, Reject> {
        MeasurementList::parse(&self.bytes)
    }

    /// Proves it by the values of `quoted`.
    fn prove(&self, quoted: &PcrValues) -> Result<ProvenList, Reject> {
        explain(
            self.parse()?,
            0,
            &Progress::of_boot(7),
            7,
            &Quoted::Values(quoted),
        )
    }

    fn honest(&self) -> ProvenList {
        self.prove(&self.pcrs).unwrap()
    }
}

/// What firmware left in the PCRs, and nothing in those of IMA.
fn boot() -> PcrValues {
    let mut values = PcrValues::default();
    for alg in BANKS {
        (0..=9).for_each(|pcr| values.set(alg, pcr, Digest::filled(pcr, alg)));
        [10, 11]
            .iter()
            .for_each(|pcr| values.set(alg, *pcr, Digest::filled(0, alg)));
    }
    values
}

fn selection(pcrs: impl IntoIterator<Item = u8>) -> PcrSelection {
    let pcrs: PcrSet = pcrs.into_iter().collect();
    PcrSelection::new(vec![(HashAlg::Sha256, pcrs)]).unwrap()
}

fn padded(digest: Digest, alg: HashAlg) -> Digest {
    let bytes = digest.as_bytes().iter().copied().chain(std::iter::repeat(0));
    bytes.take(alg.digest_len()).collect()
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).unwrap();
    [&len.to_le_bytes(), bytes].concat()
}

fn refuses(outcome: Result<ProvenList, Reject>, expected: Reject) {
    assert_eq!(outcome.err(), Some(expected));
}

#[test]
fn shows_what_was_measured() {
    let list = Builder::empty()
        .entry(10, "ima-sig", &[b"sha256:\0\x01", b"/bin/a b\0", b"\x03sig"])
        .entry(10, "ima-buf", &[b"sha1:\0\x02", b"kexec-cmdline\0", b"quiet"])
        .entry(10, "ima-ngv2", &[b"verity:sha512:\0\x03", b"/v\0"])
        .entry(10, "d-ng|n-ng", &[b"ima:sha384:\0\x04", b"/custom\0"])
        .parse()
        .unwrap();
    let seen: Vec<_> = list
        .entries()
        .map(|entry| {
            let file = entry.file_digest().unwrap();
            let path = String::from_utf8_lossy(entry.path().unwrap());
            (file.alg, file.digest, path, entry.signature(), entry.buffer())
        })
        .collect();
    let seen: Vec<_> = seen
        .iter()
        .map(|(alg, digest, path, signature, buffer)| (*alg, *digest, &**path, *signature, *buffer))
        .collect();
    assert_eq!(
        seen,
        [
            ("sha256", &[1_u8][..], "/bin/a b", Some(&b"\x03sig"[..]), None),
            ("sha1", &[2], "kexec-cmdline", None, Some(&b"quiet"[..])),
            ("verity:sha512", &[3], "/v", None, None),
            ("sha384", &[4], "/custom", None, None),
        ]
    );
}

/// A template's name is not under the digest: whoever sends it could call any other field the digest of the file.
#[test]
fn a_files_digest_is_the_first_field() {
    let list = Builder::empty()
        .entry(
            10,
            "buf|n-ng|d-ng",
            &[b"sha256:\0\x01", b"/b\0", b"sha256:\0\x02"],
        )
        .entry(10, "n|d", &[b"/b", &[1; 20]]);
    let parsed = list.parse().unwrap();
    assert!(parsed.entries().all(|entry| entry.file_digest().is_none()));
}

#[test]
fn reads_both_forms_alike() {
    let (digest, hex) = ([0xab; 32], "ab".repeat(32));
    let binary = Builder::empty()
        .ng(10, &digest, "/with two spaces")
        .entry(
            10,
            "ima-sig",
            &[&[b"sha256:\0".as_slice(), &digest].concat(), b"/s\0", &[3, 2]],
        )
        .entry(
            10,
            "ima-sig",
            &[&[b"sha256:\0".as_slice(), &digest].concat(), b"/unsigned\0", &[]],
        );
    let parsed = binary.parse().unwrap();
    let hashes: Vec<_> = parsed
        .entries()
        .map(|entry| hex::encode(entry.template_digest))
        .collect();
    let [ng, signed, unsigned] = hashes.as_slice() else {
        panic!("three entries")
    };
    for space in [" ", ""] {
        let text = format!(
            "10 {ng} ima-ng sha256:{hex} /with two spaces\n10 {signed} ima-sig sha256:{hex} /s 0302\n10 {unsigned} ima-sig sha256:{hex} /unsigned{space}\n"
        );
        let ascii = MeasurementList::parse(text.as_bytes()).unwrap();
        assert_eq!(ascii.bytes, parsed.bytes);
    }
}

/// Owner, mode and extended attributes, which the portable signatures of EVM are over.
#[test]
fn reads_signatures_of_evm_in_either_form() {
    let digest = [b"sha256:\0".as_slice(), &[7; 32]].concat();
    let owner = [1000_u32.to_le_bytes(), 0_u32.to_le_bytes()];
    let mode = 0o100_755_u16.to_le_bytes();
    let attributes: [&[u8]; 3] = [
        b"security.selinux|security.ima\0",
        &[5, 0, 0, 0, 3, 0, 0, 0],
        &[9; 8],
    ];
    let [names, lengths, values] = attributes;
    let binary = Builder::empty()
        .entry(
            10,
            "evm-sig",
            &[
                &digest,
                b"/bin/a b\0",
                &[5, 2, 1],
                names,
                lengths,
                values,
                &owner[0],
                &owner[1],
                &mode,
            ],
        )
        .entry(
            10,
            "evm-sig",
            &[
                &digest,
                b"/plain\0",
                &[],
                &[],
                &[],
                &[],
                &owner[1],
                &owner[1],
                &mode,
            ],
        );
    let parsed = binary.parse().unwrap();
    let hashes: Vec<_> = parsed
        .entries()
        .map(|entry| hex::encode(entry.template_digest))
        .collect();
    let hex = "07".repeat(32);
    let line = |hash: &str, rest: &str| format!("10 {hash} evm-sig sha256:{hex} {rest}\n");
    let signed =
        "/bin/a b 050201 security.selinux|security.ima 0500000003000000 0909090909090909 1000 0 33261";
    let text = [line(&hashes[0], signed), line(&hashes[1], "/plain     0 0 33261")].concat();
    let ascii = MeasurementList::parse(text.as_bytes()).unwrap();
    assert_eq!(ascii.bytes, parsed.bytes);
    let bad = [
        ("1000", "1001", Reject::ImaTemplateDigest(0)),
        ("selinux", "smack", Reject::ImaTemplateDigest(0)),
        ("33261", "70000", Reject::ImaMalformed),
        ("1000", "-1", Reject::ImaMalformed),
    ];
    for (from, to, expected) in bad {
        let refused = MeasurementList::parse(text.replacen(from, to, 1).as_bytes());
        assert_eq!(refused.err(), Some(expected), "{to}");
    }
}

#[test]
fn reads_lists_of_other_machines_and_kernels() {
    // A machine that writes the larger byte first.
    let data = [
        &8_u32.to_be_bytes()[..],
        b"sha1:\0\x01\x02",
        &3_u32.to_be_bytes(),
        b"/b\0",
    ]
    .concat();
    let digest = HashAlg::Sha1.digest(&[&data]);
    let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_be_bytes();
    let list = [
        &10_u32.to_be_bytes()[..],
        digest.as_bytes(),
        &len(b"ima-ng"),
        b"ima-ng",
        &len(&data),
        &data,
    ]
    .concat();
    let parsed = MeasurementList::parse(&list).unwrap();
    assert_eq!(parsed.entries().next().unwrap().path(), Some(&b"/b"[..]));
    // A kernel that shows the digests of another bank.
    for alg in [HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512] {
        let data = [sized(b"sha256:\0\x01"), sized(b"/b\0")].concat();
        let digest = alg.digest(&[&data]);
        let list = Builder::empty().raw(10, "ima-ng", digest.as_bytes(), &sized(&data));
        assert_eq!(list.parse().unwrap().digest_alg(), alg);
    }
}

#[test]
fn refuses_what_is_no_list() {
    let good = Builder::of_boot().bytes;
    // The first byte alone is the line feed of an empty file.
    for cut in 2..good.len() {
        let refused = MeasurementList::parse(&good[..cut]).err();
        assert_eq!(refused, Some(Reject::ImaMalformed), "cut to {cut}");
    }
    let malformed = [
        Builder::empty().raw(24, "ima-ng", &[0; 20], &sized(b"")),
        Builder::empty().raw(10, "", &[0; 20], &sized(b"")),
        Builder::empty().raw(10, "ima\nng", &[0; 20], &sized(b"")),
        // A field is missing, too long, or too much.
        Builder::empty().entry(10, "ima-ng", &[b"sha1:\0\x01"]),
        Builder::empty().entry(10, "ima-ng", &[b"sha1:\0\x01", b"/b\0", b"more"]),
        Builder::empty().raw(10, "ima-ng", &[0; 20], &sized(&[9, 0, 0, 0])),
        // Fields that no kernel has.
        Builder::empty().entry(10, "x|n-ng", &[b"sha1:\0\x01", b"/b\0"]),
    ];
    for list in malformed {
        assert_eq!(list.parse().err(), Some(Reject::ImaMalformed), "{:?}", list.bytes);
    }
    for text in [
        "10 ",
        "10 00 ima-ng",
        "10 zz ima-ng sha1:00 /b",
        "99 00 x y z",
        "10 0011 ima-ng sha1:00 /b",
    ] {
        assert_eq!(
            MeasurementList::parse(text.as_bytes()).err(),
            Some(Reject::ImaMalformed),
            "{text}"
        );
    }
}

#[test]
fn refuses_lists_that_no_kernel_has() {
    let refuses = |list: &[u8]| assert_eq!(MeasurementList::parse(list).err(), Some(Reject::ImaLimit));
    refuses(&vec![0; MeasurementList::MAX_LEN + 1]);
    let long = vec![0; MeasurementList::MAX_DATA + 1];
    refuses(&Builder::empty().raw(10, "ima-ng", &[0; 20], &sized(&long)).bytes);
    let one = Builder::empty().raw(10, "sig|n", &[0; 20], &sized(&[0; 8])).bytes;
    refuses(&one.repeat(MeasurementList::MAX_ENTRIES as usize + 1));
}

#[test]
fn refuses_fields_that_were_swapped() {
    let mut list = Builder::of_boot().ng(10, &[1; 32], "/good");
    let at = list.bytes.len() - 2;
    list.bytes[at] = b'D';
    assert_eq!(list.parse().err(), Some(Reject::ImaTemplateDigest(1)));
    let text = format!("10 {} ima-ng sha1:00 /b\n", "11".repeat(20));
    assert_eq!(
        MeasurementList::parse(text.as_bytes()).err(),
        Some(Reject::ImaTemplateDigest(0))
    );
}

#[test]
fn proves_the_beginning_that_was_quoted() {
    let early = Builder::of_boot().ng(10, &[1; 32], "/one");
    let late = early.clone().ng(10, &[2; 32], "/two");
    let proven = late.prove(&early.pcrs).unwrap();
    assert_eq!((proven.entries().count(), proven.trailing()), (2, 1));
    assert_eq!(late.honest().trailing(), 0);
    // Hidden, invented, in another order, of another boot.
    let hidden = Builder::of_boot().ng(10, &[2; 32], "/two");
    let swapped = hidden.clone().ng(10, &[1; 32], "/one");
    for lie in [hidden, swapped, late.clone().violation(10)] {
        refuses(early.prove(&lie.pcrs), Reject::ImaUnexplained(0));
    }
    refuses(Builder::empty().prove(&late.pcrs), Reject::ImaUnexplained(0));
}

#[test]
fn proves_by_the_digest_of_a_quote() {
    let list = Builder::of_boot().ng(10, &[1; 32], "/one");
    let later = list.clone().ng(10, &[2; 32], "/two");
    let all = selection(0..=10);
    let digest = list.pcrs.digest(&all, HashAlg::Sha256);
    let prove = |others: &PcrValues| {
        let quoted = Quoted::Digest {
            selection: &all,
            pcr_digest: digest.as_bytes(),
            hash: HashAlg::Sha256,
            others,
        };
        explain(later.parse()?, 0, &Progress::of_boot(7), 7, &quoted)
    };
    assert_eq!(prove(&boot()).unwrap().entries().count(), 2);
    refuses(prove(&PcrValues::default()), Reject::ImaUnexplained(0));
}

#[test]
fn every_bank_has_to_agree() {
    let list = Builder::of_boot().ng(10, &[1; 32], "/one");
    let mut other = list.pcrs.clone();
    other.set(HashAlg::Sha1, 10, Digest::filled(1, HashAlg::Sha1));
    refuses(list.prove(&other), Reject::ImaUnexplained(0));
    let mut weak = PcrValues::default();
    weak.set(HashAlg::Sha1, 10, *list.pcrs.get(HashAlg::Sha1, 10).unwrap());
    refuses(list.prove(&weak), Reject::PcrBank(HashAlg::Sha1));
    refuses(list.prove(&PcrValues::default()), Reject::PcrBank(HashAlg::Sha1));
}

/// All other PCRs are firmware's or a policy's: an entry that names one would speak for what is in it.
#[test]
fn entries_speak_for_the_pcr_of_ima_alone() {
    let progress = Builder::of_boot().honest().progress().clone();
    for pcr in (0..24).filter(|pcr| *pcr != 10) {
        for elsewhere in [
            Builder::of_boot().ng(pcr, &[1; 32], "/f"),
            Builder::of_boot().violation(pcr),
        ] {
            refuses(elsewhere.prove(&elsewhere.pcrs), Reject::ImaPcr(pcr));
            // Among those that are newer than the quote, too.
            refuses(elsewhere.prove(&Builder::of_boot().pcrs), Reject::ImaPcr(pcr));
            let at = Builder::of_boot().bytes.len();
            let delta = MeasurementList::parse_binary(&elsewhere.bytes[at..]).unwrap();
            let past = progress.past(&delta, 1, &selection([10, pcr]));
            assert_eq!(past.err(), Some(Reject::ImaPcr(pcr)));
            let quoted = Quoted::Values(&elsewhere.pcrs);
            refuses(explain(delta, 1, &progress, 7, &quoted), Reject::ImaPcr(pcr));
        }
    }
    let list = Builder::of_boot();
    refuses(
        list.prove(&list.pcrs.select(&selection(0..=9))),
        Reject::ImaPcr(10),
    );
}

/// Neither does what was kept of a list.
#[test]
fn what_was_kept_speaks_for_the_pcr_of_ima_alone() {
    let list = Builder::of_boot();
    let kept = Progress::resumed(7, 1, &list.pcrs);
    assert_eq!(kept.pcrs(), list.honest().progress().pcrs());
    assert!(kept.pcrs().iter().all(|(_, pcr, _)| pcr == 10));
}

#[test]
fn few_entries_may_be_newer_than_the_quote() {
    let early = Builder::of_boot();
    let later = |count: u32| (0..count).fold(early.clone(), |list, _| list.ng(10, &[1; 32], "/f"));
    assert_eq!(later(4096).prove(&early.pcrs).unwrap().trailing(), 4096);
    refuses(later(4097).prove(&early.pcrs), Reject::ImaTrailing);
}

#[test]
fn goes_on_where_it_was_left() {
    let first = Builder::of_boot();
    let progress = first.honest().progress().clone();
    assert_eq!((progress.entries(), progress.reset_count()), (1, 7));
    let both = first.clone().ng(10, &[1; 32], "/new");
    let delta = || MeasurementList::parse(&both.bytes[first.bytes.len()..]).unwrap();
    let quoted = Quoted::Values(&both.pcrs);
    let proven = explain(delta(), 1, &progress, 7, &quoted).unwrap();
    assert_eq!(proven.progress().entries(), 2);
    refuses(proven.from_this_boot(&both.pcrs), Reject::ImaContinuity);
    // Nothing new; another boot; entries left out; the whole list anew.
    let nothing = || MeasurementList::parse(b"").unwrap();
    assert!(explain(nothing(), 1, &progress, 7, &Quoted::Values(&first.pcrs)).is_ok());
    refuses(explain(delta(), 1, &progress, 8, &quoted), Reject::ImaContinuity);
    refuses(explain(delta(), 2, &progress, 7, &quoted), Reject::ImaContinuity);
    refuses(explain(delta(), 0, &progress, 7, &quoted), Reject::ImaContinuity);
    // What was kept counts as much.
    let kept = Progress::resumed(7, 1, progress.pcrs());
    assert!(explain(delta(), 1, &kept, 7, &quoted).is_ok());
}

#[test]
fn violations_can_be_refused() {
    let list = Builder::of_boot().violation(10).ng(10, &[1; 32], "/one");
    let proven = list.honest();
    assert_eq!(proven.entries().filter(Entry::is_violation).count(), 1);
    refuses(proven.without_violations(), Reject::ImaViolation(1));
    assert!(Builder::of_boot().honest().without_violations().is_ok());
}

#[test]
fn old_kernels_can_be_refused() {
    let list = Builder::empty().padded().ng(10, &[1; 32], "/one");
    assert_eq!(list.honest().hashing(), Hashing::PaddedSha1);
    refuses(list.honest().hashed_whole(), Reject::ImaWeakHash);
    assert!(Builder::of_boot().honest().hashed_whole().is_ok());
    // A kernel does not change its ways.
    let progress = Builder::of_boot().honest().progress().clone();
    let mut pcrs = progress.pcrs().clone();
    let delta = Builder::empty().padded().ng(10, &[1; 32], "/one");
    let entry = delta.parse().unwrap();
    let digest = HashAlg::Sha1.digest(&[&delta.bytes[4 + 20 + 10 + 4..]]);
    for alg in BANKS {
        pcrs.extend(alg, 10, padded(digest, alg).as_bytes());
    }
    refuses(
        explain(entry, 1, &progress, 7, &Quoted::Values(&pcrs)),
        Reject::ImaUnexplained(1),
    );
}

/// A list without entries, and one of violations, leave the same PCRs on kernels of either way.
#[test]
fn what_shows_no_way_of_hashing_fixes_none() {
    let [none, violations] = [Builder::empty(), Builder::empty().violation(10)];
    for first in [none, violations] {
        let progress = first.honest().progress().clone();
        let goes_on = |later: &Builder, from: &Progress| {
            let mut delta = later.clone();
            delta.bytes = later.bytes[first.bytes.len()..].to_vec();
            let quoted = Quoted::Values(&later.pcrs);
            explain(delta.parse()?, from.entries(), from, 7, &quoted)
        };
        let padded = first.clone().padded().ng(10, &[1; 32], "/one");
        let proven = goes_on(&padded, &progress).unwrap();
        assert_eq!(proven.hashing(), Hashing::PaddedSha1);
        assert!(goes_on(&first.clone().ng(10, &[1; 32], "/one"), &progress).is_ok());
        // A violation keeps what was shown.
        let violated = padded.clone().violation(10);
        let after = violated.honest().progress().clone();
        let mut whole = violated.clone();
        whole.hashing = Hashing::Whole;
        let whole = whole.ng(10, &[2; 32], "/two");
        let mut delta = whole.clone();
        delta.bytes = whole.bytes[violated.bytes.len()..].to_vec();
        refuses(
            explain(
                delta.parse().unwrap(),
                after.entries(),
                &after,
                7,
                &Quoted::Values(&whole.pcrs),
            ),
            Reject::ImaUnexplained(after.entries()),
        );
    }
}

#[test]
fn a_boot_can_be_told_by_the_bank_that_the_kernel_took() {
    let told = |list: &Builder, pcrs: &PcrValues| list.honest().can_be_told_from(pcrs);
    let of = |alg, pcrs: std::ops::RangeInclusive<u8>| {
        boot().select(&PcrSelection::new(vec![(alg, pcrs.collect())]).unwrap())
    };
    let list = Builder::of_boot();
    assert!(told(&list, &of(HashAlg::Sha256, 0..=9)));
    assert!(!told(&list, &of(HashAlg::Sha256, 0..=8)));
    assert!(!told(&list, &of(HashAlg::Sha1, 0..=9)));
    let old = Builder::empty().padded().ng(10, &[1; 32], "boot_aggregate");
    assert!(told(&old, &of(HashAlg::Sha1, 0..=7)));
    assert!(!told(&old, &of(HashAlg::Sha1, 0..=6)));
    let none = Builder::empty().ng(10, &[1; 32], "/bin/sh");
    assert!(told(&none, &PcrValues::default()));
}

#[test]
fn begins_with_the_boot_that_was_quoted() {
    let from = |list: &Builder, pcrs: &PcrValues| list.honest().from_this_boot(pcrs);
    assert!(from(&Builder::of_boot(), &boot()).is_ok());
    let sha1 = |pcrs: std::ops::RangeInclusive<u8>, alg: HashAlg| {
        let selection = PcrSelection::new(vec![(HashAlg::Sha1, pcrs.collect())]).unwrap();
        boot().digest(&selection, alg)
    };
    let first = |alg: &str, digest: &[u8], name: &[u8]| {
        let digest = [alg.as_bytes(), b":\0", digest].concat();
        Builder::empty().entry(10, "ima-ng", &[&digest, name])
    };
    let old = sha1(0..=7, HashAlg::Sha1);
    assert!(from(&first("sha1", old.as_bytes(), b"boot_aggregate\0"), &boot()).is_ok());
    let middle = sha1(0..=7, HashAlg::Sha256);
    assert!(from(&first("sha256", middle.as_bytes(), b"boot_aggregate\0"), &boot()).is_ok());

    let mut other = boot();
    other.set(HashAlg::Sha256, 4, Digest::filled(9, HashAlg::Sha256));
    refuses(from(&Builder::of_boot(), &other), Reject::ImaBootAggregate);
    let not_quoted = boot().select(&selection(0..=8));
    refuses(from(&Builder::of_boot(), &not_quoted), Reject::ImaBootAggregate);
    let good = boot().digest(&selection(0..=9), HashAlg::Sha256);
    for list in [
        first("sha256", good.as_bytes(), b"/bin/sh\0"),
        first("sha256", &[0; 32], b"boot_aggregate\0"),
        first("md5", good.as_bytes(), b"boot_aggregate\0"),
        first("sha512", good.as_bytes(), b"boot_aggregate\0"),
    ] {
        refuses(from(&list, &boot()), Reject::ImaBootAggregate);
    }
}

#[test]
fn a_list_that_comes_in_parts_is_proven_by_the_last() {
    let first = Builder::of_boot().ng(10, &[1; 32], "/one");
    let all = first.clone().violation(10).ng(10, &[2; 32], "/two");
    let part = |range: std::ops::Range<usize>| MeasurementList::parse_binary(&all.bytes[range]).unwrap();
    let (cut, end) = (first.bytes.len(), all.bytes.len());
    let past = Progress::of_boot(7)
        .past(&part(0..cut), 0, &selection([10]))
        .unwrap();
    assert_eq!((past.entries(), past.reset_count()), (2, 7));
    let quoted = all.pcrs.select(&selection(0..=10));
    let prove = |from: &Progress| explain(part(cut..end), 2, from, 7, &Quoted::Values(&quoted));
    let proven = prove(&past).unwrap();
    assert_eq!((proven.progress().entries(), proven.proven_len()), (4, end - cut));
    // A part that is left out, or comes twice.
    let twice = past.past(&part(0..cut), 2, &selection([10])).unwrap();
    refuses(
        explain(part(cut..end), 4, &twice, 7, &Quoted::Values(&quoted)),
        Reject::ImaUnexplained(4),
    );
    refuses(prove(&Progress::of_boot(7)), Reject::ImaContinuity);
    let elsewhere = past.past(&part(0..cut), 0, &selection([10]));
    assert_eq!(elsewhere.err(), Some(Reject::ImaContinuity));
}

#[test]
fn a_list_is_cut_between_its_entries() {
    let list = Builder::of_boot().ng(10, &[1; 32], "/one").violation(10);
    let ends = |entries: u32| list.parse().unwrap().len_of(entries);
    assert_eq!(ends(3), list.bytes.len());
    assert_eq!(ends(9), list.bytes.len());
    for most in 0..list.bytes.len() + 2 {
        let whole = (0..=3).map(ends).filter(|end| *end <= most).max().unwrap();
        assert_eq!(MeasurementList::whole_entries(&list.bytes, most), whole, "{most}");
        // What is still being written is left for later.
        let read = &list.bytes[..most.min(list.bytes.len())];
        assert_eq!(MeasurementList::whole_entries(read, usize::MAX), whole, "{most}");
    }
    assert_eq!(MeasurementList::whole_entries(b"10 00 ima-ng", 100), 0);
}

#[test]
fn only_the_binary_form_travels() {
    assert!(MeasurementList::parse_binary(&Builder::of_boot().bytes).is_ok());
    let text = format!("10 {} ima-ng sha1:00 /b\n", "00".repeat(20));
    assert!(MeasurementList::parse(text.as_bytes()).is_ok());
    for other in [text.as_bytes(), &[&Builder::of_boot().bytes[..], b"\n"].concat()] {
        let refused = MeasurementList::parse_binary(other).err();
        assert_eq!(refused, Some(Reject::ImaMalformed));
    }
}

#[test]
fn paths_are_as_long_as_the_kernels() {
    let of = |len: usize| Builder::empty().ng(10, &[1; 32], &"p".repeat(len)).parse().err();
    assert_eq!(of(4096), None);
    assert_eq!(of(4097), Some(Reject::ImaLimit));
}

#[test]
fn a_boot_is_refused_only_where_its_pcrs_are_known() {
    let list = Builder::of_boot().parse().unwrap();
    assert_eq!(list.check_boot(&boot()), Ok(()));
    assert_eq!(list.check_boot(&boot().select(&selection(0..=8))), Ok(()));
    let mut other = boot();
    other.set(HashAlg::Sha256, 4, Digest::filled(9, HashAlg::Sha256));
    assert_eq!(list.check_boot(&other), Err(Reject::ImaBootAggregate));
    for none in [Builder::empty(), Builder::empty().ng(10, &[1; 32], "/bin/sh")] {
        let list = none.parse().unwrap();
        assert_eq!(list.check_boot(&boot()), Err(Reject::ImaBootAggregate));
    }
}
