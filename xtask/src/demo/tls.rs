//! Two programs that know nothing of us, and authenticate each other with SVIDs: openssl's server and client.

use std::{path::Path, process::Command};

use anyhow::{Context, Result};

use super::process::{Running, output, until};

/// Runs a TLS server and a client of it, each with the SVID that lies in `folder`; answers with what each saw.
///
/// # Errors
///
/// They don't accept each other.
pub(super) fn greet(folder: &Path) -> Result<String> {
    let log = folder.join("tls-server.log").display().to_string();
    let mut command = openssl(folder, "s_server");
    command.args(["-accept", "127.0.0.1:0", "-Verify", "3", "-naccept", "1"]);
    let server = Running::spawn("openssl s_server", &mut command, &log)?;
    until(&server, || port(&server.printed()).is_some())?;
    let port = port(&server.printed()).context("openssl s_server says no port")?;
    let mut client = openssl(folder, "s_client");
    let seen = output(client.args(["-connect", &format!("127.0.0.1:{port}")]))?;
    until(&server, || verified(&server.printed()))?;
    let is_verified =
        verified(&seen).then_some("client: server's SVID verified, server: client's SVID verified");
    let tls = seen
        .lines()
        .find(|line| line.starts_with("New, TLS"))
        .unwrap_or_default();
    Ok(format!("{}\n{tls}", is_verified.context(seen.clone())?))
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
