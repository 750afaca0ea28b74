//! What is kept, how soon, and what of it is served after a start: pure decisions.

use std::{collections::BTreeMap, sync::Arc};

use svid::{Standing, Timestamp};

use super::content::Content;
use crate::{
    cache::{Cache, CachedEntry},
    workload_svid::WorkloadSvid,
};

/// What the file is known to hold.
#[derive(Clone, Debug)]
pub(super) enum Held {
    /// There is no file.
    Nothing,
    /// This.
    State(Arc<Cache>),
    /// What an agent before left, if anything.
    Unknown,
}

/// How soon the file has to change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Urgency {
    /// It holds what is no more.
    AtOnce,
    /// It lacks something: there may soon be more.
    Soon,
    /// It is as it should be.
    Unneeded,
}

/// What becomes of a file that was opened.
#[derive(Debug)]
pub(super) enum Opened {
    /// It was written later than it is now: the clock was set back, or is not set yet.
    Ahead,
    /// Everything in it has ended.
    Ended,
    /// This is served.
    Served(Box<Cache>),
}

/// What is worth keeping of a state: `None` if workloads could be given nothing of it.
#[must_use]
pub(super) fn keepable(cache: &Cache, now: Timestamp) -> Option<Cache> {
    let kept = with_svids(cache, |svid| {
        svid.not_after > now && cache.standing(svid) != Standing::Void
    });
    (kept.bundle.is_some() && !kept.svids.is_empty()).then_some(kept)
}

/// What is served of a file that was opened. What is not valid now is left out, and comes back no more.
#[must_use]
pub(super) fn opened(content: &Content, now: Timestamp) -> Opened {
    if now < content.written_at {
        return Opened::Ahead;
    }
    let served = keepable(&content.cache, now)
        .map(|kept| with_svids(&kept, |svid| svid.not_before <= now))
        .filter(|kept| !kept.svids.is_empty());
    served.map_or(Opened::Ended, |kept| Opened::Served(Box::new(kept)))
}

/// How soon the file is to hold `wanted` instead of `held`.
#[must_use]
pub(super) fn urgency(held: &Held, wanted: Option<&Cache>) -> Urgency {
    match (held, wanted) {
        (Held::Nothing, None) => Urgency::Unneeded,
        (Held::Nothing, Some(_)) => Urgency::Soon,
        (Held::State(_), None) | (Held::Unknown, _) => Urgency::AtOnce,
        (Held::State(held), Some(wanted)) => of_change(held, wanted),
    }
}

/// When something in the file ends.
#[must_use]
pub(super) fn next_end(held: &Held) -> Option<Timestamp> {
    match held {
        Held::State(cache) => cache.svids.values().map(|svid| svid.not_after).min(),
        Held::Nothing | Held::Unknown => None,
    }
}

fn of_change(held: &Cache, wanted: &Cache) -> Urgency {
    let is_still = |(id, entry): (&Arc<str>, &Arc<CachedEntry>)| wanted.entries.get(id) == Some(entry);
    if held.bundle != wanted.bundle || !held.entries.iter().all(is_still) {
        return Urgency::AtOnce;
    }
    let is_same = held.crls == wanted.crls
        && held.entries.len() == wanted.entries.len()
        && are_same(&held.svids, &wanted.svids);
    if is_same { Urgency::Unneeded } else { Urgency::Soon }
}

type Svids = BTreeMap<Arc<str>, Arc<WorkloadSvid>>;

fn are_same(held: &Svids, wanted: &Svids) -> bool {
    let is_same = |(id, svid): (&Arc<str>, &Arc<WorkloadSvid>)| {
        wanted.get(id).is_some_and(|wanted| Arc::ptr_eq(svid, wanted))
    };
    held.len() == wanted.len() && held.iter().all(is_same)
}

fn with_svids(cache: &Cache, is_kept: impl Fn(&WorkloadSvid) -> bool) -> Cache {
    let mut kept = cache.clone();
    kept.svids.retain(|_, svid| is_kept(svid));
    kept
}

#[cfg(test)]
mod tests;
