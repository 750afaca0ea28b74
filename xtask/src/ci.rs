//! Everything that a change has to pass.

use anyhow::Result;

use crate::{
    fuzz, packages,
    run::{self, Parts, cargo},
    test, tools,
};

/// As a user runs it: a process each.
fn demonstrate() -> Result<()> {
    run::run(&mut cargo(&[
        "run",
        "--quiet",
        "--locked",
        "--package",
        "xtask",
        "--",
        "demo",
    ]))
}

/// Minutes of fuzzing: long enough to find what is shallow. `cargo xtask fuzz --minutes` is for the rest.
const FUZZING: f64 = 4.0;

/// `cargo xtask ci`.
///
/// # Errors
///
/// The first part that fails.
pub(crate) fn run() -> Result<()> {
    let mut parts = Parts::default();
    parts.part("format", || run::run(&mut cargo(&["fmt", "--all", "--check"])))?;
    parts.part("packages", || packages::ensure(packages::BUILD))?;
    parts.part("dependencies", tools::deny)?;
    let results = test::run_tests(&mut parts)?;
    // A second run has to work, too.
    parts.part("demonstration", || (0..2).try_for_each(|_| demonstrate()))?;
    parts.part("fuzzing", || fuzz::run(&fuzz::Options::minutes(FUZZING)))?;
    parts.part("lints", || {
        lint(&["--workspace"])?;
        lint(&["-p", "edge", "--features", "otlp"])
    })?;
    parts.part("documents", || {
        run::run(
            cargo(&["doc", "--workspace", "--no-deps", "--locked", "--quiet"])
                .env("RUSTDOCFLAGS", "-D warnings"),
        )
    })?;
    println!("\n{parts}\n{}", results.join("\n"));
    Ok(())
}

fn lint(of: &[&str]) -> Result<()> {
    let mut clippy = cargo(&["clippy", "--all-targets", "--locked", "--quiet"]);
    run::run(clippy.args(of).args(["--", "-D", "warnings"]))
}
