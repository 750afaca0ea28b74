//! Secure Boot: its state, and the keys it rests on (PCR 7).

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{
    Difference, DifferenceKind, Differences, Evidence, KeyReference, SbatRule,
    difference::{all_of, one_of, quoted},
    evidence::Measured,
};
use crate::event_log::{
    Authority, Content, EfiVariable, Measurement, Measurements, Phase, SecureBoot, Signature,
};

/// What Secure Boot has to be.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct SecureBootRule {
    /// Whether it has to be on, in user or deployed mode, with nothing that gets round it.
    pub enforced: bool,
    /// The platform key.
    pub pk: Option<KeyRule>,
    /// Keys that may change `db` and `dbx`.
    pub kek: Option<KeyRule>,
    /// What may start.
    pub db: Option<KeyRule>,
    /// What may not.
    pub dbx: Option<KeyRule>,
    /// By what images may have been verified, as `db:HEX`, `MokList:HEX`: the database and SHA-256 of the certificate.
    pub authorities: Option<BTreeSet<String>>,
}

/// Which entries a list of keys has to have.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct KeyRule {
    /// These and no others.
    pub exactly: Option<BTreeSet<KeyReference>>,
    /// These, and perhaps others: the floor of a `dbx`.
    pub at_least: Option<BTreeSet<KeyReference>>,
    /// None but these.
    pub at_most: Option<BTreeSet<KeyReference>>,
}

impl KeyRule {
    pub(super) const fn is_contradictory(&self) -> bool {
        self.exactly.is_some() && (self.at_least.is_some() || self.at_most.is_some())
    }

    fn missing<'a>(&'a self, found: &BTreeSet<KeyReference>) -> Vec<&'a KeyReference> {
        let wanted = self.exactly.iter().chain(&self.at_least).flatten();
        wanted.filter(|key| !found.contains(key)).collect()
    }

    fn unknown(&self, found: &BTreeSet<KeyReference>) -> Vec<KeyReference> {
        let Some(allowed) = self.exactly.as_ref().or(self.at_most.as_ref()) else {
            return Vec::new();
        };
        found.difference(allowed).copied().collect()
    }
}

impl SecureBootRule {
    /// The rules of all lists, by the name of the variable.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&'static str, &KeyRule)> {
        [
            ("PK", &self.pk),
            ("KEK", &self.kek),
            ("db", &self.db),
            ("dbx", &self.dbx),
        ]
        .into_iter()
        .filter_map(|(name, rule)| Some((name, rule.as_ref()?)))
    }

    /// Where a level of revocations is asked for, it is for that rule to judge what was measured.
    pub(super) fn check(
        &self,
        evidence: &Evidence<'_>,
        sbat: Option<&SbatRule>,
        differences: &mut Differences,
    ) {
        let (Some(measurements), Some(events)) = (evidence.measurements(7), evidence.events(7)) else {
            return differences.not_proven(7);
        };
        let mut state = match SecureBoot::of(measurements) {
            Ok(state) => state,
            Err(reject) => {
                return differences.push(Difference {
                    kind: DifferenceKind::SecureBootState,
                    subject: "Secure Boot".into(),
                    expected: "variables measured once each by firmware".into(),
                    found: reject.to_string(),
                    event: None,
                });
            }
        };
        if self.enforced {
            check_state(&state, &events, differences);
        }
        for (name, rule) in self.keys() {
            check_keys(name, rule, keys(&state, name), &events, differences);
        }
        if let Some(allowed) = &self.authorities {
            let is_judged = |authority: &Authority<'_>| authority.is_sbat_level && sbat.is_some();
            state.authorities.retain(|authority| !is_judged(authority));
            check_authorities(allowed, &state, &events, differences);
            check_hidden(allowed, measurements, &events, differences);
        }
    }
}

