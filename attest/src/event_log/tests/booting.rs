//! What is refused of Secure Boot, of the hand-over, and of unified kernel images.

use super::*;

const GLOBAL: [u8; 16] = 0x61df_e48b_ca93_d211_aa0d_00e0_9803_2b8c_u128.to_be_bytes();
const DATABASE: [u8; 16] = 0xcbb2_19d7_3a3d_9645_a3bc_dad0_0e67_656f_u128.to_be_bytes();
const CONFIG: EventKind = EventKind::EFI_VARIABLE_DRIVER_CONFIG;

fn named(vendor: [u8; 16], name: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = variable(name, data);
    bytes[..16].copy_from_slice(&vendor);
    bytes
}

/// A list of one certificate.
fn list(certificate: &[u8]) -> Vec<u8> {
    let x509 = 0xa159_c0a5_e494_a74a_87b5_ab15_5c2b_f072_u128.to_be_bytes();
    let each = 16 + certificate.len();
    [
        &x509[..],
        &count(28 + each),
        &count(0),
        &count(each),
        &[7; 16],
        certificate,
    ]
    .concat()
}

/// What firmware measures, each part to be changed.
struct Firmware {
    secure_boot: Vec<u8>,
    pk: Vec<u8>,
    db: Vec<u8>,
    more: Vec<(EventKind, Vec<u8>)>,
    later: Vec<Vec<u8>>,
}

impl Firmware {
    fn good() -> Self {
        Self {
            secure_boot: vec![1],
            pk: list(b"pk"),
            db: list(b"db"),
            more: Vec::new(),
            later: Vec::new(),
        }
    }

    fn with(mut self, kind: EventKind, data: &[u8]) -> Self {
        self.more.push((kind, data.into()));
        self
    }

    fn log(&self) -> Builder {
        let log = Builder::agile(SHA256)
            .honest(7, CONFIG, &named(GLOBAL, "SecureBoot", &self.secure_boot))
            .honest(7, CONFIG, &named(GLOBAL, "PK", &self.pk))
            .honest(7, CONFIG, &named(GLOBAL, "KEK", &list(b"kek")))
            .honest(7, CONFIG, &named(DATABASE, "db", &self.db))
            .honest(7, CONFIG, &named(DATABASE, "dbx", &[]));
        let log = self
            .more
            .iter()
            .fold(log, |log, (kind, data)| log.honest(7, *kind, data));
        self.later
            .iter()
            .fold(log.separators(), |log, data| log.honest(7, CONFIG, data))
    }

    /// On and mode, or why not.
    fn state(&self) -> Result<(bool, SecureBootMode), Reject> {
        let measurements = verify(&self.log());
        SecureBoot::of(&measurements).map(|state| (state.is_on, state.mode))
    }

    fn refuses(&self, expected: Reject) {
        assert_eq!(self.state(), Err(expected));
    }

    fn is_enforced(&self) -> Result<(), Reject> {
        let measurements = verify(&self.log());
        SecureBoot::of(&measurements)?.enforced().map(drop)
    }
}

pub(super) fn verify(log: &Builder) -> Measurements {
    Measurements::verify(log.parse().unwrap(), HashAlg::Sha256, (0..24).collect()).unwrap()
}

#[test]
fn tells_on_from_off_and_who_may_change_the_keys() {
    use SecureBootMode::{Audit, Deployed, Setup, User};
    let flag = |name| named(GLOBAL, name, &[1]);
    let cases = [
        (Firmware::good(), true, User),
        (
            Firmware {
                secure_boot: vec![0],
                ..Firmware::good()
            },
            false,
            User,
        ),
        (
            Firmware {
                secure_boot: vec![],
                ..Firmware::good()
            },
            false,
            User,
        ),
        (
            Firmware {
                pk: vec![],
                ..Firmware::good()
            },
            true,
            Setup,
        ),
        (Firmware::good().with(CONFIG, &flag("SetupMode")), true, Setup),
        (Firmware::good().with(CONFIG, &flag("AuditMode")), true, Audit),
        (
            Firmware::good().with(CONFIG, &flag("DeployedMode")),
            true,
            Deployed,
        ),
    ];
    for (firmware, is_on, mode) in cases {
        assert_eq!(firmware.state(), Ok((is_on, mode)));
        let kept = is_on && matches!(mode, Deployed | User);
        let expected = if kept { Ok(()) } else { Err(Reject::SecureBootOff) };
        assert_eq!(firmware.is_enforced(), expected, "{mode:?}");
    }
    for weakness in ["UEFI Debug Mode", "DMA Protection Disabled\0"] {
        let firmware = Firmware::good().with(EventKind::EFI_ACTION, weakness.as_bytes());
        assert_eq!(firmware.is_enforced(), Err(Reject::SecureBootOff), "{weakness}");
    }
}

