//! The command over evidence of real machines: what is read, what is refused, and by which exit code.

use std::path::Path;

use clap::Parser;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use super::*;

/// A command line, parsed as the binary does.
#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

fn testdata(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../attest/testdata");
    folder.join(name).to_str().unwrap().to_owned()
}

fn parse(words: &[&str]) -> Command {
    let line = std::iter::once("verify").chain(words.iter().copied());
    Line::try_parse_from(line).unwrap().command
}

/// The codes of all findings, those that are refused in capitals.
fn codes(findings: &[Finding]) -> Vec<String> {
    let code = |finding: &Finding| match finding.verdict {
        attest::report::Verdict::Noted => finding.code.to_owned(),
        attest::report::Verdict::Refused => finding.code.to_uppercase(),
    };
    findings.iter().map(code).collect()
}

fn event_log(log: &str, pcrs: Option<&str>) -> LogReport {
    let (log, pcrs) = (
        testdata(&format!("eventlogs/{log}")),
        pcrs.map(|pcrs| testdata(&format!("pcrs/{pcrs}.txt"))),
    );
    let mut words = vec!["event-log", &log];
    if let Some(pcrs) = &pcrs {
        words.extend(["--pcrs", pcrs]);
    }
    match parse(&words) {
        Command::EventLog(command) => command.report().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn event_logs_are_judged() {
    let check = |log, pcrs, expected: &[&str]| {
        assert_eq!(codes(&event_log(log, pcrs).findings), expected, "{log}");
    };
    // IMA extends PCR 10 and writes no event.
    check("vm-sb-56c.bin", Some("vm-sb-56c"), &["log_mismatch"]);
    check("vm-sb-56c.bin", None, &[]);
    check("vm-nosb-56c.bin", None, &["secure_boot_off"]);
    check(
        "goattest-windows_gcp_shielded_vm.bin",
        None,
        &["LOG_BANK", "LOG_SEPARATOR"],
    );
    check("acs-tpm2bios.log", None, &["LOG_SEPARATOR"]);
}

#[test]
fn event_logs_are_shown_as_they_are_proven() {
    let report = event_log("vm-sb-56c.bin", Some("vm-sb-56c"));
    let secure_boot = report.secure_boot.clone().unwrap();
    assert!(secure_boot.on);
    assert_eq!(
        (secure_boot.mode.as_str(), secure_boot.authorities.len()),
        ("user", 1)
    );
    let sections: Vec<_> = report.sections.iter().map(|section| section.name).collect();
    assert_eq!(sections, [".linux", ".osrel", ".cmdline", ".initrd"]);
    let json = serde_json::to_value(&report).unwrap();
    let pcr = &json["pcrs"][0];
    assert_eq!(
        (pcr["bank"].as_str(), pcr["index"].as_u64()),
        (Some("sha256"), Some(0))
    );
    let value = pcr["value"].as_str().unwrap();
    assert_eq!(value, value.to_lowercase());
    assert!(
        report.to_string().contains("Secure Boot   : on, user mode"),
        "{report}"
    );
}

#[test]
fn measurement_lists_are_judged() {
    let check = |list: &str, pcrs: Option<&str>, proven: Option<u64>, expected: &[&str]| {
        let (file, pcrs) = (
            testdata(&format!("ima/{list}")),
            pcrs.map(|pcrs| testdata(&format!("pcrs/{pcrs}.txt"))),
        );
        let mut words = vec!["ima-log", &file];
        if let Some(pcrs) = &pcrs {
            words.extend(["--pcrs", pcrs]);
        }
        let Command::ImaLog(command) = parse(&words) else {
            panic!("another command")
        };
        let report = command.report().unwrap();
        assert_eq!(codes(&report.findings), expected, "{list}");
        assert_eq!(
            report.proven.as_ref().map(|proven| proven.entries),
            proven,
            "{report}"
        );
    };
    check("vm-nosb-56c.bin", Some("vm-nosb-56c"), Some(58), &[]);
    check("vm-nosb-56c.txt", Some("vm-nosb-56c"), Some(58), &[]);
    check("vm-nosb-56c.bin", Some("vm-sb-56c"), None, &["IMA_UNEXPLAINED"]);
    check("guard-sr630.binary_measurements", None, None, &["ima_violation"]);
    check("rustkeylime-invalid_ima_log.txt", None, None, &["IMA_MALFORMED"]);
}

/// Writes a part of the captured quote as tools write it.
fn write_part(part: &str, folder: &Path) -> String {
    write_part_of("vm-sb-systemd.txt", part, folder)
}

fn write_part_of(quote: &str, part: &str, folder: &Path) -> String {
    let text = std::fs::read_to_string(testdata(&format!("quotes/{quote}"))).unwrap();
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let (_, digits) = lines.find(|(name, _)| *name == part).unwrap();
    let path = folder.join(part);
    std::fs::write(&path, hex::decode(digits).unwrap()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_quote_of_a_real_boot_is_verified() {
    let nonce = "00112233445566778899aabbccddeeff".repeat(2);
    let check = |nonce: &str, extra: &[&str], expected: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let [ak, quote, signature] = ["ak", "quote", "signature"].map(|part| write_part(part, folder.path()));
        let mut words = vec![
            "quote",
            "--ak",
            &ak,
            "--quote",
            &quote,
            "--signature",
            &signature,
            "--nonce",
            nonce,
        ];
        words.extend(extra);
        let Command::Quote(command) = parse(&words) else {
            panic!("another command")
        };
        let report = command.report().unwrap();
        assert_eq!(codes(&report.findings), expected, "{report}");
    };
    // The key is a child of the endorsement key, as tpm2-tools make it.
    check(&nonce, &[], &["qualified_signer"]);
    check(&nonce.replacen("00", "", 1), &[], &["EXTRA_DATA"]);
    let log = testdata("eventlogs/vm-sb-systemd.bin");
    // PCR 10 is explained by the kernel's list alone.
    check(
        &nonce,
        &["--event-log", &log],
        &["qualified_signer", "LOG_UNEXPLAINED"],
    );
    let list = testdata("ima/vm-sb-systemd.bin");
    let explained = ["--event-log", &log, "--ima-log", &list];
    check(&nonce, &explained, &["qualified_signer"]);
    check(
        &nonce,
        &["--ima-log", &list],
        &["qualified_signer", "IMA_UNEXPLAINED"],
    );
    let unexplained = &["qualified_signer", "IMA_UNEXPLAINED", "LOG_UNEXPLAINED"];
    let [other_log, other_list] = ["eventlogs/vm-sb-56c.bin", "ima/vm-sb-56c.bin"].map(testdata);
    check(
        &nonce,
        &["--event-log", &log, "--ima-log", &other_list],
        unexplained,
    );
    check(
        &nonce,
        &["--event-log", &other_log, "--ima-log", &list],
        unexplained,
    );
    let other = testdata("pcrs/vm-sb-56c.txt");
    check(&nonce, &["--pcrs", &other], &["qualified_signer", "PCR_DIGEST"]);
}

/// The values that a quote by tpm2-tools is over, as `tpm2_quote -o` writes them, and as `-F values` does.
#[test]
fn values_of_pcrs_may_be_as_tpm2_quote_writes_them() {
    let folder = tempfile::tempdir().unwrap();
    let [ak, quote, signature] = ["ak", "quote", "signature"]
        .map(|part| write_part_of("tools-rsa-sha384-rsapss.txt", part, folder.path()));
    // PCRs 16 and 23, extended by one digest each.
    let digest = |byte| attest::HashAlg::Sha256.digest(&[&[0; 32], &[byte; 32]]);
    let [first, second] = [7, 8].map(|byte| digest(byte).as_bytes().to_vec());
    let marshaled = |first: &[u8], second: &[u8]| {
        let mut bytes = [
            &[1, 0, 0, 0, 0x0b, 0, 3, 0, 0, 0x81][..],
            &[0; 122],
            &[1, 0, 0, 0, 2, 0, 0, 0],
        ]
        .concat();
        for value in [first, second] {
            bytes.extend([&[32, 0], value, &[0; 32]].concat());
        }
        bytes.resize(668, 0);
        bytes
    };
    let check = |bytes: &[u8], expected: &[&str]| {
        let pcrs = folder.path().join("pcrs");
        std::fs::write(&pcrs, bytes).unwrap();
        let files = [
            "--ak",
            &ak,
            "--quote",
            &quote,
            "--signature",
            &signature,
            "--nonce",
            "00aa11",
        ];
        let words = [&["quote"], &files[..], &["--pcrs", pcrs.to_str().unwrap()]].concat();
        let Command::Quote(command) = parse(&words) else {
            panic!("another command")
        };
        let codes = command.report().map(|report| codes(&report.findings));
        match codes {
            Ok(codes) => assert_eq!(codes, expected),
            Err(error) => assert!(expected.is_empty(), "{error}"),
        }
    };
    check(&marshaled(&first, &second), &["qualified_signer"]);
    check(&marshaled(&second, &first), &["qualified_signer", "PCR_DIGEST"]);
    check(&[&first[..], &second].concat(), &["qualified_signer"]);
    check(
        &[&second[..], &first].concat(),
        &["qualified_signer", "PCR_DIGEST"],
    );
    check(&first, &[]);
    check(&marshaled(&first, &second)[..667], &[]);
}

#[test]
fn certificates_lead_to_vendors() {
    let check = |certificate: &str, more: &[&str], expected: &[&str]| {
        let file = testdata(&format!("ek/{certificate}"));
        let words = [&["ek-certificate", &file, "--allow-expired"], more].concat();
        let Command::EkCertificate(command) = parse(&words) else {
            panic!("another command")
        };
        let report = command.report(1_735_689_600).unwrap();
        assert_eq!(codes(&report.findings), expected, "{certificate}");
    };
    check("guard-oss-tpm_test-0.pem", &[], &[]);
    check("guard-oss-inteltsc_test-0.pem", &[], &[]);
    // Its time has not come: that is no matter of old TPMs.
    check("paccor-TCG_EK_ecc_p384_Test.pem", &[], &["EK_CHAIN_EXPIRED"]);
    // A folder counts instead.
    let folder = tempfile::tempdir().unwrap();
    let root = testdata("../roots/STM-roots.pem");
    std::fs::copy(root, folder.path().join("roots.pem")).unwrap();
    let roots = ["--roots", folder.path().to_str().unwrap()];
    check("guard-oss-inteltsc_test-0.pem", &roots, &["EK_CHAIN_UNKNOWN"]);
}

/// A GeneralNames with one directory name: manufacturer, model and version.
fn tpm_name() -> Vec<u8> {
    let element = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
    let attribute = |(arc, text): (u8, &str)| {
        let oid = element(0x06, &[0x67, 0x81, 0x05, 2, arc]);
        element(0x30, &[oid, element(0x0c, text.as_bytes())].concat())
    };
    let said = [(1, "id:504C5354"), (2, "Carapace"), (3, "id:00010000")].map(attribute);
    let name = element(0x30, &element(0x31, &said.concat()));
    element(0x30, &element(0xa4, &name))
}

/// A maker of TPMs, and what an operator may have of it.
struct Maker {
    root: Vec<u8>,
    between: Vec<u8>,
    leaf: Vec<u8>,
    crl: Vec<u8>,
}

/// 2026-11-22.
const NOW: i64 = 1_795_305_600;
impl Maker {
    fn new() -> Self {
        let keys = [(); 3].map(|()| KeyPair::generate().unwrap());
        let params = |name: &str, is_ca| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2040, 1, 1);
            params.is_ca = is_ca;
            params
        };
        let ca = |name: &str| {
            let mut params = params(name, IsCa::Ca(BasicConstraints::Unconstrained));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            params
        };
        let [of_root, of_between, of_leaf] = &keys;
        let root = ca("root").self_signed(of_root).unwrap();
        let by_root = Issuer::new(ca("root"), of_root);
        let between = ca("between").signed_by(of_between, &by_root).unwrap();
        let mut leaf = params("tpm", IsCa::ExplicitNoCa);
        leaf.key_usages = vec![KeyUsagePurpose::KeyAgreement];
        leaf.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], tpm_name())];
        let leaf = leaf
            .signed_by(of_leaf, &Issuer::new(ca("between"), of_between))
            .unwrap();
        let crl = rcgen::CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2026, 1, 1),
            next_update: rcgen::date_time_ymd(2027, 1, 1),
            crl_number: 1_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: vec![],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        Self {
            root: root.der().to_vec(),
            between: between.der().to_vec(),
            leaf: leaf.der().to_vec(),
            crl: crl.signed_by(&by_root).unwrap().der().to_vec(),
        }
    }

    fn pem(ders: &[&[u8]]) -> String {
        let blocks = ders.iter().map(|der| pem::Pem::new("CERTIFICATE", *der));
        pem::encode_many(&blocks.collect::<Vec<_>>())
    }
}

