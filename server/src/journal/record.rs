//! What a record says.

use prost::Message;
use proto::plastron::store::v1 as stored;

/// One decision: a stable event name, who caused it, and facts by name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    event: &'static str,
    actor: String,
    fields: Vec<(&'static str, String)>,
}

impl Record {
    /// A record of `event`, caused by `actor`.
    #[must_use]
    pub fn new(event: &'static str, actor: &impl ToString) -> Self {
        Self {
            event,
            actor: actor.to_string(),
            fields: Vec::new(),
        }
    }

    /// Adds a fact. Never a secret.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &impl ToString) -> Self {
        self.fields.push((name, value.to_string()));
        self
    }

    /// Which event it is.
    #[must_use]
    pub const fn event(&self) -> &'static str {
        self.event
    }

    /// Who caused it.
    #[must_use]
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// The facts, by name.
    pub fn facts(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.fields.iter().map(|(name, value)| (*name, value.clone()))
    }

    pub(super) fn encode(self, sequence: u64, at: i64) -> Vec<u8> {
        let fields = self.fields.into_iter().map(|(name, value)| stored::Field {
            name: name.into(),
            value,
        });
        let record = stored::AuditRecord {
            sequence,
            at,
            event: self.event.into(),
            actor: self.actor,
            fields: fields.collect(),
        };
        record.encode_to_vec()
    }
}
