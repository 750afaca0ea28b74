//! Every seed, and cheap changes of it, through the very functions that the fuzzer runs.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

use std::{
    collections::BTreeSet,
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
};

use fuzz::{TARGETS, Target, parts::Parts, targets::evidence};

/// Files below this size are cut at each byte.
const CUT_BELOW: usize = 4 * 1024;
/// Files below this size have each byte changed.
const FLIP_BELOW: usize = 2 * 1024;

#[test]
fn seeds_and_their_changes_are_survived() {
    let open = Mutex::new(TARGETS.to_vec());
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(|| {
                while let Some(target) = take(&open) {
                    let failed = replay(&target);
                    failures.lock().unwrap().extend(failed);
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

fn take(open: &Mutex<Vec<Target>>) -> Option<Target> {
    open.lock().unwrap().pop()
}

/// What the target did not survive: at most one change of each file.
fn replay(target: &Target) -> Vec<String> {
    let failed = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap();
        let change = first_failure(target, &bytes)?;
        Some(format!("{}: {} {change}", target.name, path.display()))
    };
    files(target).iter().filter_map(failed).collect()
}

fn first_failure(target: &Target, bytes: &[u8]) -> Option<String> {
    let fails = |input: &[u8]| catch_unwind(|| (target.run)(input)).is_err();
    if fails(bytes) {
        return Some("as it is".into());
    }
    let mut cuts = (0..bytes.len()).filter(|_| bytes.len() < CUT_BELOW);
    if let Some(len) = cuts.find(|len| fails(&bytes[..*len])) {
        return Some(format!("cut to {len} bytes"));
    }
    let mut flips = (0..bytes.len()).filter(|_| bytes.len() < FLIP_BELOW);
    let flip = flips.find(|at| fails(&flipped(bytes, *at, at % 8)));
    flip.map(|at| format!("with bit {} of byte {at} flipped", at % 8))
}

fn flipped(bytes: &[u8], at: usize, bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1 << bit;
    bytes
}

fn files(target: &Target) -> Vec<PathBuf> {
    let folders = target.seed_folders();
    let files = folders
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten();
    let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Key, statement and signature: each bit counts. The log: it is refused, or proves the same, which the target
/// asserts.
#[test]
fn every_byte_of_good_evidence_counts() {
    let good = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/evidence/good")).unwrap();
    assert!(evidence::verify(&good).is_ok());
    let mut parts = Parts::new(&good);
    let _signed = (parts.part(), parts.part(), parts.part());
    let log_at = good.len() - parts.rest().len();
    for (at, bit) in (0..log_at).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let changed = evidence::verify(&flipped(&good, at, bit));
        assert!(changed.is_err(), "bit {bit} of byte {at}");
    }
    for (at, bit) in (log_at..good.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        evidence::run(&flipped(&good, at, bit));
    }
}

#[test]
fn targets_have_names_of_their_own_and_seeds() {
    let names: BTreeSet<_> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names.len(), TARGETS.len());
    for target in TARGETS {
        let files = files(target);
        assert!(!files.is_empty(), "{} has no seeds", target.name);
        for file in files {
            let len = fs::metadata(&file).unwrap().len();
            assert!(
                usize::try_from(len).unwrap() <= target.max_len,
                "{} is too long",
                file.display()
            );
        }
    }
}

#[test]
fn every_folder_of_seeds_has_a_target() {
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            fuzz::target(&name).is_some(),
            "corpus/{name} belongs to no target"
        );
    }
}

#[test]
fn seeds_do_not_fill_the_repository() {
    let all: u64 = TARGETS
        .iter()
        .flat_map(files_of_its_own)
        .map(|path| fs::metadata(path).unwrap().len())
        .sum();
    assert!(all < 1_500_000, "{all} bytes of seeds are committed");
}

fn files_of_its_own(target: &Target) -> Vec<PathBuf> {
    let files = files(target).into_iter();
    files
        .filter(|path| path.components().any(|part| part.as_os_str() == "corpus"))
        .collect()
}
