//! Man pages, as the programs write them of themselves.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use clap::Args;

use crate::run::{self, cargo, root};

/// What is packaged, by the names of programs.
pub(crate) const PROGRAMS: [&str; 2] = ["plastron-agent", "plastron-server"];

/// Which programs.
#[derive(Args)]
pub(crate) struct Options {
    /// Profile to build the programs with.
    #[arg(long, default_value = "dev")]
    profile: String,
}

/// `cargo xtask man`.
///
/// # Errors
///
/// The programs can't be built, or the pages can't be written.
pub(crate) fn run(options: &Options) -> Result<()> {
    let programs = build(&options.profile)?;
    let folder = root().join("target/man");
    for program in PROGRAMS {
        write(&programs.join(program), &folder)?;
    }
    println!("The pages are in {}", folder.display());
    Ok(())
}

/// Builds both programs, and says in which folder they are.
///
/// # Errors
///
/// They can't be built.
pub(crate) fn build(profile: &str) -> Result<PathBuf> {
    let words = [
        "build",
        "--locked",
        "--quiet",
        "-p",
        "server",
        "-p",
        "agent",
        "--profile",
        profile,
    ];
    run::run(&mut cargo(&words))?;
    let folder = if profile == "dev" { "debug" } else { profile };
    Ok(target()?.join(folder))
}

/// Cargo's folder, wherever this machine has it.
fn target() -> Result<PathBuf> {
    let output = cargo(&["metadata", "--locked", "--no-deps", "--format-version=1"]).output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let folder = metadata
        .get("target_directory")
        .and_then(serde_json::Value::as_str);
    Ok(folder.context("cargo does not say where it builds")?.into())
}

/// Has `program` write its pages into `folder`.
///
/// # Errors
///
/// It can't.
pub(crate) fn write(program: &Path, folder: &Path) -> Result<()> {
    run::run(Command::new(program).arg("man-pages").arg(folder))
}
