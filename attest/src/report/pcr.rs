//! PCRs as a log or a list leaves them, beside what they hold.

use std::fmt;

use serde::Serialize;

use crate::{Digest, HashAlg, PcrValues};

/// A PCR.
#[derive(Clone, Debug, Serialize)]
pub struct PcrRow {
    /// The bank.
    pub bank: String,
    /// The PCR.
    pub index: u8,
    /// What the events leave in it.
    pub value: String,
    /// Whether it holds that.
    pub compared: Comparison,
    /// What it holds, where that is known and something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actual: Option<String>,
}

/// What a replayed PCR is worth.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Comparison {
    /// It holds something else.
    Differs,
    /// It holds that.
    Equal,
    /// What it holds is not known: that it is this is the word of whoever wrote the log.
    Unproven,
}

impl PcrRow {
    /// A PCR that holds `actual`, if that is known.
    pub(super) fn compared(alg: HashAlg, index: u8, value: &Digest, actual: Option<&Digest>) -> Self {
        let other = actual.filter(|actual| *actual != value);
        Self {
            bank: alg.to_string(),
            index,
            value: value.to_string(),
            compared: match (actual, other) {
                (None, _) => Comparison::Unproven,
                (Some(_), None) => Comparison::Equal,
                (Some(_), Some(_)) => Comparison::Differs,
            },
            actual: other.map(ToString::to_string),
        }
    }

    /// PCRs of which nobody knows what they hold.
    pub(super) fn unproven(replayed: &PcrValues) -> impl Iterator<Item = Self> {
        replayed
            .iter()
            .map(|(alg, index, value)| Self::compared(alg, index, value, None))
    }
}

impl fmt::Display for PcrRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.compared {
            Comparison::Differs => "",
            Comparison::Equal => " equal",
            Comparison::Unproven => " unproven",
        };
        writeln!(f, "{:6} PCR {:2} : {}{mark}", self.bank, self.index, self.value)?;
        if let Some(actual) = &self.actual {
            writeln!(f, "         holds : {actual}")?;
        }
        Ok(())
    }
}
