//! The harness itself.

use attest::{HashAlg, PcrSelection, PcrSet};
use plugin_api::TpmDevice;
use swtpm_tests::{Extend, Measured, Options, Startup, Swtpm, read_log};

fn pcr(tpm: &Swtpm, bank: HashAlg, index: u8) -> Option<String> {
    let set: PcrSet = [index].into_iter().collect();
    let selection = PcrSelection::new(vec![(bank, set)]).unwrap();
    let config = tpm::Config {
        tcti: tpm.tcti(),
        ..tpm::Config::default()
    };
    let values = tpm::open(config).unwrap().read_pcrs(&selection).unwrap();
    values.get(bank, index).map(ToString::to_string)
}

fn starting(startup: Startup) -> Swtpm {
    Swtpm::with(Options {
        startup,
        certificates: false,
        ..Options::default()
    })
}

#[test]
fn activates_the_banks_asked_for() {
    let tpm = Swtpm::with(Options {
        banks: vec![HashAlg::Sha1, HashAlg::Sha384],
        certificates: false,
        ..Options::default()
    });
    assert!(pcr(&tpm, HashAlg::Sha1, 0).is_some());
    assert_eq!(pcr(&tpm, HashAlg::Sha256, 0), None);
    assert!(pcr(&tpm, HashAlg::Sha384, 0).is_some());
}

#[test]
fn starts_from_each_locality() {
    let zeros = "00".repeat(31);
    let check = |startup, expected: String| {
        let mut tpm = starting(startup);
        assert_eq!(pcr(&tpm, HashAlg::Sha256, 0), Some(expected.clone()));
        tpm.power_cycle();
        assert_eq!(pcr(&tpm, HashAlg::Sha256, 0), Some(expected));
    };
    check(Startup::Locality0, format!("{zeros}00"));
    check(Startup::Locality3, format!("{zeros}03"));
    let four = [&[0; 31][..], &[4]].concat();
    let measured = HashAlg::Sha256.digest(&[b"firmware"]);
    let extended = HashAlg::Sha256.digest(&[&four, measured.as_bytes()]);
    check(Startup::Locality4(b"firmware".to_vec()), extended.to_string());
}

#[test]
fn forgets_pcrs_and_nothing_else_in_a_power_cut() {
    let mut tpm = starting(Startup::Locality0);
    let before = tpm.create_ek("ecc");
    tpm.extend(0, HashAlg::Sha256, &[1; 32]);
    tpm.power_cycle();
    assert_eq!(pcr(&tpm, HashAlg::Sha256, 0), Some("00".repeat(32)));
    assert_eq!(tpm.create_ek("ecc"), before);
}

#[test]
fn makes_different_tpms_unless_they_share_a_name() {
    let with = |name| {
        Swtpm::with(Options {
            certificates: false,
            name,
            ..Options::default()
        })
    };
    let (first, second) = (with(None), with(None));
    assert_ne!(first.create_ek("ecc"), second.create_ek("ecc"));
    assert_eq!(first.create_ek("ecc"), first.clone_state().create_ek("ecc"));
    assert_eq!(
        with(Some("one")).create_ek("ecc"),
        with(Some("one")).create_ek("ecc")
    );
    assert_ne!(
        with(Some("one")).create_ek("ecc"),
        with(Some("two")).create_ek("ecc")
    );
}

#[test]
fn replays_a_log() {
    let extends = [(0, 1), (7, 2)].map(|(pcr, byte)| Extend {
        pcr,
        digests: vec![(HashAlg::Sha256, vec![byte; 32])],
    });
    let measured = read_log(&log(&extends));
    assert_eq!(
        measured,
        Measured {
            startup_locality: Some(3),
            extends: extends.into(),
        }
    );
    let tpm = starting(Startup::Locality3);
    tpm.replay(&measured);
    let three = [&[0; 31][..], &[3]].concat();
    let expected = HashAlg::Sha256.digest(&[&three, &[1; 32]]);
    assert_eq!(pcr(&tpm, HashAlg::Sha256, 0), Some(expected.to_string()));
}

/// A crypto-agile log: its header, the locality 3, these events, padding.
fn log(events: &[Extend]) -> Vec<u8> {
    let event = |pcr: u32, kind: u32, digest: &[u8], data: &[u8]| {
        let mut event = [pcr, kind, 1].map(u32::to_le_bytes).concat();
        event.extend([0x0B, 0]);
        event.extend(digest);
        event.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
        event.extend(data);
        event
    };
    let specification = b"Spec ID Event03\0and so on";
    let mut log = [
        &[0, 0, 0, 0, 3, 0, 0, 0][..],
        &[0; 20],
        &[25, 0, 0, 0],
        specification,
    ]
    .concat();
    log.extend(event(0, 3, &[0; 32], b"StartupLocality\0\x03"));
    for extend in events {
        log.extend(event(extend.pcr, 1, &extend.digests[0].1, b"data"));
    }
    log.extend([0xff; 30]);
    log
}
