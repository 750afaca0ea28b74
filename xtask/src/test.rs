//! All tests.

use anyhow::Result;

use crate::{
    packages,
    run::{self, Parts, cargo, run_keeping},
};

/// Installs what the tests need, and runs them.
///
/// # Errors
///
/// Something can't be installed, built, or fails.
pub(crate) fn run_tests(parts: &mut Parts) -> Result<Vec<String>> {
    parts.part("packages", || {
        packages::ensure(&[packages::BUILD, packages::TEST].concat())
    })?;
    parts.part("build", || {
        run::run(cargo(&["test", "--workspace", "--locked", "--no-run"]).arg("--quiet"))
    })?;
    parts.part("tests", || {
        run_keeping(&mut cargo(&["test", "--workspace", "--locked"]), |line| {
            line.starts_with("test result:")
        })
    })
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
