//! What the CRL of an authority says: a pure decision. It says more as soon as there is more to say, and is made anew
//! at half of its life; it never ends before what its authority signed.

use std::{collections::BTreeSet, time::Duration};

use proto::bytes::Bytes;
use svid::{
    Timestamp,
    x509::{CrlContent, Revoked},
};

use super::{X509Authority, decide::end_of_grace};

/// The newest CRL of an authority.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Crl {
    /// What it says.
    pub content: CrlContent,
    /// The CRL in DER; whoever sends it shares it.
    pub der: Bytes,
}

impl Crl {
    /// Whether it soon is larger than workloads can be given: their libraries take messages of 4 MiB, and agents leave
    /// out what is beyond 1 MiB.
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.der.len() > LARGE
    }
}

/// Half of what agents hand on, in bytes.
const LARGE: usize = 512 * 1024;

/// How far back a CRL begins: clocks differ.
const BACKDATE: Duration = Duration::from_secs(10);
/// Shortest life of a CRL: of an authority that is about to be forgotten.
const SHORTEST: Duration = Duration::from_secs(60);

/// Decides what the next CRL of `authority` says, if one is due: after the `last` one, and with `fresh` as well.
#[must_use]
pub(super) fn decide(
    authority: &X509Authority,
    last: Option<&CrlContent>,
    fresh: &[Revoked],
    now: Timestamp,
) -> Option<CrlContent> {
    let known = last.map(|last| last.revoked.as_slice()).unwrap_or_default();
    let mut serials: BTreeSet<_> = known.iter().map(|revoked| &revoked.serial).collect();
    let added: Vec<_> = fresh
        .iter()
        .filter(|revoked| revoked.not_after > now && serials.insert(&revoked.serial))
        .collect();
    if added.is_empty() && last.is_some_and(|last| !is_half_over(authority, last, now)) {
        return None;
    }
    let this_update = now.minus(BACKDATE);
    // An entry stays until a CRL had it that was made after the certificate's end (RFC 5280 §3.3).
    let had_after_its_end =
        |revoked: &&Revoked| last.is_none_or(|last| last.this_update <= revoked.not_after);
    let kept = known.iter().filter(had_after_its_end);
    let forgotten = end_of_grace(authority.not_before, authority.not_after);
    Some(CrlContent {
        // By the time as well: numbers go on after the store was restored from an older backup.
        number: last
            .map_or(0, |last| last.number + 1)
            .max(now.as_unix().unsigned_abs()),
        this_update,
        next_update: forgotten.max(this_update.plus(SHORTEST)),
        revoked: kept.chain(added).cloned().collect(),
    })
}

/// Nothing that an authority signed outlives it: after its end the last CRL stands.
fn is_half_over(authority: &X509Authority, last: &CrlContent, now: Timestamp) -> bool {
    let half = last.next_update.since(last.this_update) / 2;
    now < authority.not_after && last.this_update.plus(half) <= now
}

#[cfg(test)]
mod tests {
    use svid::x509::{RevocationReason, SerialNumber};

    use super::*;
    use crate::ca::{Authority, AuthorityState};

    const BEGIN: i64 = 1_800_000_000;
    const DAY: i64 = 86400;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(BEGIN + seconds)
    }

    fn authority() -> X509Authority {
        Authority {
            key_id: String::new(),
            authority_id: "a".into(),
            not_before: at(0),
            not_after: at(DAY),
            published_at: at(0),
            published_sequence: 1,
            state: AuthorityState::Active,
            tainted: false,
            material: Vec::new().into(),
            upstream: None,
        }
    }

    /// A certificate that ends at `ends`; that is its number as well.
    fn revoked(ends: i64) -> Revoked {
        Revoked {
            serial: SerialNumber::from_decimal(&ends.to_string()).unwrap(),
            not_after: at(ends),
            revoked_at: at(0),
            reason: RevocationReason::PrivilegeWithdrawn,
        }
    }

    fn last(number: i64, made: i64, ends: &[i64]) -> CrlContent {
        CrlContent {
            number: (BEGIN + number).unsigned_abs(),
            this_update: at(made - 10),
            next_update: at(2 * DAY),
            revoked: ends.iter().copied().map(revoked).collect(),
        }
    }

    fn check(before: Option<&CrlContent>, fresh: &[i64], now: i64, expected: Option<&CrlContent>) {
        let fresh: Vec<_> = fresh.iter().copied().map(revoked).collect();
        let decided = decide(&authority(), before, &fresh, at(now));
        assert_eq!(
            decided.as_ref(),
            expected,
            "after {before:?} with {fresh:?} at {now}"
        );
    }

    #[test]
    fn there_is_one_from_the_beginning_that_ends_after_everything_that_was_signed() {
        check(None, &[], 0, Some(&last(0, 0, &[])));
        check(None, &[100, 200], 0, Some(&last(0, 0, &[100, 200])));
    }

    #[test]
    fn it_is_made_anew_when_it_says_more() {
        let empty = last(0, 0, &[]);
        check(Some(&empty), &[], 50, None);
        check(Some(&empty), &[100], 50, Some(&last(50, 50, &[100])));
        let one = last(50, 50, &[100]);
        // What it says already, and what has ended, is nothing more.
        check(Some(&one), &[100], 60, None);
        check(Some(&one), &[59, 60], 60, None);
        check(Some(&one), &[100, 200, 200], 60, Some(&last(60, 60, &[100, 200])));
    }

    #[test]
    fn numbers_grow_within_a_second_and_after_a_clock_was_set_back() {
        check(Some(&last(50, 50, &[])), &[100], 50, Some(&last(51, 50, &[100])));
        check(
            Some(&last(500, 500, &[])),
            &[100],
            50,
            Some(&last(501, 50, &[100])),
        );
    }

    #[test]
    fn it_is_made_anew_at_half_of_its_life_and_not_after_its_authority() {
        let first = last(0, 0, &[]);
        check(Some(&first), &[], DAY - 6, None);
        check(Some(&first), &[], DAY - 5, Some(&last(DAY - 5, DAY - 5, &[])));
        check(Some(&first), &[], DAY, None);
    }

    #[test]
    fn what_ended_is_on_one_more_crl() {
        let first = last(0, 0, &[100, 200]);
        let second = last(150, 150, &[100, 200, 300]);
        check(Some(&first), &[300], 150, Some(&second));
        check(
            Some(&second),
            &[400],
            160,
            Some(&last(160, 160, &[200, 300, 400])),
        );
    }

    #[test]
    fn it_is_large_long_before_agents_leave_it_out() {
        let of = |bytes: usize| Crl {
            der: vec![0; bytes].into(),
            ..Crl::default()
        };
        assert!(!of(LARGE).is_large());
        assert!(of(LARGE + 1).is_large());
    }

    #[test]
    fn of_an_authority_that_is_over_it_still_ends_after_it_begins() {
        let made = decide(&authority(), None, &[], at(5 * DAY)).unwrap();
        assert!(made.this_update < made.next_update);
    }
}
