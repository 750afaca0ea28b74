//! What events make of PCRs.

use super::*;

fn extended(initial: &[u8], measured: &[&[u8]]) -> Vec<u8> {
    measured.iter().fold(initial.to_vec(), |value, bytes| {
        digest(HashAlg::Sha256, &[value, digest(HashAlg::Sha256, bytes)].concat())
    })
}

fn check(log: &Builder, pcr: u8, expected: &[u8]) {
    let values = log.parse().unwrap().replay(HashAlg::Sha256).unwrap();
    assert_eq!(values.get(HashAlg::Sha256, pcr).unwrap().as_bytes(), expected);
}

fn starts_at(locality: u8) -> Vec<u8> {
    [&[0; 31][..], &[locality]].concat()
}

fn startup(log: Builder, locality: &[u8]) -> Builder {
    log.event(
        0,
        EventKind::NO_ACTION,
        b"",
        &[b"StartupLocality\0", locality].concat(),
    )
}

#[test]
fn extends_in_order_and_skips_informative_events() {
    let log = Builder::agile(SHA256)
        .event(8, IPL, b"one", b"remark")
        .honest(8, EventKind::NO_ACTION, b"nothing")
        .honest(17, IPL, b"launch")
        .honest(8, IPL, b"two");
    check(&log, 8, &extended(&[0; 32], &[b"one", b"two"]));
    check(&log, 17, &extended(&[0xff; 32], &[b"launch"]));
    check(&log, 0, &[0; 32]);
}

#[test]
fn starts_pcr_0_with_the_locality() {
    for locality in [0, 3, 4] {
        let log = startup(Builder::agile(SHA256), &[locality]);
        check(&log, 0, &starts_at(locality));
        check(
            &log.honest(0, IPL, b"one"),
            0,
            &extended(&starts_at(locality), &[b"one"]),
        );
    }
}

#[test]
fn the_locality_may_be_filled_up_with_zeros() {
    for zeros in [1, 3, 33] {
        let data = [&[3][..], &vec![0; zeros]].concat();
        check(&startup(Builder::agile(SHA256), &data), 0, &starts_at(3));
    }
}

#[test]
fn starts_pcr_0_with_4_after_an_hcrtm() {
    let hcrtm = |log: Builder| log.event(0, EventKind::EFI_HCRTM_EVENT, b"code", b"HCRTM");
    check(
        &hcrtm(Builder::agile(SHA256)),
        0,
        &extended(&starts_at(4), &[b"code"]),
    );
    check(
        &hcrtm(startup(Builder::agile(SHA256), &[3])),
        0,
        &extended(&starts_at(4), &[b"code"]),
    );
    // It is PCR 0 that it is measured into.
    check(
        &Builder::agile(SHA256).honest(1, EventKind::EFI_HCRTM_EVENT, b"HCRTM"),
        0,
        &[0; 32],
    );
}

#[test]
fn takes_the_locality_from_nowhere_else() {
    let data = b"StartupLocality\0\x03";
    let extended = extended(&[0; 32], &[data]);
    check(&Builder::agile(SHA256).honest(0, IPL, data), 0, &extended);
    check(
        &Builder::agile(SHA256).honest(1, EventKind::NO_ACTION, data),
        0,
        &[0; 32],
    );
}

#[test]
fn refuses_localities_that_there_are_not() {
    let refuses = |log: Builder| assert_eq!(log.parse().err(), Some(Reject::LogMalformed));
    refuses(startup(Builder::agile(SHA256), &[1]));
    refuses(startup(Builder::agile(SHA256), &[]));
    refuses(startup(Builder::agile(SHA256), &[3, 1]));
    refuses(startup(Builder::agile(SHA256), &[3, 0, 3]));
    refuses(startup(startup(Builder::agile(SHA256), &[3]), &[4]));
    refuses(startup(startup(Builder::agile(SHA256), &[0]), &[3]));
    check(
        &startup(startup(Builder::agile(SHA256), &[3]), &[3]),
        0,
        &starts_at(3),
    );
}

#[test]
fn names_the_types_of_today() {
    for (number, name) in [
        (0x13, "EV_POST_CODE2"),
        (0x8000_00e3, "EV_EFI_SPDM_DEVICE_POLICY"),
        (0x8000_00e4, "EV_EFI_SPDM_DEVICE_AUTHORITY"),
        (0x8000_00e5, "0x800000e5"),
    ] {
        assert_eq!(EventKind(number).to_string(), name);
    }
}

#[test]
fn refuses_a_bank_of_which_an_event_has_no_digest() {
    let log = Builder::agile(&ALL)
        .honest(4, IPL, b"one")
        .raw(12, IPL, &[(0x000b, vec![1; 32])], b"")
        .parse()
        .unwrap();
    assert!(log.replay(HashAlg::Sha256).is_ok());
    assert_eq!(log.replay(HashAlg::Sha384), Err(Reject::LogBanks(2)));
    let none = Builder::agile(SHA256).raw(12, IPL, &[], b"").parse().unwrap();
    assert_eq!(none.replay(HashAlg::Sha256), Err(Reject::LogBanks(1)));
    // Of PCRs outside the question nothing is asked.
    let sets = [[4], [12], [0]].map(|pcrs| pcrs.into_iter().collect());
    let [four, twelve, zero] = sets.map(|set: PcrSet| log.replay_of(HashAlg::Sha384, set));
    let whole = log.replay(HashAlg::Sha256).unwrap();
    let four: Vec<_> = four.unwrap().iter().map(|(_, pcr, _)| pcr).collect();
    assert_eq!(four, [4]);
    assert_eq!(twelve, Err(Reject::LogBanks(2)));
    assert_eq!(zero.unwrap().iter().count(), 1);
    assert_eq!(whole.iter().count(), 3);
}
