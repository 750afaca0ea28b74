//! What commands print.

use std::io::Write;

use clap::ValueEnum;
use comfy_table::{Table, presets};

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

/// Facts, one a line, names aligned.
pub(super) fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    facts
        .iter()
        .map(|(name, value)| format!("{name:width$} : {value}\n"))
        .collect()
}

/// A table with a header.
pub(super) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    table.lines().map(|line| format!("{}\n", line.trim())).collect()
}
