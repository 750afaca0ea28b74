//! Endorsement certificates, and the files that say which of them count.

use std::{fs, path::Path, sync::Arc};

use attest::ek::{CaKey, CertificateId, EkCertificate};
use node_tpm::{Config, CrlPolicy, TpmAttestor};
use plugin_api::EnrolledEk;
use swtpm_tests::{
    parties::{Machine, Outcome, Server, WIRE, claim, event_log},
    structures::Said,
    vendor::{Ca, Change},
};
use tempfile::TempDir;

const SERIAL_7: Change = |params| params.serial_number = Some(vec![7].into());

/// A machine whose TPM has a certificate by `ca`, with serial number 7.
fn machine(ca: &Ca) -> Machine {
    let machine = Machine::new();
    machine.endorse(ca, SERIAL_7);
    machine
}

fn id(machine: &Machine) -> CertificateId {
    let certificate = machine.tpm().certificate.clone().unwrap();
    EkCertificate::parse(&certificate).unwrap().id()
}

/// Roots in a folder.
fn trusting(cas: &[&Ca]) -> (Config, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("roots");
    fs::create_dir(&folder).unwrap();
    for (number, ca) in cas.iter().enumerate() {
        fs::write(folder.join(format!("{number}.der")), &ca.der).unwrap();
    }
    let config = Config {
        ek_roots: Some(folder),
        ..Config::default()
    };
    (config, dir)
}

/// A server that has enrolled `machine` by certificate.
fn server(config: &Config, machine: &Machine, issuer_key: Option<CaKey>) -> Server {
    let mut server = Server::new(config);
    let key = EnrolledEk {
        certificate: Some(id(machine)),
        issuer_key,
        ..EnrolledEk::default()
    };
    server.enrol_key("host-1", key);
    server
}

/// An attestation, after which the row has the key that was activated, as the registry sees to.
fn attest(server: &mut Server, machine: &mut Machine) {
    let (attested, _) = server.attest(machine);
    let host = Arc::make_mut(&mut server.hosts[0]);
    host.endorsement_keys = vec![claim(&attested).activated.unwrap()];
}

fn refusal(config: &Config, machine: &mut Machine) -> Option<&'static str> {
    let server = server(config, machine, None);
    match server.converse(machine, WIRE) {
        Ok((Outcome::Attested(_), _)) => None,
        Ok((Outcome::Newcomer(_), _)) => Some("newcomer"),
        Err(refusal) => Some(refusal.code),
    }
}

#[test]
fn a_host_is_known_by_its_certificate() {
    let ca = Ca::root("maker", |_| ());
    let (config, _dir) = trusting(&[&ca]);
    assert_eq!(refusal(&config, &mut machine(&ca)), None);
    let stranger = Ca::root("stranger", |_| ());
    assert_eq!(
        refusal(&config, &mut machine(&stranger)),
        Some("ek_chain_unknown")
    );
    assert_eq!(
        refusal(&Config::default(), &mut machine(&ca)),
        Some("ek_chain_unknown")
    );
}

/// Both have the same name, and give the same serial number.
#[test]
fn no_other_ca_takes_the_issuers_name() {
    let [ours, theirs] = ["maker", "maker"].map(|name| Ca::root(name, |_| ()));
    let (config, _dir) = trusting(&[&ours, &theirs]);
    let (mut good, mut other) = (machine(&ours), machine(&theirs));
    assert_eq!(id(&good), id(&other));
    let issuer_key = Some(ours.certificate().key());
    let named = server(&config, &good, issuer_key);
    assert!(named.converse(&mut good, WIRE).is_ok());
    assert_eq!(named.refuses(&mut other), "ek_issuer");
    // Where nobody named it, the first counts from then on.
    let mut noting = server(&config, &good, None);
    attest(&mut noting, &mut good);
    assert_eq!(noting.hosts[0].endorsement_keys[0].issuer_key, issuer_key);
    assert_eq!(noting.refuses(&mut other), "ek_issuer");
}

/// One CA gave the same serial number twice: the host is the one whose key came first.
#[test]
fn no_other_key_takes_the_serial_number() {
    let ca = Ca::root("maker", |_| ());
    let (config, _dir) = trusting(&[&ca]);
    let (mut good, mut other) = (machine(&ca), machine(&ca));
    let mut server = server(&config, &good, None);
    attest(&mut server, &mut good);
    assert_eq!(server.refuses(&mut other), "ek_issuer");
    assert!(server.converse(&mut good, WIRE).is_ok());
}

