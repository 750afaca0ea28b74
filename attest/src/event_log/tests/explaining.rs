//! Whether a log explains a quote.

use super::*;

fn log() -> EventLog {
    Builder::agile(&[HashAlg::Sha1, HashAlg::Sha256])
        .honest(0, IPL, b"zero")
        .honest(4, IPL, b"four")
        .honest(7, IPL, b"seven")
        .parse()
        .unwrap()
}

fn selection(pcrs: &[u8]) -> PcrSelection {
    PcrSelection::new(vec![(HashAlg::Sha256, pcrs.iter().copied().collect())]).unwrap()
}

fn check(pcrs: &[u8], quoted: &PcrValues, claimed: Option<&PcrValues>, expected: Result<usize, Reject>) {
    let selection = selection(pcrs);
    let signed = quoted.digest(&selection, HashAlg::Sha256);
    let actual = explain(&selection, signed.as_bytes(), HashAlg::Sha256, claimed, &log());
    assert_eq!(actual.map(|values| values.iter().count()), expected);
}

#[test]
fn shows_what_was_quoted_and_nothing_else() {
    let values = log().replay(HashAlg::Sha256).unwrap();
    check(&[0, 4, 7], &values, None, Ok(3));
    check(&[0, 4], &values, Some(&PcrValues::default()), Ok(2));
    // What no event extends is explained by the reset.
    check(&[4, 9, 17], &values, None, Ok(3));
}

#[test]
fn names_the_pcr_that_it_does_not_explain() {
    let mut values = log().replay(HashAlg::Sha256).unwrap();
    values.extend(HashAlg::Sha256, 4, &[1; 32]);
    values.extend(HashAlg::Sha256, 7, &[1; 32]);
    let mismatch = |pcr| Err(Reject::LogMismatch(HashAlg::Sha256, pcr));
    check(&[0, 4, 7], &values, Some(&values), mismatch(4));
    check(&[0, 7], &values, Some(&values), mismatch(7));
    check(&[0], &values, Some(&values), Ok(1));
    check(&[0, 4], &values, None, Err(Reject::LogUnexplained));
}

#[test]
fn refuses_claims_that_were_not_signed() {
    let good = log().replay(HashAlg::Sha256).unwrap();
    let mut other = good.clone();
    other.extend(HashAlg::Sha256, 4, &[1; 32]);
    check(&[0, 4], &other, Some(&good), Err(Reject::PcrDigest));
}

#[test]
fn refuses_selections_that_prove_nothing() {
    let nothing = HashAlg::Sha256.digest(&[]);
    let selection = PcrSelection::default();
    let actual = explain(&selection, nothing.as_bytes(), HashAlg::Sha256, None, &log());
    assert_eq!(actual, Err(Reject::PcrSelection));
}

#[test]
fn refuses_banks_that_the_log_has_not() {
    let sha384 = PcrSelection::new(vec![(HashAlg::Sha384, [0].into_iter().collect())]).unwrap();
    let actual = explain(&sha384, &[], HashAlg::Sha256, None, &log());
    assert_eq!(actual, Err(Reject::LogBank(HashAlg::Sha384)));
}

#[test]
fn asks_for_digests_of_quoted_pcrs_alone() {
    let log = Builder::agile(SHA256)
        .honest(4, IPL, b"four")
        .raw(12, IPL, &[], b"");
    let log = log.parse().unwrap();
    let quoted = log.replay_of(HashAlg::Sha256, [4].into_iter().collect()).unwrap();
    let explained = |pcrs: &[u8]| {
        let selection = selection(pcrs);
        let signed = quoted.digest(&selection, HashAlg::Sha256);
        explain(&selection, signed.as_bytes(), HashAlg::Sha256, None, &log)
            .map(|values| values.iter().count())
    };
    assert_eq!(explained(&[0, 4]), Ok(2));
    assert_eq!(explained(&[4, 12]), Err(Reject::LogBanks(2)));
}

#[test]
fn what_no_log_tells_of_is_taken_from_the_prover_where_that_will_do() {
    let mut values = log().replay(HashAlg::Sha256).unwrap();
    values.extend(HashAlg::Sha256, 15, &[1; 32]);
    let check = |unlogged: &[u8], quoted: &PcrValues, claimed: Option<&PcrValues>, expected| {
        let (selection, unlogged) = (selection(&[0, 4, 15]), unlogged.iter().copied().collect());
        let signed = quoted.digest(&selection, HashAlg::Sha256);
        let actual = explain_beside(
            &selection,
            signed.as_bytes(),
            HashAlg::Sha256,
            claimed,
            &log(),
            unlogged,
        );
        assert_eq!(
            actual.map(|values| values.get(HashAlg::Sha256, 15).copied()),
            expected
        );
    };
    let told = *values.get(HashAlg::Sha256, 15).unwrap();
    let mismatch = |pcr| Err(Reject::LogMismatch(HashAlg::Sha256, pcr));
    check(&[15], &values, Some(&values), Ok(Some(told)));
    check(&[], &values, Some(&values), mismatch(15));
    check(&[15], &values, None, Err(Reject::LogUnexplained));
    // The quote proves it, or nothing does.
    let mut other = values.clone();
    other.extend(HashAlg::Sha256, 15, &[1; 32]);
    check(&[15], &values, Some(&other), Err(Reject::PcrDigest));
    // Of a PCR that an event extends the log tells.
    let mut other = values.clone();
    other.extend(HashAlg::Sha256, 4, &[1; 32]);
    check(&[4, 15], &other, Some(&other), mismatch(4));
}

/// What systemd 261 leaves in PCRs: its separator is in no log of firmware's.
fn separated(mut values: PcrValues, pcrs: &[u8]) -> PcrValues {
    for pcr in pcrs {
        values.extend(HashAlg::Sha256, *pcr, &digest(HashAlg::Sha256, b"os-separator"));
    }
    values
}

