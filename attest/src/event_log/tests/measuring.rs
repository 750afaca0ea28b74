//! What the check of the contents refuses, and what it shows.

use super::*;

fn verify(log: &Builder) -> Result<Measurements, Reject> {
    Measurements::verify(log.parse()?, HashAlg::Sha256, (0..24).collect())
}

fn refuses(log: &Builder, expected: Reject) {
    assert_eq!(verify(log).err(), Some(expected));
}

fn phases(log: &Builder, pcr: u8) -> Vec<Phase> {
    let measurements = verify(log).unwrap();
    measurements
        .of(pcr)
        .unwrap()
        .map(|measurement| measurement.phase)
        .collect()
}

#[test]
fn tells_firmware_from_what_follows() {
    use Phase::{Firmware, Later, Separator};
    let log = Builder::agile(SHA256)
        .honest(7, IPL, b"config")
        .separators()
        .honest(7, IPL, b"authority")
        .honest(8, IPL, b"command");
    assert_eq!(phases(&log, 7), [Firmware, Separator, Later]);
    assert_eq!(phases(&log, 4), [Separator]);
    assert_eq!(phases(&log, 8), [Later]);
}

#[test]
fn shows_only_what_was_checked() {
    let log = Builder::agile(SHA256)
        .honest(3, EventKind::SEPARATOR, &[0; 4])
        .parse()
        .unwrap();
    let measurements = Measurements::verify(log, HashAlg::Sha256, [3, 8].into_iter().collect()).unwrap();
    assert_eq!(measurements.of(3).map(Iterator::count), Some(1));
    assert_eq!(measurements.of(8).map(Iterator::count), Some(0));
    assert!(measurements.of(4).is_none());
}

#[test]
fn needs_the_bank() {
    let log = Builder::agile(&[HashAlg::Sha1]).separators().parse().unwrap();
    let all: PcrSet = (0..24).collect();
    let refused = Measurements::verify(log, HashAlg::Sha256, all).err();
    assert_eq!(refused, Some(Reject::LogBank(HashAlg::Sha256)));
    let lacking = Builder::agile(SHA256).separators().raw(9, IPL, &[], b"");
    refuses(&lacking, Reject::LogBanks(9));
}

#[test]
fn needs_one_separator_of_each_firmware_pcr() {
    let separator = |pcr, value: [u8; 4]| move |log: Builder| log.honest(pcr, EventKind::SEPARATOR, &value);
    let others = |but: u32| {
        (0..8)
            .filter(|pcr| *pcr != but)
            .fold(Builder::agile(SHA256), |log, pcr| separator(pcr, [0; 4])(log))
    };
    for pcr in 0..8_u8 {
        let refused = Reject::LogSeparator(pcr);
        let pcr = u32::from(pcr);
        assert!(verify(&separator(pcr, [0; 4])(others(pcr))).is_ok());
        assert!(verify(&separator(pcr, [0xff; 4])(others(pcr))).is_ok());
        refuses(&others(pcr), refused);
        refuses(
            &separator(pcr, [0; 4])(separator(pcr, [0; 4])(others(pcr))),
            refused,
        );
        refuses(
            &separator(pcr, [0xff; 4])(separator(pcr, [0; 4])(others(pcr))),
            refused,
        );
        // Errors, and what is no separator at all.
        refuses(&separator(pcr, [1, 0, 0, 0])(others(pcr)), refused);
        refuses(&separator(pcr, [2, 0, 0, 0])(others(pcr)), refused);
        refuses(
            &separator(pcr, [2, 0, 0, 0])(separator(pcr, [0; 4])(others(pcr))),
            refused,
        );
    }
}

#[test]
fn finds_separators_that_were_relabelled() {
    // The true one is hidden behind another name, and one that an attacker added shows up as the only one.
    for (pcr, kind) in [
        (7, IPL),
        (7, EventKind::EFI_VARIABLE_BOOT),
        (0, IPL),
        (1, EventKind::S_CRTM_CONTENTS),
    ] {
        let log = Builder::agile(SHA256)
            .event(pcr, kind, &[0; 4], b"remark")
            .separators();
        refuses(&log, Reject::LogSeparator(u8::try_from(pcr).unwrap()));
    }
    // Likewise one that reports an error.
    let log = Builder::agile(SHA256)
        .event(7, IPL, &[1, 0, 0, 0], b"remark")
        .separators();
    refuses(&log, Reject::LogSeparator(7));
}

#[test]
fn lets_lookalikes_pass_but_believes_nothing_after_them() {
    use Phase::{Firmware, Later, Separator};
    let log = Builder::agile(SHA256)
        .event(0, EventKind::S_CRTM_CONTENTS, &[0; 4], b"FIT Type 0x2D")
        .honest(0, IPL, b"perhaps an attacker's")
        .event(1, EventKind::EFI_VARIABLE_BOOT, &[1, 0, 0, 0], b"BootOrder")
        .separators();
    assert_eq!(phases(&log, 0), [Separator, Later, Later]);
    assert_eq!(phases(&log, 1), [Firmware, Separator]);
}

#[test]
fn refuses_an_error_after_a_lookalike() {
    let others = (1..8).fold(Builder::agile(SHA256), |log, pcr| {
        log.honest(pcr, EventKind::SEPARATOR, &[0; 4])
    });
    let log = others
        .event(0, EventKind::S_CRTM_CONTENTS, &[0; 4], b"FIT Type 0x2D")
        .honest(0, EventKind::SEPARATOR, &[1, 0, 0, 0]);
    refuses(&log, Reject::LogSeparator(0));
}

#[test]
fn checks_no_pcrs_but_those_asked_for() {
    let log = Builder::agile(SHA256)
        .honest(3, EventKind::SEPARATOR, &[0; 4])
        .event(4, EventKind::EFI_ACTION, b"measured", b"swapped")
        .raw(9, IPL, &[], b"no digest")
        .parse()
        .unwrap();
    let check =
        |pcrs: &[u8]| Measurements::verify(log.clone(), HashAlg::Sha256, pcrs.iter().copied().collect());
    assert!(check(&[3, 8]).is_ok());
    assert_eq!(check(&[3, 4]).err(), Some(Reject::LogSeparator(4)));
    assert_eq!(check(&[9]).err(), Some(Reject::LogBanks(3)));
}

#[test]
fn refuses_data_that_was_swapped() {
    let log = |kind, measured: &[u8], data: &[u8]| {
        Builder::agile(&[HashAlg::Sha1, HashAlg::Sha256])
            .separators()
            .event(7, kind, measured, data)
    };
    let (off, on) = (variable("SecureBoot", &[0]), variable("SecureBoot", &[1]));
    for kind in [
        EventKind::EFI_ACTION,
        EventKind::EFI_VARIABLE_AUTHORITY,
        EventKind::EFI_VARIABLE_DRIVER_CONFIG,
    ] {
        refuses(&log(kind, &off, &on), Reject::LogEventData(9));
        assert!(verify(&log(kind, &on, &on)).is_ok());
    }
    // Of other types this is innocent; the data is not believed then.
    assert!(verify(&log(IPL, &off, &on)).is_ok());
    // In one bank only.
    let lie = [
        (0x0004, digest(HashAlg::Sha1, &off)),
        (0x000b, digest(HashAlg::Sha256, &on)),
    ];
    let log = Builder::agile(&[HashAlg::Sha1, HashAlg::Sha256]).separators();
    refuses(
        &log.raw(7, EventKind::EFI_ACTION, &lie, &on),
        Reject::LogEventData(9),
    );
}
