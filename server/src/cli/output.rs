//! What commands print.

use std::{
    io::{IsTerminal, Write},
    path::Path,
};

use clap::ValueEnum;

use super::CommandError;

/// The form of what is printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    Pretty,
    /// For programs.
    Json,
}

impl Output {
    /// Prints `message`, whose protobuf name is `name`; `pretty` is for people.
    pub(super) fn print(
        self,
        name: &'static str,
        message: &impl prost::Message,
        pretty: impl FnOnce() -> String,
    ) -> Result<(), CommandError> {
        let text = match self {
            Self::Json => edge::json::pretty(&edge::json::print(name, message)?)?,
            Self::Pretty => pretty(),
        };
        line(&text);
        Ok(())
    }
}

/// Prints a line. A reader who went away is no error.
pub(super) fn line(text: &str) {
    let _closed = writeln!(std::io::stdout(), "{}", text.trim_end());
}

/// Prints one of many lines. Where nobody reads on, or the disk is full, the rest need not be made.
pub(super) fn line_to_reader(text: &str) -> Result<(), CommandError> {
    writeln!(std::io::stdout(), "{text}").map_err(CommandError::Print)
}

/// Shows on a terminal the newest state of a long command.
pub(super) fn amend(text: &str) {
    let _closed = write!(std::io::stderr(), "\r\x1b[K{text}");
}

/// Says something beside what is printed, for whoever looks.
pub(super) fn note(text: &str) {
    let _closed = writeln!(std::io::stderr(), "{text}");
}

/// Says on a terminal how far a long command is.
pub(super) fn progress(what: &str, done: usize, all: usize) {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        let end = if done < all { "" } else { "\n" };
        let _closed = write!(stderr, "\r{done} of {all} {what}{end}");
    }
}

/// Facts, one a line, names aligned.
pub(super) fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    facts
        .iter()
        .map(|(name, value)| format!("{name:width$} : {value}\n"))
        .collect()
}

/// Puts `text` into a file with these permissions.
pub(super) fn write(path: &Path, text: &str, mode: u32) -> Result<(), CommandError> {
    edge::file::replace(path, text.as_bytes(), mode).map_err(|source| CommandError::File {
        path: path.into(),
        source,
    })
}