#[test]
fn knows_the_separators_that_systemd_does_not_log() {
    let pcrs = [0, 4, 7, 8, 9, 12, 14];
    let selection = selection(&pcrs);
    let replayed = log().replay(HashAlg::Sha256).unwrap().select(&selection);
    let explained = |values: &PcrValues, claimed: Option<&PcrValues>| {
        let signed = values.digest(&selection, HashAlg::Sha256);
        explain(&selection, signed.as_bytes(), HashAlg::Sha256, claimed, &log())
    };
    let word = |mut values: PcrValues, word: &[u8]| {
        values.extend(HashAlg::Sha256, 9, &digest(HashAlg::Sha256, word));
        values
    };
    let whole = separated(replayed.clone(), &[0, 4, 7, 9, 12, 14]);
    let nvpcr = word(whole.clone(), b"nvpcr-separator");
    let nvpcr_alone = word(replayed.clone(), b"nvpcr-separator");
    for good in [&whole, &nvpcr, &nvpcr_alone] {
        assert_eq!(explained(good, None).as_ref(), Ok(good));
        assert_eq!(explained(good, Some(good)).as_ref(), Ok(good));
        assert_eq!(before_words(&log(), good), replayed);
    }
    let words = |pcr| unlogged_words(&log(), &nvpcr, HashAlg::Sha256, pcr);
    assert_eq!(words(9), Some(&["os-separator", "nvpcr-separator"][..]));
    assert_eq!([words(0), words(8)], [Some(&["os-separator"][..]), Some(&[])]);
    // A quote may fall between two PCRs: the prover says between which.
    let amid = separated(replayed.clone(), &[0, 4]);
    assert_eq!(explained(&amid, Some(&amid)).as_ref(), Ok(&amid));
    assert_eq!(explained(&amid, None), Err(Reject::LogUnexplained));
    // Other words, other PCRs, and the same word twice are none of systemd's; and the PCR to blame is named.
    for (pcr, bad) in [
        (8, separated(whole.clone(), &[8])),
        (4, separated(whole.clone(), &[4])),
        (9, word(whole.clone(), b"evil")),
        (9, separated(nvpcr_alone.clone(), &[9])),
    ] {
        let mismatch = Reject::LogMismatch(HashAlg::Sha256, pcr);
        assert_eq!(explained(&bad, Some(&bad)), Err(mismatch));
        assert_eq!(unlogged_words(&log(), &bad, HashAlg::Sha256, pcr), None);
    }
}

#[test]
fn tries_separators_and_phases_together() {
    let log = Builder::agile(SHA256)
        .separators()
        .event(11, IPL, b".linux\0", b"?")
        .event(11, IPL, b"kernel", b"?")
        .parse()
        .unwrap();
    let selection = selection(&[0, 7, 9, 11]);
    let replayed = log.replay(HashAlg::Sha256).unwrap().select(&selection);
    let mut booted = separated(replayed.clone(), &[0, 7, 9]);
    for phase in &PHASES[..4] {
        booted.extend(HashAlg::Sha256, 11, &digest(HashAlg::Sha256, phase.as_bytes()));
    }
    for claimed in [None, Some(&booted), Some(&replayed)] {
        let ways = replays(&selection, claimed, &log, PcrSet::default());
        // Where the quote has no PCR but these, a list of the kernel's is looked for with each.
        assert_eq!(
            ways.as_ref().unwrap_or_else(|reject| panic!("{reject}"))[0],
            replayed
        );
        assert_eq!(ways.unwrap().contains(&booted), claimed != Some(&replayed));
        let signed = booted.digest(&selection, HashAlg::Sha256);
        let explained = explain(&selection, signed.as_bytes(), HashAlg::Sha256, claimed, &log);
        assert_eq!(explained.as_ref(), Ok(&booted));
    }
}

/// Linux before 5.3 took the log before firmware ended.
#[test]
fn knows_the_end_that_old_kernels_do_not_log() {
    let ending: [&[u8]; 2] = [
        b"Exit Boot Services Invocation",
        b"Exit Boot Services Returned with Success",
    ];
    let booted = Builder::agile(SHA256).separators().honest(4, IPL, b"loader");
    let selection = selection(&[4, 5, 9]);
    let explained = |log: &Builder, words: &[&[u8]]| {
        let log = log.parse().unwrap();
        let mut values = log.replay(HashAlg::Sha256).unwrap().select(&selection);
        for word in words {
            values.extend(HashAlg::Sha256, 5, &digest(HashAlg::Sha256, word));
        }
        let signed = values.digest(&selection, HashAlg::Sha256);
        for claimed in [None, Some(&values)] {
            explain(&selection, signed.as_bytes(), HashAlg::Sha256, claimed, &log)?;
        }
        assert_eq!(before_words(&log, &values), values, "the kernel began after it");
        let measurements = Measurements::verify(log, HashAlg::Sha256, [4, 5].into_iter().collect())?;
        let handover = Handover::of(&measurements.with_end(&values))?;
        Ok(handover.has_ended)
    };
    assert_eq!(explained(&booted, &[]), Ok(false));
    assert_eq!(explained(&booted, &ending), Ok(true));
    for bad in [&ending[..1], &ending[1..], &[ending[0], ending[1], b"more"]] {
        assert_eq!(explained(&booted, bad), Err(Reject::LogUnexplained));
    }
    // Where the log tells of the end, there is no other.
    let ended = ending.iter().fold(booted, |log, text| log.honest(5, IPL, text));
    assert_eq!(explained(&ended, &[]), Ok(true));
    assert_eq!(explained(&ended, &ending), Err(Reject::LogUnexplained));
}
