//! The kernel's measurement list, under a quote of PCR 10.
//!
//! A violation extends ones, whatever the entry says: which file it was, its digest and signature are the host's word
//! alone, and no policy decides by them. All else counts.

use std::ops::Range;

use attest::{
    HashAlg, PcrSelection, PcrValues, Reject,
    ima::{Hashing, MeasurementList, Progress, ProvenList, Quoted, explain},
};
use swtpm_tests::{Change, KernelEntry, Tampered};

use super::check;
use crate::fixtures::ima_list;

/// What an entry proves.
type Shown = (u8, bool, Option<String>, Option<Vec<u8>>, Option<Vec<u8>>);
/// What a list proves: how far it goes, and its entries.
type Facts = (Progress, bool, Vec<Shown>);

fn shown(proven: &ProvenList) -> Vec<Shown> {
    let entries = proven.entries().map(|entry| {
        let proves = |value: Option<&[u8]>| value.filter(|_| !entry.is_violation()).map(<[u8]>::to_vec);
        let file = entry.file_digest().filter(|_| !entry.is_violation());
        (
            entry.pcr,
            entry.is_violation(),
            file.map(|file| format!("{}:{:02x?}", file.alg, file.digest)),
            proves(entry.path()),
            proves(entry.signature()),
        )
    });
    entries.collect()
}

fn appraise(values: &PcrValues, list: &[u8]) -> Result<Facts, Reject> {
    let alg = HashAlg::Sha256;
    let selection = PcrSelection::new(vec![(alg, [10].into_iter().collect())]).unwrap();
    let pcr_digest = values.digest(&selection, alg);
    let quoted = Quoted::Digest {
        selection: &selection,
        pcr_digest: pcr_digest.as_bytes(),
        hash: alg,
        others: &PcrValues::default(),
    };
    let list = MeasurementList::parse_binary(list)?;
    let proven = explain(list, 0, &Progress::of_boot(7), 7, &quoted)?;
    let progress = proven.progress().clone();
    Ok((progress, proven.trailing() > 0, shown(&proven)))
}

fn check_list(list: &[u8], reason: impl Fn(&Tampered) -> Option<&'static str>, reasons: &[&str]) {
    let values = MeasurementList::parse(list)
        .unwrap()
        .replay(HashAlg::Sha256, Hashing::Whole);
    let needed = check(list, |list| appraise(&values, list), reason);
    assert_eq!(needed, reasons.iter().copied().collect());
}

/// Files with signatures, the boot's aggregate first.
#[test]
fn every_byte_of_a_kernels_list_counts() {
    let captured = ima_list("vm-sb-56c.bin");
    let list = MeasurementList::parse(&captured).unwrap();
    check_list(&captured[..list.len_of(5)], |_| None, &[]);
}

#[test]
fn every_byte_counts_but_those_that_tell_of_a_violation() {
    let file = KernelEntry::of_file("/usr/bin/true", &[7; 32]).bytes();
    let violation = KernelEntry::violation("/var/log/journal").bytes();
    let list = [&file[..], &violation, &file].concat();
    // PCR, digest, template with its length, length of the fields.
    let fields = file.len() + 4 + 20 + 4 + 6 + 4..file.len() + violation.len();
    check_list(&list, violations_word(fields), &["fields of a violation"]);
}

fn violations_word(fields: Range<usize>) -> impl Fn(&Tampered) -> Option<&'static str> {
    move |changed| {
        let is_replaced = matches!(changed.how, Change::Replaced(_));
        (is_replaced && fields.contains(&changed.at)).then_some("fields of a violation")
    }
}