#[test]
fn a_revoked_certificate_does_not_count() {
    let ca = Ca::root("maker", |_| ());
    let (config, dir) = trusting(&[&ca]);
    let crls = dir.path().join("crls");
    fs::create_dir(&crls).unwrap();
    let with = |policy| Config {
        ek_crls: Some(crls.clone()),
        ek_crl_policy: policy,
        ..config.clone()
    };
    assert_eq!(refusal(&with(CrlPolicy::Fresh), &mut machine(&ca)), None);
    assert_eq!(
        refusal(&with(CrlPolicy::Required), &mut machine(&ca)),
        Some("ek_crl_stale")
    );
    fs::write(crls.join("maker.crl"), ca.revoke(&[8], (2040, 1, 1))).unwrap();
    assert_eq!(refusal(&with(CrlPolicy::Required), &mut machine(&ca)), None);
    fs::write(crls.join("maker.crl"), ca.revoke(&[7], (2040, 1, 1))).unwrap();
    assert_eq!(
        refusal(&with(CrlPolicy::Known), &mut machine(&ca)),
        Some("ek_revoked")
    );
}

#[test]
fn a_certificate_that_counted_may_be_revoked_later() {
    let ca = Ca::root("maker", |_| ());
    let (config, dir) = trusting(&[&ca]);
    let mut host = machine(&ca);
    let mut before = server(&config, &host, None);
    attest(&mut before, &mut host);
    let crls = dir.path().join("crls");
    fs::create_dir(&crls).unwrap();
    for (serial, expected) in [(8, None), (7, Some("ek_revoked"))] {
        fs::write(crls.join("maker.crl"), ca.revoke(&[serial], (2026, 2, 1))).unwrap();
        let mut later = Server::new(&Config {
            ek_crls: Some(crls.clone()),
            ..config.clone()
        });
        later.hosts.clone_from(&before.hosts);
        let outcome = later.converse(&mut host, WIRE);
        assert_eq!(
            outcome.err().map(|refusal| refusal.code),
            expected,
            "serial {serial}"
        );
    }
}

#[test]
fn intermediates_are_no_roots() {
    let root = Ca::root("root", |_| ());
    let between = root.issue("between", |_| ());
    let (config, dir) = trusting(&[&root]);
    assert_eq!(refusal(&config, &mut machine(&between)), Some("ek_chain_unknown"));
    let folder = dir.path().join("intermediates");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("between.der"), &between.der).unwrap();
    fs::write(folder.join("root.der"), &root.der).unwrap();
    let known = Config {
        ek_intermediates: Some(folder),
        ..config
    };
    assert_eq!(refusal(&known, &mut machine(&between)), None);
    let unrooted = Config {
        ek_roots: None,
        ..known
    };
    assert_eq!(
        refusal(&unrooted, &mut machine(&between)),
        Some("ek_chain_unknown")
    );
}

fn with_advisories(config: &Config, dir: &Path, text: &str) -> Config {
    let path = dir.join("advisories.toml");
    fs::write(&path, text).unwrap();
    Config {
        tpm_advisories: Some(path),
        ..config.clone()
    }
}

#[test]
fn an_advisory_denies_a_tpm() {
    let ca = Ca::root("maker", |_| ());
    let (config, dir) = trusting(&[&ca]);
    let list = |action: &str, rest: &str| {
        let text =
            format!("[[advisory]]\nid = \"CVE-1\"\nmanufacturer = \"PLST\"\naction = \"{action}\"\n{rest}\n");
        with_advisories(&config, dir.path(), &text)
    };
    let of = |firmware_version| {
        let machine = machine(&ca);
        machine.tpm().said = Said {
            firmware_version,
            ..Said::default()
        };
        machine
    };
    let firmware = "model = \"Cara*\"\nfirmware = \"7.0..7.63\"";
    let version = 0x0007_0010_0000_0000;
    assert_eq!(
        refusal(&list("deny", firmware), &mut of(version)),
        Some("ek_advisory")
    );
    assert_eq!(refusal(&list("warn", firmware), &mut of(version)), None);
    assert_eq!(refusal(&list("deny", firmware), &mut of(0x0008 << 48)), None);
    assert_eq!(
        refusal(&list("deny", "model = \"Other\""), &mut of(version)),
        None
    );
}

