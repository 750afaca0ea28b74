//! Chores of the house: `cargo xtask --help`.

mod ci;
mod packages;
mod run;
mod test;
mod tools;

use std::process::ExitCode;

use clap::Parser;

/// Chores of Plastron. Each installs what it needs, and says what.
#[derive(Parser)]
enum Chore {
    /// All tests, and every check that a change has to pass: format, lints, documents, dependencies.
    Ci,
    /// All tests.
    Test,
}

fn main() -> ExitCode {
    let outcome = match Chore::parse() {
        Chore::Ci => ci::run(),
        Chore::Test => test::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