fn check_state(state: &SecureBoot<'_>, events: &[Measured<'_>], differences: &mut Differences) {
    let found = match (state.is_on, state.weaknesses.first()) {
        _ if state.clone().enforced().is_ok() => return,
        (true, Some(weakness)) => quoted(&String::from_utf8_lossy(weakness)),
        (true, None) => format!("on, in {:?} mode", state.mode).to_lowercase(),
        (false, _) => "off".into(),
    };
    differences.push(Difference {
        kind: DifferenceKind::SecureBootState,
        subject: "Secure Boot".into(),
        expected: "on, in user or deployed mode".into(),
        found,
        event: variable(events, "SecureBoot").map(Measured::place),
    });
}

fn keys<'a, 'b>(state: &'b SecureBoot<'a>, name: &str) -> &'b [Signature<'a>] {
    match name {
        "PK" => &state.pk,
        "KEK" => &state.kek,
        "db" => &state.db,
        _ => &state.dbx,
    }
}

fn check_keys(
    name: &str,
    rule: &KeyRule,
    entries: &[Signature<'_>],
    events: &[Measured<'_>],
    differences: &mut Differences,
) {
    let found: BTreeSet<_> = entries.iter().map(KeyReference::of).collect();
    let difference = |expected: String, found: String| Difference {
        kind: kind(name),
        subject: format!("keys in {name}"),
        expected,
        found,
        event: variable(events, name).map(Measured::place),
    };
    let missing = rule.missing(&found);
    if !missing.is_empty() {
        let expected = all_of(&missing);
        differences.push(difference(expected, format!("{} keys without it", found.len())));
    }
    let unknown = rule.unknown(&found);
    if !unknown.is_empty() {
        differences.push(difference("no other keys".into(), all_of(unknown)));
    }
}

fn check_authorities(
    allowed: &BTreeSet<String>,
    state: &SecureBoot<'_>,
    events: &[Measured<'_>],
    differences: &mut Differences,
) {
    let unknown = |authority: &&Authority<'_>| !allowed.contains(&authority_text(authority));
    for authority in state.authorities.iter().filter(unknown) {
        let is_it = |event: &&Measured<'_>| {
            event
                .content
                .variable()
                .is_some_and(|variable| variable.data == authority.data)
        };
        differences.push(Difference {
            kind: DifferenceKind::SecureBootAuthority,
            subject: "images verified by".into(),
            expected: one_of(allowed),
            found: quoted(&authority_text(authority)),
            event: events.iter().find(is_it).map(Measured::place),
        });
    }
}

/// What was measured after firmware ended, and can't be read out of the log, may be another authority.
fn check_hidden(
    allowed: &BTreeSet<String>,
    measurements: &Measurements,
    events: &[Measured<'_>],
    differences: &mut Differences,
) {
    // Some firmware notes what is no variable: that is no authority.
    let is_shown = |event: &Measurement<'_>| match event.content {
        Content::Whole(_) => event
            .content
            .variable()
            .is_none_or(|variable| variable.name().is_some()),
        Content::Absent | Content::Part(_) | Content::Unended(_) => false,
    };
    let later = measurements.of(7).into_iter().flatten();
    let later = later.filter(|event| event.phase == Phase::Later);
    for hidden in later.filter(|event| !is_shown(event)) {
        let event = events.iter().find(|event| event.index == hidden.index);
        differences.push(Difference {
            kind: DifferenceKind::SecureBootAuthority,
            subject: "images verified by".into(),
            expected: one_of(allowed),
            found: "something that the log does not show".into(),
            event: event.map(Measured::place),
        });
    }
}

/// As an operator writes it.
pub(super) fn authority_text(authority: &Authority<'_>) -> String {
    format!("{}:{}", authority.database, authority.fingerprint())
}

fn kind(name: &str) -> DifferenceKind {
    match name {
        "PK" => DifferenceKind::Pk,
        "KEK" => DifferenceKind::Kek,
        "db" => DifferenceKind::Db,
        _ => DifferenceKind::Dbx,
    }
}

/// The first event that measured the variable.
fn variable<'a, 'b>(events: &'b [Measured<'a>], name: &str) -> Option<&'b Measured<'a>> {
    let is_it = |variable: EfiVariable<'_>| variable.name().as_deref() == Some(name);
    events
        .iter()
        .find(|event| event.content.variable().is_some_and(is_it))
}