/// An option, and the files of the folder that it names.
type Folder<'a> = (&'a str, &'a [(&'a str, &'a [u8])]);

/// Runs the command over `leaf`, with folders of these files.
fn ek_certificate(leaf: &[u8], folders: &[Folder<'_>], more: &[&str]) -> Result<ek::Report, CommandError> {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("leaf");
    std::fs::write(&file, leaf).unwrap();
    let mut words = vec!["ek-certificate".to_owned(), file.to_str().unwrap().to_owned()];
    for (option, files) in folders {
        let folder = place.path().join(option.trim_start_matches('-'));
        std::fs::create_dir(&folder).unwrap();
        for (name, content) in *files {
            std::fs::write(folder.join(name), content).unwrap();
        }
        words.extend([(*option).to_owned(), folder.to_str().unwrap().to_owned()]);
    }
    words.extend(more.iter().map(|word| (*word).to_owned()));
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let Command::EkCertificate(command) = parse(&words) else {
        panic!("another command")
    };
    command.report(NOW)
}

#[test]
fn intermediates_come_in_a_folder_or_behind_the_certificate() {
    let maker = Maker::new();
    let (root, between) = (&maker.root[..], &maker.between[..]);
    let roots: Folder<'_> = ("--roots", &[("root.der", root)]);
    let known: Folder<'_> = ("--intermediates", &[("between.der", between)]);
    let check = |leaf: &[u8], folders: &[Folder<'_>], expected: &[&str]| {
        assert_eq!(
            codes(&ek_certificate(leaf, folders, &[]).unwrap().findings),
            expected
        );
    };
    check(&maker.leaf, &[roots], &["EK_CHAIN_UNKNOWN"]);
    check(&maker.leaf, &[roots, known], &[]);
    check(Maker::pem(&[&maker.leaf, between]).as_bytes(), &[roots], &[]);
    let text = pem::encode(&pem::Pem::new("CERTIFICATE", &maker.leaf[..]));
    let base64: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    let answer = format!(
        r#"{{"pubhash":"00","certificate":"{}"}}"#,
        base64.replace('+', "-").replace('/', "_")
    );
    for leaf in [base64, answer] {
        check(leaf.as_bytes(), &[roots, known], &[]);
    }
    check(
        Maker::pem(&[&maker.leaf, between, root]).as_bytes(),
        &[roots],
        &[],
    );
    // Whatever comes along is no root.
    check(
        Maker::pem(&[&maker.leaf, between, root]).as_bytes(),
        &[],
        &["EK_CHAIN_UNKNOWN"],
    );
    let all: Folder<'_> = ("--intermediates", &[("root.der", root), ("between.der", between)]);
    check(&maker.leaf, &[all], &["EK_CHAIN_UNKNOWN"]);
    let other = Maker::pem(&[&maker.leaf, &maker.leaf]);
    assert!(
        ek_certificate(other.as_bytes(), &[roots], &[]).is_err(),
        "a leaf is no CA"
    );
}

#[test]
fn vendors_roots_count_beside_a_folder_on_demand() {
    let root = Maker::new().root;
    let roots: Folder<'_> = ("--roots", &[("root.der", &root)]);
    let vendors = std::fs::read(testdata("ek/guard-oss-tpm_test-0.pem")).unwrap();
    let check = |more: &[&str], expected: &[&str]| {
        let more = [&["--allow-expired"], more].concat();
        let report = ek_certificate(&vendors, &[roots], &more).unwrap();
        assert_eq!(codes(&report.findings), expected, "{more:?}");
    };
    check(&[], &["EK_CHAIN_UNKNOWN"]);
    check(&["--vendor-roots"], &[]);
}

#[test]
fn folders_may_hold_other_files() {
    let maker = Maker::new();
    let pem = Maker::pem(&[&maker.root, &maker.between]);
    let crl_pem = pem::encode(&pem::Pem::new("X509 CRL", &maker.crl[..]));
    let files: [(&str, &[u8]); 5] = [
        ("README", b"where these are from"),
        ("cas.pem", pem.as_bytes()),
        ("empty", b""),
        ("root.crl", &maker.crl),
        ("root.crl.pem", crl_pem.as_bytes()),
    ];
    let report = ek_certificate(&maker.leaf, &[("--roots", &files)], &[]).unwrap();
    assert_eq!(codes(&report.findings), [] as [&str; 0]);
    let skipped: Vec<_> = report
        .skipped
        .iter()
        .filter_map(|path| path.rsplit('/').next())
        .collect();
    assert_eq!(skipped, ["README", "empty", "root.crl", "root.crl.pem"]);
    assert!(
        report.to_string().contains("README, which holds no certificate"),
        "{report}"
    );
    let broken = &maker.root[..maker.root.len() - 1];
    let broken_pem = pem.replacen("MII", "M*I", 1);
    for (name, content) in [
        ("broken.der", broken),
        ("broken", broken),
        ("text.crt", b"no certificate"),
        ("leaf.der", &maker.leaf),
        ("broken.pem", broken_pem.as_bytes()),
    ] {
        let files: [(&str, &[u8]); 2] = [("cas.pem", pem.as_bytes()), (name, content)];
        match ek_certificate(&maker.leaf, &[("--roots", &files)], &[]) {
            Err(CommandError::Evidence { path, .. }) => assert!(path.ends_with(name), "{path:?}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn hex_is_in_lower_case_for_programs() {
    let file = testdata("ek/guard-oss-tpm_test-0.pem");
    let Command::EkCertificate(command) = parse(&["ek-certificate", &file]) else {
        panic!("another command")
    };
    let report = serde_json::to_value(command.report(1_735_689_600).unwrap()).unwrap();
    let written = |name: &str| report[name].as_str().unwrap().to_owned();
    for name in ["manufacturer", "version"] {
        let hex = written(&format!("{name}_hex"));
        assert_eq!(hex, hex.to_lowercase());
        assert_eq!(written(name).strip_prefix("id:").unwrap().to_lowercase(), hex);
    }
}

#[test]
fn platform_certificates_are_judged() {
    let check = |certificate: &str, more: &[&str], expected: &[&str]| {
        let file = testdata(&format!("ek/platform/{certificate}"));
        let words = [&["platform-certificate", &file], more].concat();
        let Command::PlatformCertificate(command) = parse(&words) else {
            panic!("another command")
        };
        let report = command.report(1_795_392_000).unwrap();
        assert_eq!(codes(&report.findings), expected, "{certificate}");
        report
    };
    let unknown = "platform_chain_unknown";
    let report = check("lenovo.cer", &[], &[unknown]);
    let text = report.to_string();
    assert!(
        text.contains(
            "Machine       : LENOVO 20L7002BUS ThinkPad T480s\nIts number    : PF0ZAQSW_L1HF7CS001A\n"
        ),
        "{text}"
    );
    let json = serde_json::to_value(&report).unwrap();
    let serial = "1dbe16a4fc3109710ad21f2b350ffd17ba604c0c";
    assert_eq!(json["holder"]["serial_number"], serial);
    let ek = testdata("ek/hirs-nuc-1_tpmcert.pem");
    let of_other = ["--ek-certificate", &ek];
    check("lenovo.cer", &of_other, &["PLATFORM_CERTIFICATE_HOLDER", unknown]);
    check("hirs-plat_delta_cert1.pem", &[], &["PLATFORM_CERTIFICATE_DELTA"]);
    let makers = tempfile::tempdir().unwrap();
    let maker = testdata("ek/platform/IntelSigningKey_20April2017.cer");
    std::fs::copy(maker, makers.path().join("intel.cer")).unwrap();
    let roots = ["--roots", makers.path().to_str().unwrap()];
    check("lenovo.cer", &roots, &["PLATFORM_CHAIN_UNKNOWN"]);
    check("Intel_pc2.cer", &roots, &["PLATFORM_CHAIN_SIGNATURE"]);
}

#[test]
fn exits_by_what_was_found() {
    let refused = parse(&["event-log", &testdata("eventlogs/acs-tpm2bios.log")]).execute();
    assert!(
        matches!(refused, Err(CommandError::EvidenceRefused)),
        "{refused:?}"
    );
    let missing = parse(&["event-log", "/nowhere"]).execute();
    assert!(
        matches!(missing, Err(CommandError::Evidence { .. })),
        "{missing:?}"
    );
    let log = testdata("eventlogs/vm-sb-56c.bin");
    assert!(parse(&["event-log", &log, "--output", "json"]).execute().is_ok());
    let wrong = parse(&["event-log", &log, "--pcrs", &log]).execute();
    assert!(matches!(wrong, Err(CommandError::Evidence { .. })), "{wrong:?}");
}

#[test]
fn certificates_can_not_command_a_terminal() {
    let evil = || "\u{1b}[2J\u{9b}1A\r".to_owned();
    let report = ek::Report {
        issuer: evil(),
        manufacturer: evil(),
        model: evil(),
        version: evil(),
        ..ek::Report::default()
    };
    let text = report.to_string();
    assert!(
        text.lines().flat_map(str::chars).all(|char| !char.is_control()),
        "{text}"
    );
    let report = platform::Report {
        issuer: evil(),
        manufacturer: evil(),
        model: evil(),
        version: evil(),
        platform_serial: Some(evil()),
        holder: platform::Holder {
            issuer: Some(evil()),
            ..platform::Holder::default()
        },
        ..platform::Report::default()
    };
    let text = report.to_string();
    assert!(
        text.lines().flat_map(str::chars).all(|char| !char.is_control()),
        "{text}"
    );
}