#[test]
fn refuses_secure_boot_that_is_faked() {
    let off = || Firmware {
        secure_boot: vec![0],
        ..Firmware::good()
    };
    let on = named(GLOBAL, "SecureBoot", &[1]);
    // Twice; after firmware ended; of no known value; hidden in what the log does not show.
    off().with(CONFIG, &on).refuses(Reject::SecureBootVariable);
    Firmware {
        later: vec![on.clone()],
        ..off()
    }
    .refuses(Reject::SecureBootVariable);
    for value in [&[2][..], &[1, 0]] {
        let odd = Firmware {
            secure_boot: value.into(),
            ..Firmware::good()
        };
        odd.refuses(Reject::SecureBootVariable);
    }
    let hidden = Firmware::good().log();
    let hidden = Builder::agile(SHA256)
        .event(7, IPL, &on, b"?")
        .bytes(&hidden.bytes[hidden_start(&hidden)..]);
    assert_eq!(
        SecureBoot::of(&verify(&hidden)).err(),
        Some(Reject::SecureBootVariable)
    );
    // Of another vendor it is another variable, and the true one is missing.
    let missing = Builder::agile(SHA256)
        .honest(7, CONFIG, &named(DATABASE, "SecureBoot", &[1]))
        .separators();
    assert_eq!(
        SecureBoot::of(&verify(&missing)).err(),
        Some(Reject::SecureBootVariable)
    );
    // Modes that exclude each other.
    Firmware::good()
        .with(CONFIG, &named(GLOBAL, "AuditMode", &[1]))
        .with(CONFIG, &named(GLOBAL, "DeployedMode", &[1]))
        .refuses(Reject::SecureBootVariable);
}

fn hidden_start(log: &Builder) -> usize {
    Builder::agile(SHA256).bytes.len().min(log.bytes.len())
}

#[test]
fn tells_authorities_from_a_second_db() {
    let entry = |certificate: &[u8]| named(DATABASE, "db", &[&[7; 16], certificate].concat());
    let authorities = |firmware: &Firmware| {
        let measurements = verify(&firmware.log());
        let state = SecureBoot::of(&measurements)?;
        Ok(state
            .authorities
            .iter()
            .map(|authority| authority.is_in_db)
            .collect::<Vec<_>>())
    };
    let early = Firmware::good().with(CONFIG, &entry(b"db"));
    assert_eq!(authorities(&early), Ok(vec![true]));
    let second = Firmware::good().with(CONFIG, &entry(b"evil"));
    assert_eq!(authorities(&second), Err(Reject::SecureBootVariable));
    let later = Firmware {
        later: vec![entry(b"db"), entry(b"evil")],
        ..Firmware::good()
    };
    assert_eq!(authorities(&later), Ok(vec![true, false]));
}

