//! `audit`: the audit trail, read from its files; the server may run or not.

mod filter;
mod lead;
mod show;

use std::{
    io::{ErrorKind, IsTerminal},
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use clap::{Args, Subcommand, ValueEnum};
use svid::Timestamp;

use super::{
    CommandError, config,
    output::{self, Output},
};
use crate::journal::{Entry, ReadError, Reader};
use filter::{Filter, Filters};
use lead::{Serial, lead};

/// The audit trail: every decision the server took, one record each.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Export(Export),
    Query(Query),
    Tail(Tail),
    Verify(Verify),
}

/// Prints all records, one JSON object a line: all fields, and the hash over the record and all before it.
#[derive(Args, Debug)]
pub(super) struct Export {
    /// The form of what is printed.
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    #[command(flatten)]
    place: Place,
}

/// The form of an export.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// One JSON object a line.
    Jsonl,
}

/// Prints the records that meet all conditions, or what led to an SVID.
#[derive(Args, Debug)]
pub(super) struct Query {
    #[command(flatten)]
    filters: Filters,
    /// Says of the SVID with this serial number: which entry it is of and who registered it, which agent asked for it,
    /// on which host, and who enrolled that. Decimal as logged, or hexadecimal as openssl prints it.
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["event", "actor", "since", "until", "field"])]
    serial: Option<Serial>,
    /// `pretty` for people, `json` for programs: one object a line.
    #[arg(long, value_enum, default_value_t = Output::Pretty)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

/// Prints the last records.
#[derive(Args, Debug)]
pub(super) struct Tail {
    /// How many.
    #[arg(short = 'n', value_name = "N", default_value_t = 10)]
    number: u16,
    /// Goes on with new ones as they come.
    #[arg(long)]
    follow: bool,
    /// `pretty` for people, `json` for programs: one object a line.
    #[arg(long, value_enum, default_value_t = Output::Pretty)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

/// Checks each record and the hash chain through all of them; exits with 1 at the first that is wrong.
///
/// That the last records were cut off cannot be seen from the trail alone: compare the printed head with one that was
/// noted before, which is still a record's hash in `audit export`.
#[derive(Args, Debug)]
pub(super) struct Verify {
    /// `pretty` for people, `json` for programs.
    #[arg(long, value_enum, default_value_t = Output::Pretty)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

/// Where the trail is.
#[derive(Args, Debug)]
struct Place {
    /// The server's configuration file, which names its data directory.
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// The data directory itself; the configuration is not read then.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
}

/// How often a followed trail is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How long a record may take to be written whole.
const WRITTEN_WITHIN: Duration = Duration::from_secs(2);
/// How often progress is shown.
const PROGRESS: Duration = Duration::from_millis(200);

impl Command {
    pub(super) fn execute(self) -> Result<(), CommandError> {
        let outcome = match self {
            Self::Export(export) => export.execute(),
            Self::Query(query) => query.execute(),
            Self::Tail(tail) => tail.execute(),
            Self::Verify(verify) => verify.execute(),
        };
        match outcome {
            // Whoever read has enough.
            Err(CommandError::Print(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            outcome => outcome,
        }
    }
}

impl Export {
    fn execute(self) -> Result<(), CommandError> {
        let Format::Jsonl = self.format;
        each(&mut self.place.open()?, |entry| show::print(Output::Json, entry))
    }
}

impl Query {
    fn execute(self) -> Result<(), CommandError> {
        if let Some(serial) = &self.serial {
            let found = lead(|| self.place.open(), serial)?;
            return found.print(self.output);
        }
        let filter = Filter::of(self.filters, std::time::SystemTime::now().into())?;
        each(&mut self.place.open()?, |entry| {
            if filter.takes(&entry.record) {
                show::print(self.output, entry)
            } else {
                Ok(())
            }
        })
    }
}

impl Tail {
    fn execute(self) -> Result<(), CommandError> {
        // First how many there are, then those: only one is held at a time.
        let mut counted = self.place.open()?;
        each(&mut counted, |_| Ok(()))?;
        let after = counted.head().next.saturating_sub(u64::from(self.number));
        let mut reader = self.place.open()?;
        let print = |entry: &Entry| {
            if entry.record.sequence >= after {
                show::print(self.output, entry)?;
            }
            Ok(())
        };
        loop {
            each(&mut reader, print)?;
            if !self.follow {
                return Ok(());
            }
            sleep(LOOK);
        }
    }
}

impl Verify {
    fn execute(self) -> Result<(), CommandError> {
        let mut reader = self.place.open()?;
        let mut seen = show::Verified::default();
        let mut progress = Progress::new();
        while let Some(entry) = next_whole(&mut reader)? {
            seen.note(&entry);
            progress.show(seen.records, reader.bytes());
        }
        progress.end();
        seen.print(self.output)
    }
}

impl Place {
    fn open(&self) -> Result<Reader, CommandError> {
        let folder = self.data_dir()?.join("audit");
        Reader::open(&folder).map_err(CommandError::Audit)
    }

    fn data_dir(&self) -> Result<PathBuf, CommandError> {
        match &self.data_dir {
            Some(folder) => Ok(folder.clone()),
            None => configured(&self.config),
        }
    }
}

fn configured(path: &Path) -> Result<PathBuf, CommandError> {
    let config: config::Config = edge::config::load(path, &edge::config::Options::default())?;
    Ok(config.server.data_dir)
}

/// Has `act` see each record. A torn end is said, and is no fault: the server drops it, too.
fn each(
    reader: &mut Reader,
    mut act: impl FnMut(&Entry) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    loop {
        match next_whole(reader) {
            Ok(Some(entry)) => act(&entry)?,
            Ok(None) => return Ok(()),
            Err(error) if error.is_torn() => {
                output::note(&format!("{error}; it was never acknowledged"));
                return Ok(());
            }
            Err(error) => return Err(CommandError::Audit(error)),
        }
    }
}

/// The next record; one that is being written right now is waited for.
fn next_whole(reader: &mut Reader) -> Result<Option<Entry>, ReadError> {
    let begun = Instant::now();
    loop {
        match reader.advance() {
            Err(error) if error.is_torn() && begun.elapsed() < WRITTEN_WITHIN => sleep(LOOK),
            outcome => return outcome,
        }
    }
}

/// Says on a terminal how far a long command is.
struct Progress(Option<Instant>);

impl Progress {
    fn new() -> Self {
        Self(std::io::stderr().is_terminal().then(Instant::now))
    }

    fn show(&mut self, records: u64, bytes: u64) {
        if let Some(last) = self.0.filter(|last| last.elapsed() >= PROGRESS) {
            self.0 = last.checked_add(last.elapsed());
            output::amend(&format!("{records} records, {} MiB", bytes / (1024 * 1024)));
        }
    }

    fn end(&self) {
        if self.0.is_some() {
            output::amend("");
        }
    }
}

/// When a record was made.
fn at(nanos: i64) -> Timestamp {
    Timestamp::from_unix(nanos.div_euclid(1_000_000_000))
}

#[cfg(test)]
mod tests;
