//! The command over evidence of real machines: what is read, what is refused, and by which exit code.

use std::path::Path;

use clap::Parser;

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
    let text = std::fs::read_to_string(testdata("quotes/vm-sb-systemd.txt")).unwrap();
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
