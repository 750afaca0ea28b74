//! PCRs by value, in whichever banks the host has.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{
    Difference, DifferenceKind, Differences, Evidence, Reference, difference::one_of, evidence::Measured,
};

/// The values that a PCR may have.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct PcrRule {
    /// Which PCR, of 24.
    pub index: u8,
    /// Its values. Each bank that both the host and this list have has to have one of them.
    pub values: BTreeSet<Reference>,
    /// What it was extended by on the way to one of them. Nothing is decided by this: it names the event that differs.
    #[serde(default)]
    pub events: Vec<Reference>,
}

impl PcrRule {
    pub(super) fn check(&self, evidence: &Evidence<'_>, differences: &mut Differences) {
        let of_bank = |alg| {
            let value = evidence.values().get(alg, self.index)?;
            Reference::new(alg, value.as_bytes())
        };
        let has_values = |value: &Reference| self.values.iter().any(|known| known.alg() == value.alg());
        let found: Vec<_> = evidence.algs().filter_map(of_bank).collect();
        let Some(first) = found.first() else {
            return differences.not_proven(self.index);
        };
        let mut compared = found.iter().filter(|value| has_values(value)).peekable();
        if compared.peek().is_none() {
            // No bank in common: nothing is allowed that can be found.
            return self.name(first, evidence, differences);
        }
        if let Some(other) = compared.find(|value| !self.values.contains(value)) {
            self.name(other, evidence, differences);
        }
    }

    fn name(&self, found: &Reference, evidence: &Evidence<'_>, differences: &mut Differences) {
        differences.push(Difference {
            kind: DifferenceKind::Pcr,
            subject: format!("PCR {} of bank {}", self.index, found.alg()),
            expected: one_of(&self.values),
            found: found.to_string(),
            event: None,
        });
        let Some(events) = evidence.events(self.index).filter(|_| !self.events.is_empty()) else {
            return;
        };
        for (wanted, found) in align(&self.events, &events) {
            differences.push(Difference {
                kind: DifferenceKind::Pcr,
                subject: format!("event in PCR {}", self.index),
                expected: wanted.map_or_else(|| "none".into(), Reference::to_string),
                found: found.map_or_else(|| "none".into(), |event| shown(event, &self.events)),
                event: found.map(Measured::place),
            });
        }
    }
}

fn shown(event: &Measured<'_>, wanted: &[Reference]) -> String {
    event.digest(wanted.first().map_or(crate::HashAlg::Sha256, Reference::alg))
}

/// What is between the events that both have at their beginning and at their end.
fn align<'a, 'b, 'c>(
    wanted: &'a [Reference],
    found: &'b [Measured<'c>],
) -> Vec<(Option<&'a Reference>, Option<&'b Measured<'c>>)> {
    let is_same = |(wanted, found): &(&Reference, &Measured<'_>)| found.is(wanted);
    let front = wanted.iter().zip(found).take_while(is_same).count();
    let (wanted, found) = (
        wanted.get(front..).unwrap_or_default(),
        found.get(front..).unwrap_or_default(),
    );
    let back = wanted
        .iter()
        .rev()
        .zip(found.iter().rev())
        .take_while(is_same)
        .count();
    let (wanted_len, found_len) = (wanted.len() - back, found.len() - back);
    (0..wanted_len.max(found_len))
        .map(|at| {
            (
                wanted.get(at).filter(|_| at < wanted_len),
                found.get(at).filter(|_| at < found_len),
            )
        })
        .filter(|pair| !matches!(pair, (Some(wanted), Some(found)) if found.is(wanted)))
        .collect()
}
