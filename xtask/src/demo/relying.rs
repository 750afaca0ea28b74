//! Whoever verifies a program by its SVID: openssl, which knows the server's bundle, and reads its CRLs.

use std::{
    fs,
    path::Path,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{process::output, stage::Stage};

/// How long a CRL may take; an interval is two seconds.
const WITHIN: Duration = Duration::from_secs(30);
/// What openssl says of a certificate that a CRL names (X509_V_ERR_CERT_REVOKED).
const REVOKED: &str = "certificate revoked";

/// Verifies the program's SVID; answers with what openssl says.
///
/// # Errors
///
/// It refuses it.
pub(super) fn verified(stage: &Stage) -> Result<String> {
    output(&mut verify(stage)?)
}

/// Waits until the SVID is refused because a CRL names it; answers with what openssl says.
///
/// # Errors
///
/// It is taken for too long, or refused for something else.
pub(super) fn revoked(stage: &Stage) -> Result<String> {
    let begun = Instant::now();
    loop {
        match output(&mut verify(stage)?) {
            Err(error) => {
                let said = error.to_string();
                let line = said.lines().find(|line| line.contains(REVOKED));
                return Ok(line.with_context(|| said.clone())?.to_owned());
            }
            Ok(_) if begun.elapsed() > WITHIN => bail!("no CRL names the program's SVID"),
            Ok(_) => sleep(Duration::from_millis(100)),
        }
    }
}

fn verify(stage: &Stage) -> Result<Command> {
    let folder = stage.program();
    read_crls(stage, &folder.join("crls.pem"))?;
    let mut verify = Command::new("openssl");
    verify
        .args(["verify", "-crl_check", "-CAfile", "bundle.0.pem"])
        .args(["-CRLfile", "crls.pem", "svid.0.pem"])
        .current_dir(folder);
    Ok(verify)
}

/// Writes the newest CRL of each of the server's authorities to `to`.
fn read_crls(stage: &Stage, to: &Path) -> Result<()> {
    let mut all = String::new();
    for file in fs::read_dir(stage.path("server").join("crl"))? {
        let path = file?.path();
        // What is just being written lies beside under another name.
        if path.extension().is_some_and(|extension| extension == "crl") {
            let mut crl = Command::new("openssl");
            crl.args(["crl", "-inform", "DER", "-in"]).arg(path);
            all.push_str(&output(&mut crl)?);
        }
    }
    Ok(fs::write(to, all)?)
}
