//! Tools that no package of Debian brings: built once, into the target folder.

use std::{path::Path, process::Command};

use anyhow::Result;

use crate::run::{cargo, root, run};

/// The version that `deny.toml` was written for.
const DENY: &str = "0.20.2";

/// Licences, sources and banned crates, as `deny.toml` says; known vulnerabilities where their list can be had.
///
/// # Errors
///
/// A dependency is not allowed, or the tool can't be built.
pub(crate) fn deny() -> Result<()> {
    let tools = root().join("target/tools").join(format!("cargo-deny-{DENY}"));
    let tool = tools.join("bin/cargo-deny");
    if !tool.exists() {
        println!("Building cargo-deny {DENY}, once");
        let version = format!("cargo-deny@{DENY}");
        let install = [
            "install",
            "--quiet",
            "--locked",
            "--debug",
            "--no-default-features",
            &version,
            "--root",
        ];
        run(cargo(&install)
            .arg(&tools)
            .env("CARGO_TARGET_DIR", tools.join("target")))?;
        // Objects of some gigabytes that nothing needs any more.
        std::fs::remove_dir_all(tools.join("target"))?;
    }
    let locked = ["--locked", "--workspace"];
    run(in_root(&tool).args(locked).args([
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ]))?;
    if run(in_root(&tool).args(["fetch", "db"])).is_err() {
        println!("advisories NOT CHECKED: their database can't be reached");
        return Ok(());
    }
    run(in_root(&tool)
        .args(locked)
        .args(["check", "--disable-fetch", "advisories"]))
}

fn in_root(tool: &Path) -> Command {
    let mut command = Command::new(tool);
    command.current_dir(root());
    command
}
