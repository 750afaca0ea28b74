//! `config check`, which reads a configuration as `run` does.

use std::{fs, process::Command};

const TEXT: &str = "[server]\ntrust_domain = \"${DOMAIN}\"\n[plugins.node-join-token]\n";

/// What is said of `text`, where the variable `DOMAIN` is set, and whether it was accepted.
fn check(text: &str, words: &[&str]) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.toml");
    fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_plastron-server"));
    command
        .args(["config", "check", "--config"])
        .arg(&file)
        .args(words);
    let output = command.env("DOMAIN", "example.org").output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn variables_are_the_environments_if_the_operator_says_so() {
    let (accepted, said) = check(TEXT, &["--expand-env"]);
    assert!(accepted, "{said}");
    let (accepted, said) = check(TEXT, &[]);
    assert!(!accepted && said.contains("server.toml:2"), "{said}");
    let other = TEXT.replace("DOMAIN", "PLASTRON_NO_SUCH");
    let (accepted, said) = check(&other, &["--expand-env"]);
    assert!(
        !accepted && said.contains("`PLASTRON_NO_SUCH` is not set"),
        "{said}"
    );
}

#[test]
fn what_is_set_wins_and_is_checked() {
    let (accepted, said) = check(TEXT, &["--set", "server.trust_domain=example.org"]);
    assert!(accepted, "{said}");
    let wrong = ["--expand-env", "--set", "server.bind_prot=1"];
    let (accepted, said) = check(TEXT, &wrong);
    assert!(!accepted && said.contains("did you mean `bind_port`?"), "{said}");
    let unworkable = ["--expand-env", "--set", "server.ca_ttl=1h"];
    let (accepted, said) = check(TEXT, &unworkable);
    assert!(!accepted && said.contains("set ca_ttl to"), "{said}");
}

#[test]
fn the_files_of_the_ca_above_are_read() {
    let text = TEXT.replace("${DOMAIN}", "example.org");
    let upstream =
        "[plugins.upstream-disk]\ncert_file_path = \"/no/ca.crt\"\nkey_file_path = \"/no/ca.key\"\n";
    let (accepted, said) = check(&format!("{text}{upstream}"), &[]);
    assert!(!accepted, "{said}");
    for part in [
        "[plugins.upstream-disk] can't be used",
        "cert_file_path `/no/ca.crt`",
    ] {
        assert!(said.contains(part), "{said}");
    }
}
