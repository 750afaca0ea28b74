//! The binary: does what the command line says, and says what went wrong.

use std::process::ExitCode;

use agent::cli::{Cli, CommandError};
use clap::Parser;

/// Of a TPM and files that can't be used, as of arguments that can't.
const UNUSABLE: u8 = 2;

fn main() -> ExitCode {
    if let Err(error) = tpm::silence_library() {
        eprintln!("libtss2 may write to standard error: {error}");
    }
    match Cli::parse().execute() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {}", edge::Chain(&error));
            match error {
                CommandError::Unusable(_) => ExitCode::from(UNUSABLE),
                _ => ExitCode::FAILURE,
            }
        }
    }
}
