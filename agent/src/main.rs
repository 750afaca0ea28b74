//! The binary: does what the command line says, and says what went wrong.

use std::process::ExitCode;

use agent::cli::Cli;
use clap::Parser;

fn main() -> ExitCode {
    match Cli::parse().execute() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {}", edge::Chain(&error));
            ExitCode::FAILURE
        }
    }
}
