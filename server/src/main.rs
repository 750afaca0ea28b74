//! The binary: does what the command line says, and says what went wrong.

use std::process::ExitCode;

use clap::Parser;
use server::cli::{Cli, CommandError};

/// Of a dry run that found something to do.
const DIFFERS: u8 = 2;
/// Of files that can't be used, as of arguments that can't.
const UNUSABLE: u8 = 2;

fn main() -> ExitCode {
    match Cli::parse().execute() {
        Ok(()) => ExitCode::SUCCESS,
        Err(CommandError::Differs) => ExitCode::from(DIFFERS),
        Err(error) => {
            eprintln!("Error: {}", edge::Chain(&error));
            match error {
                CommandError::Evidence { .. } => ExitCode::from(UNUSABLE),
                _ => ExitCode::FAILURE,
            }
        }
    }
}
