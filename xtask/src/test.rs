//! All tests.

use std::{ffi::OsString, path::PathBuf};

use anyhow::Result;

use crate::{
    packages,
    run::{self, Parts, cargo, run_keeping},
    tools,
};

/// Installs what the tests need, and runs them.
///
/// # Errors
///
/// Something can't be installed, built, or fails.
pub(crate) fn run_tests(parts: &mut Parts) -> Result<Vec<String>> {
    parts.part("packages", ensure_packages)?;
    parts.part("kernels", tools::kernels)?;
    let go = parts.part("go", tools::go)?;
    parts.part("build", || {
        run::run(cargo(&["test", "--workspace", "--locked", "--no-run"]).arg("--quiet"))
    })?;
    let is_result = |line: &str| line.starts_with("test result:");
    let mut results = parts.part("tests", || {
        let mut tests = cargo(&["test", "--workspace", "--locked"]);
        if let Some(go) = go {
            tests.env("PATH", before_path(go)?);
        }
        run_keeping(&mut tests, is_result)
    })?;
    // What is off by default, where it is: the crates above are not built again for it.
    results.extend(parts.part("features", || {
        let words = [
            "test",
            "--locked",
            "-p",
            "edge",
            "--lib",
            "--features",
            "otlp",
            "otlp",
        ];
        run_keeping(&mut cargo(&words), is_result)
    })?);
    Ok(results)
}

fn ensure_packages() -> Result<()> {
    packages::ensure(&[packages::BUILD, packages::TEST, packages::GUESTS].concat())
}

/// `cargo xtask guests`.
///
/// # Errors
///
/// Something can't be installed or downloaded.
pub(crate) fn guests() -> Result<()> {
    ensure_packages()?;
    tools::kernels()
}

fn before_path(folder: PathBuf) -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    Ok(std::env::join_paths(
        std::iter::once(folder).chain(std::env::split_paths(&path)),
    )?)
}

/// `cargo xtask test`.
///
/// # Errors
///
/// As [`run_tests`].
pub(crate) fn run() -> Result<()> {
    let mut parts = Parts::default();
    let results = run_tests(&mut parts)?;
    println!("\n{parts}\n{}", results.join("\n"));
    Ok(())
}
