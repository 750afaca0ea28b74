//! The binary: does what the command line says, and says what went wrong.

use std::process::ExitCode;

use agent::cli::Cli;
use clap::Parser;

fn main() -> ExitCode {
    if let Err(error) = tpm::silence_library() {
        eprintln!("libtss2 may write to standard error: {error}");
    }
    match Cli::parse().execute() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {}", edge::Chain(&error));
            ExitCode::FAILURE
        }
    }
}