#[test]
fn refuses_levels_that_are_malformed_or_hidden() {
    let shim = 0x50ab_5d60_46e0_0043_abb6_3dd8_10dd_8b23_u128.to_be_bytes();
    let level = |table: &[u8]| named(shim, "SbatLevel", table);
    let levels = |later: Vec<Vec<u8>>| {
        let firmware = Firmware {
            later,
            ..Firmware::good()
        };
        let measurements = verify(&firmware.log());
        let levels = SbatLevel::all(&measurements)?;
        Ok(levels.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(levels(Vec::new()), Ok(Vec::new()));
    let [low, high] = [
        level(b"sbat,1,2021030218\n"),
        level(b"sbat,1,2023012900\nshim,2\n"),
    ];
    assert_eq!(
        levels(vec![low, high.clone(), named(DATABASE, "SbatLevel", b"")]),
        Ok(vec!["2021030218".to_owned(), "2023012900: shim 2".to_owned()])
    );
    let malformed = levels(vec![high.clone(), level(b"shim,4\n")]);
    assert_eq!(malformed, Err(Reject::SecureBootSbat));
    let log = Firmware {
        later: vec![high],
        ..Firmware::good()
    };
    let hidden = log.log().event(7, IPL, b"another", b"");
    assert_eq!(SbatLevel::all(&verify(&hidden)), Err(Reject::SecureBootSbat));
}

#[test]
fn refuses_lists_of_keys_that_are_malformed() {
    let good = list(b"db");
    for len in 1..good.len() {
        Firmware {
            db: good[..len].into(),
            ..Firmware::good()
        }
        .refuses(Reject::SecureBootKeys);
    }
    for (at, value) in [(16, 27), (16, 255), (20, 1), (24, 16), (24, 17), (24, 0)] {
        let mut bad = good.clone();
        bad[at] = value;
        assert_eq!(
            signatures(&bad).err(),
            Some(Reject::SecureBootKeys),
            "{at} {value}"
        );
    }
    assert_eq!(signatures(&[good.clone(), good].concat()).unwrap().len(), 2);
}

fn sections(events: &[&[u8]]) -> Result<Option<Vec<&'static str>>, Reject> {
    let log = events
        .iter()
        .fold(Builder::agile(SHA256).separators(), |log, measured| {
            log.event(11, IPL, measured, b"?")
        });
    let measurements = verify(&log);
    let sections = uki_sections(&measurements)?;
    Ok(sections.map(|sections| sections.iter().map(|section| section.name).collect()))
}

#[test]
fn reads_the_sections_of_a_kernel_image() {
    assert_eq!(sections(&[]), Ok(None));
    assert_eq!(sections(&[b"BitLocker"]), Ok(None));
    let two: &[&[u8]] = &[b".linux\0", b"kernel", b".cmdline\0", b"quiet"];
    assert_eq!(sections(two), Ok(Some(vec![".linux", ".cmdline"])));
    // The header is event 0, and eight separators follow.
    assert_eq!(sections(&[b".linux\0"]), Err(Reject::LogSections(9)));
    let odd: &[&[u8]] = &[b".linux\0", b"kernel", b"something"];
    assert_eq!(sections(odd), Err(Reject::LogSections(11)));
    let unknown: &[&[u8]] = &[b".linux\0", b"kernel", b".evil\0", b"code"];
    assert_eq!(sections(unknown), Err(Reject::LogSections(11)));
}

#[test]
fn knows_the_phases_that_systemd_does_not_log() {
    let log = Builder::agile(SHA256)
        .separators()
        .event(11, IPL, b".linux\0", b"?")
        .event(11, IPL, b"kernel", b"?");
    let selection = PcrSelection::new(vec![(HashAlg::Sha256, [4, 11].into_iter().collect())]).unwrap();
    let explain_after = |log: &Builder, phases: &[&str]| {
        let log = log.parse().unwrap();
        let mut values = log.replay(HashAlg::Sha256).unwrap();
        for phase in phases {
            values.extend(HashAlg::Sha256, 11, &digest(HashAlg::Sha256, phase.as_bytes()));
        }
        let signed = values.digest(&selection, HashAlg::Sha256);
        let explained = explain(
            &selection,
            signed.as_bytes(),
            HashAlg::Sha256,
            Some(&values),
            &log,
        )?;
        Ok(boot_phases(&log, &explained, HashAlg::Sha256).map(<[_]>::len))
    };
    for end in 0..=PHASES.len() {
        assert_eq!(explain_after(&log, &PHASES[..end]), Ok(Some(end)));
    }
    assert_eq!(explain_after(&log, &["sysinit", "ready"]), Ok(Some(2)));
    let mismatch = Err(Reject::LogMismatch(HashAlg::Sha256, 11));
    for wrong in [
        &["ready"][..],
        &["ready", "sysinit"],
        &["evil"],
        &["sysinit", "ready", "evil"],
    ] {
        assert_eq!(explain_after(&log, wrong), mismatch, "{wrong:?}");
    }
    // Without a unified kernel image there are no phases.
    let other = Builder::agile(SHA256)
        .separators()
        .event(11, IPL, b"BitLocker", b"?");
    assert_eq!(explain_after(&other, &["sysinit"]), mismatch);
}
