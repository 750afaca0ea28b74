//! Records for people and for programs.

use proto::plastron::store::v1::AuditRecord;
use serde_json::{Map, Value, json};

use super::{
    super::{
        CommandError,
        output::{self, Output, facts},
    },
    at,
};
use crate::journal::{Entry, Hash};

/// Prints a record as one line.
pub(super) fn print(form: Output, entry: &Entry) -> Result<(), CommandError> {
    let text = match form {
        Output::Json => json(entry).to_string(),
        Output::Pretty => pretty(&entry.record),
    };
    output::line_to_reader(&text)
}

/// All of a record. A field's name comes once in a record.
pub(super) fn json(entry: &Entry) -> Value {
    let record = &entry.record;
    let fields = record
        .fields
        .iter()
        .map(|field| (field.name.clone(), Value::from(field.value.as_str())));
    json!({
        "sequence": record.sequence,
        "at": time(record.at),
        "event": record.event,
        "actor": record.actor,
        "fields": fields.collect::<Map<_, _>>(),
        "hash": hex::encode(entry.hash),
    })
}

fn pretty(record: &AuditRecord) -> String {
    let head = format!("{} {} {}", at(record.at), record.sequence, word(&record.event));
    let actor = ("actor", record.actor.as_str());
    let fields = record
        .fields
        .iter()
        .map(|field| (field.name.as_str(), field.value.as_str()));
    std::iter::once(actor)
        .chain(fields)
        .fold(head, |line, (name, value)| {
            format!("{line} {}={}", word(name), word(value))
        })
}

/// Text that a peer may have written, so that it stays one word and does nothing to a terminal.
pub(super) fn word(text: &str) -> String {
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '\\' | '=');
    if !text.is_empty() && text.chars().all(is_plain) {
        text.into()
    } else {
        format!("{text:?}")
    }
}

/// RFC 3339 with nanoseconds.
fn time(nanos: i64) -> String {
    let seconds = at(nanos).to_string();
    let rest = nanos.rem_euclid(1_000_000_000);
    seconds
        .strip_suffix('Z')
        .map_or_else(|| seconds.clone(), |seconds| format!("{seconds}.{rest:09}Z"))
}

/// What `verify` found good.
#[derive(Debug, Default)]
pub(super) struct Verified {
    pub(super) records: u64,
    first: Option<(u64, i64)>,
    last: i64,
    head: Hash,
}

impl Verified {
    pub(super) fn note(&mut self, entry: &Entry) {
        self.records += 1;
        self.first.get_or_insert((entry.record.sequence, entry.record.at));
        self.last = entry.record.at;
        self.head = entry.hash;
    }

    pub(super) fn print(&self, form: Output) -> Result<(), CommandError> {
        let head = hex::encode(self.head);
        let (sequence, first) = self.first.unzip();
        match form {
            Output::Json => output::line_to_reader(
                &json!({
                    "records": self.records,
                    "first_sequence": sequence,
                    "first_at": first.map(time),
                    "last_at": first.map(|_| time(self.last)),
                    "head": head,
                })
                .to_string(),
            ),
            Output::Pretty => {
                let mut said = vec![("Records", self.records.to_string())];
                if let (Some(sequence), Some(first)) = (sequence, first) {
                    said.push(("First record", format!("{sequence}, at {}", time(first))));
                    said.push(("Last record at", time(self.last)));
                }
                said.push(("Head", head));
                output::line(&facts(&said));
                if sequence.is_some_and(|sequence| sequence > 1) {
                    output::note(
                        "The trail goes on from records that are not here: of before a restore, or moved away.",
                    );
                }
                Ok(())
            }
        }
    }
}
