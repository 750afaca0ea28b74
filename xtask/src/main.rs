//! Chores of the house: `cargo xtask --help`.

mod bench;
mod ci;
mod deb;
mod demo;
mod fuzz;
mod man;
mod packages;
mod run;
mod test;
mod tools;

use std::process::ExitCode;

use clap::Parser;

/// Chores of Plastron. Each installs what it needs, and says what.
#[derive(Parser)]
enum Chore {
    /// What calls cost a server and an agent in processor time: a release build, and minutes of measuring.
    Bench {
        /// For `plastron-load`, such as `-- --only Mint --runs 3`.
        #[arg(last = true)]
        words: Vec<String>,
    },
    /// All tests, and every check that a change has to pass: format, lints, documents, dependencies.
    Ci,
    /// Debian packages of both programs, into target/debian.
    Deb(deb::Options),
    /// The main job, end to end on this machine: a host gets an identity, and a program on it uses one.
    Demo,
    /// Fuzzing of every parser.
    Fuzz(fuzz::Options),
    /// What tests need whose guests boot for real, and nothing else: packages, and kernels into target/tools.
    Guests,
    /// Man pages of both programs, into target/man.
    Man(man::Options),
    /// All tests.
    Test,
}

fn main() -> ExitCode {
    let outcome = match Chore::parse() {
        Chore::Bench { words } => bench::bench(&words),
        Chore::Ci => ci::run(),
        Chore::Deb(options) => deb::run(&options),
        Chore::Demo => demo::demo(),
        Chore::Fuzz(options) => fuzz::run(&options),
        Chore::Guests => test::guests(),
        Chore::Man(options) => man::run(&options),
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
