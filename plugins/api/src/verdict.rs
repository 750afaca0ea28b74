//! What the server thinks of a host, and what makes it think otherwise: a table.
//!
//! ```text
//!   any ── says what is refused ──▶ quarantined ── an operator releases it ──▶ stale ── attests ──▶ verified
//!   not quarantined ── its TPM is replaced ──▶ stale, its serial numbers on the CRL ── attests ──▶ verified
//!   verified ── is silent ──▶ stale ── answers, or attests ──▶ verified
//!                               └── is lost ──▶ stale, its serial numbers on the CRL ── attests ──▶ verified
//! ```
//!
//! Only a verified host has anything signed. A start of the server changes no verdict: silence is counted anew.

use svid::Timestamp;

/// What is thought of a host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// What.
    pub finding: Finding,
    /// Since when.
    pub since: Timestamp,
    /// Grows with each change of the finding.
    pub generation: u64,
}

/// Whether a host is what it should be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Finding {
    /// It surely said what is refused: nothing is signed, and what was signed is revoked.
    Quarantined(Offence),
    /// It has not shown lately that it is: nothing is signed.
    Stale(Staleness),
    /// It showed lately that it is.
    Verified,
}

/// What a host said that is refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Offence {
    /// Stable code.
    pub code: String,
    /// What differs, in an operator's words.
    pub difference: String,
}

/// Why there is no good evidence.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Staleness {
    /// It was silent for so long that what was signed for it is revoked.
    Lost,
    /// It has not attested yet.
    New,
    /// An operator lifted its quarantine.
    Released,
    /// Its TPM was replaced, or a key that vouched for it was taken off: what was signed for it is revoked.
    Replaced,
    /// It is silent.
    Silent,
}

/// What happens to a host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HostEvent {
    /// Good evidence in its session, or to open one.
    Answered,
    /// Good evidence for a new SVID.
    Attested,
    /// It was silent for longer than an operator wants to trust what was signed for it.
    Lost,
    /// It surely said what is refused.
    Offended(Offence),
    /// An operator lifts its quarantine.
    Released,
    /// An operator gave it another TPM, or took off a key that vouched for it.
    Replaced,
    /// No good evidence came for too long.
    Silent,
}

impl Verdict {
    /// Of a host that has not attested yet.
    #[must_use]
    pub const fn first(now: Timestamp) -> Self {
        Self {
            finding: Finding::Stale(Staleness::New),
            since: now,
            generation: 0,
        }
    }

    /// Whether anything is signed for the host.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.finding == Finding::Verified
    }

    /// Whether an operator has to release the host.
    #[must_use]
    pub const fn is_quarantined(&self) -> bool {
        matches!(self.finding, Finding::Quarantined(_))
    }

    /// The verdict after `event`; `None` if it stays.
    #[must_use]
    pub fn after(&self, event: HostEvent, now: Timestamp) -> Option<Self> {
        let finding = self.finding.after(event)?;
        Some(Self {
            finding,
            since: now,
            generation: self.generation.saturating_add(1),
        })
    }
}

impl Finding {
    fn after(&self, event: HostEvent) -> Option<Self> {
        match (self, event) {
            (Self::Quarantined(_), HostEvent::Released) => Some(Self::Stale(Staleness::Released)),
            // The first offence is the one that an operator wants to know.
            (Self::Quarantined(_), _) => None,
            (_, HostEvent::Offended(offence)) => Some(Self::Quarantined(offence)),
            (_, HostEvent::Replaced) => Some(Self::Stale(Staleness::Replaced)),
            (Self::Verified, HostEvent::Silent) => Some(Self::Stale(Staleness::Silent)),
            (Self::Stale(Staleness::Silent), HostEvent::Lost) => Some(Self::Stale(Staleness::Lost)),
            (Self::Stale(_), HostEvent::Attested) | (Self::Stale(Staleness::Silent), HostEvent::Answered) => {
                Some(Self::Verified)
            }
            // What was revoked, or was never given, is not made good by an answer.
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: Timestamp = Timestamp::from_unix(1);
    const NOW: Timestamp = Timestamp::from_unix(2);

    fn offence(code: &str) -> Offence {
        Offence {
            code: code.into(),
            difference: "PCR 4".into(),
        }
    }

    fn events() -> [HostEvent; 7] {
        [
            HostEvent::Answered,
            HostEvent::Attested,
            HostEvent::Lost,
            HostEvent::Offended(offence("new")),
            HostEvent::Released,
            HostEvent::Replaced,
            HostEvent::Silent,
        ]
    }

    /// What each event makes of `finding`, in the order of [`events`].
    fn check(finding: &Finding, expected: [Option<Finding>; 7]) {
        let verdict = Verdict {
            finding: finding.clone(),
            since: THEN,
            generation: 7,
        };
        for (event, expected) in events().into_iter().zip(expected) {
            let after = verdict.after(event.clone(), NOW);
            let expected = expected.map(|finding| Verdict {
                finding,
                since: NOW,
                generation: 8,
            });
            assert_eq!(after, expected, "{finding:?}, {event:?}");
        }
    }

    #[test]
    fn each_event_makes_of_each_verdict_what_the_table_says() {
        use Finding::{Quarantined, Stale, Verified};
        let offended = || Some(Quarantined(offence("new")));
        let replaced = || Some(Stale(Staleness::Replaced));
        check(
            &Verified,
            [
                None,
                None,
                None,
                offended(),
                None,
                replaced(),
                Some(Stale(Staleness::Silent)),
            ],
        );
        check(
            &Stale(Staleness::Silent),
            [
                Some(Verified),
                Some(Verified),
                Some(Stale(Staleness::Lost)),
                offended(),
                None,
                replaced(),
                None,
            ],
        );
        for staleness in [
            Staleness::Lost,
            Staleness::New,
            Staleness::Released,
            Staleness::Replaced,
        ] {
            check(
                &Stale(staleness),
                [None, Some(Verified), None, offended(), None, replaced(), None],
            );
        }
        check(
            &Quarantined(offence("first")),
            [
                None,
                None,
                None,
                None,
                Some(Stale(Staleness::Released)),
                None,
                None,
            ],
        );
    }
}
