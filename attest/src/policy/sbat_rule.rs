//! The revocations of boot loaders that shim goes by (PCR 7).

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;

use super::{Difference, DifferenceKind, Differences, Evidence, difference::EventPlace, evidence::Measured};
use crate::event_log::SbatLevel;

/// The least level of SBAT: of each component, such as `shim` or `grub`, the generation below which nothing starts.
///
/// Each level that was measured has to reach it. It means something only beside a rule that says which boot loader may
/// start: one that knows no SBAT measures no level, and what runs after it can pretend one.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(transparent)]
pub struct SbatRule(pub BTreeMap<String, u32>);

impl SbatRule {
    pub(super) fn check(&self, evidence: &Evidence<'_>, differences: &mut Differences) {
        let (Some(measurements), Some(events)) = (evidence.measurements(7), evidence.events(7)) else {
            return differences.not_proven(7);
        };
        let levels = match SbatLevel::all(measurements) {
            Ok(levels) => levels,
            Err(reject) => return differences.push(self.difference(reject.to_string(), None)),
        };
        if levels.is_empty() {
            differences.push(self.difference("none that was measured".into(), None));
        }
        let is_met = |level: &&SbatLevel<'_>| {
            let reaches =
                |(name, least): (&String, &u32)| level.generation(name).is_some_and(|found| found >= *least);
            self.0.iter().all(reaches)
        };
        for level in levels.iter().filter(|level| !is_met(level)) {
            let event = events.iter().find(|event| event.index == level.index);
            differences.push(self.difference(level.to_string(), event.map(Measured::place)));
        }
    }

    fn difference(&self, found: String, event: Option<EventPlace>) -> Difference {
        Difference {
            kind: DifferenceKind::Sbat,
            subject: "SBAT level".into(),
            expected: format!("at least {self}"),
            found,
            event,
        }
    }
}

/// `grub 3, shim 4`.
impl fmt::Display for SbatRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (name, generation)) in self.0.iter().enumerate() {
            let before = if position == 0 { "" } else { ", " };
            write!(f, "{before}{name} {generation}")?;
        }
        Ok(())
    }
}
