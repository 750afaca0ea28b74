//! Which records are asked for.

use std::str::FromStr;

use clap::Args;
use proto::plastron::store::v1::AuditRecord;
use svid::Timestamp;

use super::super::CommandError;

/// Conditions, all of which a record has to meet.
#[derive(Args, Debug, Default)]
pub(super) struct Filters {
    /// Records of this event, such as svid_issued.
    #[arg(long)]
    event: Option<String>,
    /// Records of what this one caused: a SPIFFE ID, an address, `server`.
    #[arg(long)]
    actor: Option<String>,
    /// Records from this time on: RFC 3339, as 2026-11-01T08:00:00Z, or so long ago, as 1h.
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Records before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// Records with this field; may be repeated. Example: --field entry_id=web
    #[arg(long, value_name = "NAME=VALUE")]
    field: Vec<Field>,
}

/// A time, or how long ago.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moment {
    Ago(std::time::Duration),
    At(Timestamp),
}

/// A field and what it holds.
#[derive(Clone, Debug)]
pub(super) struct Field {
    name: String,
    value: String,
}

/// The same, as of now.
#[derive(Debug)]
pub(super) struct Filter {
    event: Option<String>,
    actor: Option<String>,
    since: i64,
    until: i64,
    fields: Vec<Field>,
}

impl Filter {
    pub(super) fn of(filters: Filters, now: Timestamp) -> Result<Self, CommandError> {
        let since = filters.since.map_or(i64::MIN, |moment| moment.nanos(now));
        let until = filters.until.map_or(i64::MAX, |moment| moment.nanos(now));
        if since > until {
            return Err(CommandError::Input("--since is after --until".into()));
        }
        Ok(Self {
            event: filters.event,
            actor: filters.actor,
            since,
            until,
            fields: filters.field,
        })
    }

    pub(super) fn takes(&self, record: &AuditRecord) -> bool {
        let is = |asked: &Option<String>, found: &str| asked.as_ref().is_none_or(|asked| asked == found);
        is(&self.event, &record.event)
            && is(&self.actor, &record.actor)
            && (self.since..self.until).contains(&record.at)
            && self
                .fields
                .iter()
                .all(|field| value(record, &field.name) == Some(&field.value))
    }
}

/// What a record says under `name`.
pub(super) fn value<'a>(record: &'a AuditRecord, name: &str) -> Option<&'a str> {
    let mut fields = record.fields.iter();
    fields
        .find(|field| field.name == name)
        .map(|field| field.value.as_str())
}

impl Moment {
    fn nanos(self, now: Timestamp) -> i64 {
        let at = match self {
            Self::Ago(duration) => now.minus(duration),
            Self::At(time) => time,
        };
        at.as_unix().saturating_mul(1_000_000_000)
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(duration) = humantime::parse_duration(text) {
            return Ok(Self::Ago(duration));
        }
        match humantime::parse_rfc3339_weak(text) {
            Ok(time) => Ok(Self::At(time.into())),
            Err(_) => Err("write a time as 2026-11-01T08:00:00Z, or how long ago as 1h".into()),
        }
    }
}

impl FromStr for Field {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
        Ok(Self {
            name: name.into(),
            value: value.into(),
        })
    }
}
