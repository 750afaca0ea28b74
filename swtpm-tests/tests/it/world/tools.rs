//! What the agent's command line says of a TPM, without a server: findings, and exit codes.

use std::{path::Path, process::Output};

use attest::HashAlg;
use serde_json::Value;
use swtpm_tests::{Machine, Options, agent_outcome};

/// Runs `plastron-agent tpm WORD` on a machine, with this event log; gives its exit code and what it printed.
fn tool(machine: &Machine, word: &str, log: &Path) -> (Option<i32>, Value) {
    let (tcti, log) = (machine.proxy.tcti(), log.to_str().unwrap());
    let words = [
        "tpm",
        word,
        "--device",
        &tcti,
        "--event-log",
        log,
        "--output",
        "json",
    ];
    let Output { status, stdout, .. } = agent_outcome(&words);
    let said = serde_json::from_slice(&stdout).unwrap_or_default();
    (status.code(), said)
}

/// The checks by which something is refused, with their codes.
fn refused(said: &Value) -> Vec<(u64, &str)> {
    let findings = said["findings"].as_array().unwrap().iter();
    let refused = findings.filter(|finding| finding["verdict"] == "refused");
    refused
        .map(|finding| {
            (
                finding["check"].as_u64().unwrap(),
                finding["code"].as_str().unwrap(),
            )
        })
        .collect()
}

/// The PCRs of which the log says something else than the TPM.
fn mismatches(info: &Value) -> Vec<(&str, u64)> {
    let pcrs = info["pcrs"].as_array().unwrap().iter();
    let differ = pcrs.filter(|pcr| pcr["event_log_value"].is_string());
    differ
        .map(|pcr| (pcr["bank"].as_str().unwrap(), pcr["index"].as_u64().unwrap()))
        .collect()
}

#[test]
fn tpm_info_says_whether_the_log_explains_the_pcrs() {
    let machine = Machine::boot();
    let info = || tool(&machine, "info", machine.event_log());

    let (code, good) = info();
    assert_eq!((code, refused(&good)), (Some(0), vec![]), "{good}");
    assert_eq!(good["event_log"]["problem"], "", "{good}");
    assert_eq!(good["secure_boot"]["on"], true, "{good}");
    assert_eq!(mismatches(&good), []);

    machine.tpm.extend(7, HashAlg::Sha256, &[1; 32]);
    let (code, bad) = info();
    assert_eq!(
        (code, refused(&bad)),
        (Some(1), vec![(46, "log_mismatch")]),
        "{bad}"
    );
    assert_eq!(mismatches(&bad), [("sha256", 7)]);
    assert!(bad["secure_boot"].is_null(), "what PCR 7 does not prove: {bad}");
}

#[test]
fn all_active_banks_are_read_and_compared() {
    let machine = Machine::with(Options {
        banks: vec![HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha512],
        ..Options::default()
    });
    let log = || tool(&machine, "log", machine.event_log());
    let (code, good) = log();
    assert_eq!((code, refused(&good)), (Some(0), vec![]), "{good}");
    let rows = good["pcrs"].as_array().unwrap();
    let banks = ["sha1", "sha256"].map(|bank| rows.iter().filter(|row| row["bank"] == bank).count());
    assert_eq!(banks, [24, 24], "{good}");
    assert!(rows.iter().all(|row| row["compared"] == "equal"), "{good}");

    machine.tpm.extend(4, HashAlg::Sha1, &[1; 20]);
    let (code, bad) = log();
    assert_eq!(
        (code, refused(&bad)),
        (Some(1), vec![(46, "log_mismatch")]),
        "{bad}"
    );
    let (_, info) = tool(&machine, "info", machine.event_log());
    assert_eq!(mismatches(&info), [("sha1", 4)]);
}

#[test]
fn a_bank_that_is_not_active_is_shown_as_the_logs_own_word() {
    let machine = Machine::boot();
    let (_, said) = tool(&machine, "log", machine.event_log());
    let rows = said["pcrs"].as_array().unwrap();
    let is_right = |row: &Value| (row["bank"] == "sha256") == (row["compared"] == "equal");
    assert!(rows.iter().all(is_right), "{said}");
    assert!(rows.iter().any(|row| row["compared"] == "unproven"), "{said}");
}

#[test]
fn exit_codes_tell_what_is_refused_from_what_can_not_be_read() {
    let machine = Machine::boot();
    let folder = machine.event_log().parent().unwrap();
    let (garbage, missing) = (folder.join("garbage"), folder.join("nowhere"));
    std::fs::write(&garbage, [7; 100]).unwrap();
    for word in ["info", "log"] {
        let (code, said) = tool(&machine, word, &garbage);
        assert_eq!(
            (code, refused(&said)),
            (Some(1), vec![(45, "log_malformed")]),
            "{word}: {said}"
        );
        let (code, said) = tool(&machine, word, &missing);
        assert_eq!(code, Some(2), "{word}: {said}");
    }
    let (_, info) = tool(&machine, "info", &missing);
    assert_ne!(
        info["event_log"]["problem"], "",
        "the rest is said all the same: {info}"
    );
    machine.proxy.cut();
    for word in ["info", "log"] {
        assert_eq!(tool(&machine, word, machine.event_log()).0, Some(2), "{word}");
    }
}

#[test]
fn tpm_quote_is_what_the_server_verifies_and_tpm_log_what_explains_it() {
    let machine = Machine::boot();
    let (tcti, log) = (
        machine.proxy.tcti(),
        machine.event_log().to_str().unwrap().to_owned(),
    );
    let folder = machine.event_log().parent().unwrap();
    let path = |name: &str| folder.join(name);
    let nonce = "5a".repeat(32);
    let made = swtpm_tests::agent_cli(&[
        "tpm",
        "quote",
        "--device",
        &tcti,
        "--trust-domain",
        "example.org",
        "--nonce",
        &nonce,
        "--folder",
        folder.to_str().unwrap(),
    ]);
    assert_eq!(made["nonce"], nonce.as_str(), "{made}");

    let verify = |nonce: &str| {
        let captured = attest::report::Captured {
            ak: &std::fs::read(path("ak.pub")).unwrap(),
            quote: &std::fs::read(path("quote.bin")).unwrap(),
            signature: &std::fs::read(path("quote.sig")).unwrap(),
            nonce: &hex::decode(nonce).unwrap(),
        };
        let log = std::fs::read(&log).unwrap();
        let beside = attest::report::Beside {
            event_log: Some(&log),
            ..attest::report::Beside::default()
        };
        let report = attest::report::QuoteReport::of(&captured, &beside);
        let refused = report
            .findings
            .into_iter()
            .filter(|finding| finding.verdict == attest::report::Verdict::Refused);
        refused.map(|finding| finding.code).collect::<Vec<_>>()
    };
    assert_eq!(verify(&nonce), [] as [&str; 0]);
    assert_eq!(verify(&"5b".repeat(32)), ["extra_data"]);

    let logged = swtpm_tests::agent_cli(&["tpm", "log", "--device", &tcti, "--event-log", &log]);
    assert!(!logged["events"].as_array().unwrap().is_empty(), "{logged}");
    let findings = logged["findings"].as_array().unwrap();
    assert!(
        findings.iter().all(|finding| finding["verdict"] == "noted"),
        "{logged}"
    );
}