/// What the annotated example says, of TPMs as vendors describe them.
#[test]
fn the_example_of_advisories_names_well_known_flaws() {
    let ca = Ca::root("maker", |_| ());
    let (config, dir) = trusting(&[&ca]);
    let example = include_str!("../../../../deploy/tpm-advisories.toml");
    // The TPMs of these tests are of another vendor, whom a copy of each table names.
    let check = |vendor: &str, version: [u16; 4], is_denied: bool| {
        let text = example
            .replace(&format!("\"{vendor}\""), "\"PLST\"")
            .replace("\"warn\"", "\"deny\"")
            .replace("NPCT65*", "Cara*");
        let mut machine = machine(&ca);
        let numbers = version.into_iter();
        machine.tpm().said = Said {
            firmware_version: numbers.fold(0, |all, number| (all << 16) | u64::from(number)),
            ..Said::default()
        };
        let config = with_advisories(&config, dir.path(), &text);
        let expected = is_denied.then_some("ek_advisory");
        assert_eq!(refusal(&config, &mut machine), expected, "{vendor} {version:?}");
    };
    for (vendor, version, is_denied) in [
        ("IFX", [5, 61, 0, 0], true),
        ("IFX", [5, 62, 0, 0], false),
        ("IFX", [7, 61, 0xffff, 0xffff], true),
        ("IFX", [7, 62, 0, 0], false),
        ("IFX", [13, 11, 0, 0], false),
        ("STM", [71, 12, 0, 0], true),
        ("STM", [71, 16, 0, 0], false),
        ("STM", [73, 4, 0, 0], true),
        ("STM", [73, 9, 0, 0], true),
        ("STM", [73, 20, 0, 0], false),
        ("STM", [74, 16, 0, 0], true),
        ("STM", [74, 20, 0, 0], false),
        ("STM", [1, 258, 0, 0], false),
        ("INTC", [11, 8, 64, 0], true),
        ("INTC", [11, 8, 65, 0], false),
        ("INTC", [11, 22, 64, 0], true),
        ("INTC", [11, 22, 65, 0], false),
        ("INTC", [4, 0, 14, 0], true),
        ("INTC", [4, 0, 15, 0], false),
        ("NTC", [1, 3, 2, 8], true),
        ("NTC", [1, 3, 2, 20], false),
        ("NTC", [7, 2, 0, 2], false),
        ("PLST", [7, 61, 0, 0], false),
    ] {
        check(vendor, version, is_denied);
    }
    let ids: std::collections::BTreeSet<_> =
        example.lines().filter(|line| line.starts_with("id = ")).collect();
    let expected = [
        "id = \"CVE-2017-15361\"",
        "id = \"CVE-2019-11090\"",
        "id = \"CVE-2019-16863\"",
        "id = \"CVE-2023-1017\"",
    ];
    assert!(ids.into_iter().eq(expected));
}

#[test]
fn nobody_gets_around_an_advisory_by_hiding_the_certificate() {
    let ca = Ca::root("maker", |_| ());
    let (config, dir) = trusting(&[&ca]);
    let config = with_advisories(&config, dir.path(), "advisory = []");
    let mut host = machine(&ca);
    let mut server = server(&config, &host, None);
    attest(&mut server, &mut host);
    assert!(server.converse(&mut host, WIRE).is_ok());
    let mut tpm = std::mem::take(&mut *host.tpm());
    tpm.certificate = None;
    let mut hiding = Machine::with(tpm, &event_log());
    assert_eq!(server.refuses(&mut hiding), "ek_chain_unknown");
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let ca = Ca::root("maker", |_| ());
    let (config, dir) = trusting(&[&ca]);
    let bad = dir.path().join("bad");
    fs::create_dir(&bad).unwrap();
    fs::write(bad.join("file"), b"\x30\x00").unwrap();
    let at = || Some(bad.clone());
    let configs = [
        (
            "ek_roots",
            Config {
                ek_roots: at(),
                ..config.clone()
            },
        ),
        (
            "ek_intermediates",
            Config {
                ek_intermediates: at(),
                ..config.clone()
            },
        ),
        (
            "ek_crls",
            Config {
                ek_crls: at(),
                ..config.clone()
            },
        ),
        (
            "tpm_advisories",
            with_advisories(&config, dir.path(), "[[advisory]]\nid = \"x\""),
        ),
        (
            "tpm_advisories",
            Config {
                tpm_advisories: Some(dir.path().join("none")),
                ..config.clone()
            },
        ),
    ];
    for (setting, config) in configs {
        let error = TpmAttestor::new(&config).err().unwrap();
        assert_eq!(error.setting, setting);
        assert!(error.to_string().contains(setting), "{error}");
    }
}
