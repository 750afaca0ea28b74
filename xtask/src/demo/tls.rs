//! TLS by a program that knows nothing of us: openssl's server and client.

use std::{
    fs,
    io::{Read, Write},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

use super::process::{Running, output, until};

/// What came of showing a certificate to the server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Shown {
    /// The server refused it.
    Refused,
    /// The server took its holder for a client that it may serve, and went on.
    Taken,
}

/// What an HTTP/2 client says first: its preface and empty settings (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Runs a TLS server and a client of it, each with the SVID that lies in `folder`; answers with what each saw.
///
/// # Errors
///
/// They don't accept each other.
pub(super) fn greet(folder: &Path) -> Result<String> {
    let mut command = openssl(folder, "s_server");
    command.args(["-accept", "127.0.0.1:0", "-Verify", "3", "-naccept", "1"]);
    let mut server = Running::spawn(&mut command, &folder.join("tls-server.log"))?;
    until(&mut server, |server| port(&server.printed()).is_some())?;
    let port = port(&server.printed()).context("openssl s_server says no port")?;
    let mut client = openssl(folder, "s_client");
    let seen = output(client.args(["-connect", &format!("127.0.0.1:{port}")]))?;
    until(&mut server, |server| verified(&server.printed()))?;
    let is_verified =
        verified(&seen).then_some("client: server's SVID verified, server: client's SVID verified");
    let tls = seen
        .lines()
        .find(|line| line.starts_with("New, TLS"))
        .unwrap_or_default();
    Ok(format!("{}\n{tls}", is_verified.context(seen.clone())?))
}

/// Shows `certificate` and `key` to the server at `address`, as a client of its API. Files of them go into `folder`.
///
/// # Errors
///
/// openssl can't be run.
pub(super) fn show(folder: &Path, address: &str, certificate: &[u8], key: &[u8]) -> Result<Shown> {
    fs::write(folder.join("shown.pem"), certificate)?;
    fs::write(folder.join("shown.key"), key)?;
    let mut client = Command::new("openssl");
    client
        .args(["s_client", "-quiet", "-tls1_3", "-alpn", "h2"])
        .args(["-cert", "shown.pem", "-key", "shown.key", "-connect", address])
        .current_dir(folder);
    client
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut client = client.spawn().context("cannot run openssl")?;
    if let Some(input) = &mut client.stdin {
        // One that can't even load the key has ended by now.
        let _told = input.write_all(PREFACE);
    }
    let mut answer = Vec::new();
    if let Some(output) = client.stdout.take() {
        output.take(1).read_to_end(&mut answer)?;
    }
    client.kill()?;
    client.wait()?;
    Ok(if answer.is_empty() {
        Shown::Refused
    } else {
        Shown::Taken
    })
}

fn openssl(folder: &Path, program: &str) -> Command {
    let mut command = Command::new("openssl");
    command
        .arg(program)
        .arg("-verify_return_error")
        .current_dir(folder);
    command.args([
        "-cert",
        "svid.0.pem",
        "-key",
        "svid.0.key",
        "-CAfile",
        "bundle.0.pem",
        "-tls1_3",
    ]);
    command
}

/// The port in `ACCEPT 127.0.0.1:4433`.
fn port(printed: &str) -> Option<u16> {
    let line = printed.lines().find_map(|line| line.strip_prefix("ACCEPT "))?;
    line.rsplit(':').next()?.trim().parse().ok()
}

fn verified(printed: &str) -> bool {
    printed.contains("Verify return code: 0 (ok)") || printed.contains("verify return:1")
}
