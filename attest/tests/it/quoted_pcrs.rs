//! PCRs that a TPM in software quoted: which ones, their values, and the log that explains them.

use attest::{Digest, HashAlg, PcrSelection, Reject};

use crate::{
    evidence::{Evidence, QUOTED, selection, values},
    fixtures::{event_log, pcrs},
    tpm::{SHA1, SHA256, Statement, quoted},
};

fn check(evidence: &Evidence, expected: Result<(), Reject>) {
    assert_eq!(evidence.verify().map(drop), expected);
}

fn check_changed(change: impl FnOnce(&mut Statement), expected: Reject) {
    check(&Evidence::changed(change), Err(expected));
}

#[test]
fn covers_what_was_asked_for() {
    let refused = Err(Reject::PcrSelection);
    let wanted = [
        PcrSelection::standard(),
        selection(HashAlg::Sha256, QUOTED >> 1),
        selection(HashAlg::Sha256, QUOTED << 1),
        selection(HashAlg::Sha384, QUOTED),
    ];
    for wanted in wanted {
        check(
            &Evidence {
                wanted,
                ..Evidence::good()
            },
            refused,
        );
    }
    for banks in [&[][..], &[(SHA256, 0)], &[(SHA256, QUOTED), (SHA1, 1)]] {
        check_changed(
            |statement| statement.attested = quoted(banks, &[0; 32]),
            Reject::PcrSelection,
        );
    }
    let mut nothing = Evidence::changed(|statement| statement.attested = quoted(&[], &[0; 32]));
    nothing.wanted = PcrSelection::default();
    check(&nothing, refused);
}

#[test]
fn covers_more_than_sha1() {
    let mut evidence =
        Evidence::changed(|statement| statement.attested = quoted(&[(SHA1, QUOTED)], &[0; 32]));
    evidence.wanted = selection(HashAlg::Sha1, QUOTED);
    check(&evidence, Err(Reject::PcrBank(HashAlg::Sha1)));
}

#[test]
fn signs_the_values_that_are_claimed() {
    let mut other = values();
    other.set(HashAlg::Sha256, 4, Digest::filled(1, HashAlg::Sha256));
    assert_eq!(
        Evidence::good().selected().unwrap().matches(&other),
        Err(Reject::PcrDigest)
    );
    let mut evidence = Evidence::over(&other);
    evidence.claimed = Some(values());
    check(&evidence, Err(Reject::PcrDigest));
}

#[test]
fn firmware_extended_its_pcrs() {
    let (zeros, ones) = (
        Digest::filled(0, HashAlg::Sha256),
        Digest::filled(0xff, HashAlg::Sha256),
    );
    let locality: Digest = std::iter::repeat_n(0, 31).chain([3]).collect();
    let cases = (0..=7).flat_map(|pcr| [(pcr, zeros), (pcr, ones)]);
    for (pcr, value) in cases.chain([(0, locality)]) {
        let mut other = values();
        other.set(HashAlg::Sha256, pcr, value);
        let quote = Evidence::over(&other).selected().unwrap();
        assert_eq!(
            quote.matches(&other),
            Err(Reject::PcrUninitialized(pcr)),
            "{value}"
        );
    }
    let mut other = values();
    other.set(HashAlg::Sha256, 8, zeros);
    assert!(Evidence::over(&other).selected().unwrap().matches(&other).is_ok());
}

#[test]
fn nothing_was_launched_dynamically() {
    let wanted = selection(HashAlg::Sha256, QUOTED | 1 << 17);
    let check = |value: u8, expected| {
        let mut other = values();
        other.set(HashAlg::Sha256, 17, Digest::filled(value, HashAlg::Sha256));
        let digest = other.digest(&wanted, HashAlg::Sha256);
        let mut evidence = Evidence::changed(|statement| {
            statement.attested = quoted(&[(SHA256, QUOTED | 1 << 17)], digest.as_bytes());
        });
        evidence.wanted = wanted.clone();
        assert_eq!(evidence.selected().unwrap().matches(&other).map(drop), expected);
    };
    check(0xff, Ok(()));
    check(0, Err(Reject::PcrDynamicLaunch(17)));
    check(7, Err(Reject::PcrDynamicLaunch(17)));
}

#[test]
fn the_log_explains_each_pcr() {
    for pcr in 0..=8 {
        let mut other = values();
        other.set(HashAlg::Sha256, pcr, Digest::filled(1, HashAlg::Sha256));
        let mut evidence = Evidence::over(&other);
        check(&evidence, Err(Reject::LogUnexplained));
        evidence.claimed = Some(other);
        check(&evidence, Err(Reject::LogMismatch(HashAlg::Sha256, pcr)));
    }
    // A machine with the same log, whose firmware extended PCR 0 otherwise.
    let failed = pcrs("guard-failed-1").values;
    let mut evidence = Evidence::over(&failed);
    evidence.claimed = Some(failed);
    check(&evidence, Err(Reject::LogMismatch(HashAlg::Sha256, 0)));
}

#[test]
fn the_log_has_the_bank() {
    for log in ["gotpmtools-debian-10.bin", "goattest-option_rom_eventlog"] {
        let log = event_log(log);
        check(
            &Evidence {
                log,
                ..Evidence::good()
            },
            Err(Reject::LogBank(HashAlg::Sha256)),
        );
    }
}
