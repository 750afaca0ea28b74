//! What a copy of a host's disk is worth on another machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use swtpm_tests::Machine;

use super::{
    keys::{Found, files},
    process::{Running, output, until},
    program,
    stage::{Stage, workload},
    tls::{self, Shown},
};

/// Copies what the agent has on its disk, while the SVID of the program is valid; answers with what there is.
pub(super) fn copy(stage: &Stage) -> Result<String> {
    let copy = stage.path("copy");
    let copied = files(&stage.host())?;
    for file in &copied {
        let to = copy.join(file);
        fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
        fs::copy(stage.host().join(file), to)?;
    }
    let mut valid = Command::new("openssl");
    valid
        .args(["x509", "-noout", "-enddate", "-checkend", "0", "-in"])
        .arg(stage.program().join("svid.0.pem"));
    let valid = output(&mut valid)?;
    let end = valid.lines().find_map(|line| line.strip_prefix("notAfter="));
    Ok(format!(
        "copied: {}\nSVID of the program is valid until {}",
        names(&copied),
        end.context("openssl says no end")?
    ))
}

/// Starts an agent on the copy, with the TPM of `thief`, and waits for what the server says; answers with that.
pub(super) fn start_agent(stage: &Stage, thief: &Machine) -> Result<(Running, String)> {
    let socket = stage.path("copy").join("agent.sock");
    let mut agent = Running::spawn(&mut agent_on_copy(stage, thief, &socket), &stage.path("copy.log"))?;
    until(&mut agent, |agent| {
        refusal(&agent.printed()).is_some() && socket.exists()
    })?;
    let refusal = refusal(&agent.printed()).unwrap_or_default();
    let fetched = output(&mut workload(
        &socket,
        &["api", "fetch", "x509", "--timeout", "2s"],
    ));
    let nothing = match fetched {
        Ok(fetched) => bail!("the copy got an SVID:\n{fetched}"),
        Err(error) => error.to_string(),
    };
    let nothing = nothing.lines().last().unwrap_or_default();
    let text = format!("its agent: {refusal}\na program on it: {nothing}");
    Ok((agent, text))
}

/// What the agent's log says of a server that does not know the TPM.
fn refusal(log: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains("host_pending"))?;
    let (_, error) = line.split_once("error=")?;
    let (error, _) = error.split_once(" retry_in=")?;
    Some(error.into())
}

fn agent_on_copy(stage: &Stage, thief: &Machine, socket: &Path) -> Command {
    let copy = stage.path("copy");
    let mut run = program("plastron-agent");
    run.arg("run").arg("--config").arg(copy.join("agent.toml"));
    let places = [
        ("agent.socket_path", socket.to_owned()),
        ("agent.data_dir", copy.join("data")),
        ("agent.trust_bundle_path", copy.join("bundle.pem")),
        ("plugins.node-tpm.device", thief.proxy.tcti().into()),
        ("plugins.node-tpm.event_log_path", thief.event_log().into()),
    ];
    for (key, value) in places {
        run.arg("--set").arg(format!("{key}={}", value.display()));
    }
    run
}

/// Searches the copy for private keys, and shows the server each; answers with what came of it.
///
/// # Errors
///
/// A key is worth something. Or the search is: it finds no key where there is one, and the server takes none.
pub(super) fn use_keys(stage: &Stage) -> Result<String> {
    let found = Found::within(&stage.path("copy"))?;
    if let Some(file) = found.jwks.first() {
        bail!("`{}` in the copy holds a private JSON Web Key", file.display());
    }
    if let Some(file) = key_taken(stage, &found)? {
        bail!("the server takes a key in `{}` of the copy", file.display());
    }
    let control = Found::within(&stage.program())?;
    let taken = key_taken(stage, &control)?;
    let taken =
        taken.context("the search finds nothing where the program has its key, so it proves nothing")?;
    Ok(format!(
        "files: {}\nprivate keys: {}; certificates: {}\n\
         control: the same search finds the program's own {}, and the server takes that",
        names(&found.files),
        keys_in(&found),
        found.certificates.len(),
        taken.display()
    ))
}

/// The file of a key that the server takes with any of the certificates.
fn key_taken(stage: &Stage, found: &Found) -> Result<Option<PathBuf>> {
    for (key, file) in &found.keys {
        for certificate in &found.certificates {
            let shown = tls::show(&stage.path(""), &stage.address(), certificate, key)?;
            if shown == Shown::Taken {
                return Ok(Some(file.clone()));
            }
        }
    }
    Ok(None)
}

fn keys_in(found: &Found) -> String {
    if found.keys.is_empty() {
        return "none".into();
    }
    let files: Vec<_> = found.keys.values().cloned().collect();
    format!("{}, each refused", names(&files))
}

fn names(files: &[PathBuf]) -> String {
    let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    names.join(", ")
}
