//! How many alarms are noted. Whoever has one TPM may show keys of many hosts, again and again: each alarm is a record, a
//! write and a notice. So many of one source, and of one host, are noted in a minute; the others are held back, and counted
//! when the next one of that host is noted.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::registry::HostId;

/// What was noted lately, and what was held back. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct AlarmRates(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    causes: HashMap<Cause, Lately>,
    held_back: HashMap<HostId, u64>,
}

/// What alarms have in common.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Cause {
    Host(HostId),
    Source(IpAddr),
}

#[derive(Clone, Copy, Debug)]
struct Lately {
    since: Instant,
    noted: u32,
    /// Whether it was said that some are held back.
    is_said: bool,
}

/// Whether an alarm is noted.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Admission {
    /// It is not.
    HeldBack {
        /// Whether that is yet to be said.
        is_news: bool,
    },
    /// It is.
    Noted,
}

/// For how long alarms are counted together.
const WINDOW: Duration = Duration::from_secs(60);
/// Most that concern one host, as the one whose key it is or as the one that showed it.
const OF_A_HOST: u32 = 8;
/// Most from one source: many hosts may be behind one address.
const OF_A_SOURCE: u32 = 32;
/// Most hosts and sources that are remembered; beyond, all is held back until some are old.
const MAX_CAUSES: usize = 16_384;
/// Most hosts of which it is remembered how many were held back; of further ones nobody counts them.
const MAX_HELD_BACK: usize = 16_384;

impl AlarmRates {
    /// Decides on an alarm from `source` that concerns `hosts`.
    pub(super) fn admit(&self, hosts: &[HostId], source: Option<IpAddr>, now: Instant) -> Admission {
        let hosts_of = hosts.iter().map(|host| Cause::Host(Arc::clone(host)));
        let causes: Vec<_> = hosts_of.chain(source.map(Cause::Source)).collect();
        let mut state = self.lock();
        if let Some(is_news) = state.exhausted(&causes, now) {
            hosts.iter().for_each(|host| state.hold_back(host, 1));
            return Admission::HeldBack { is_news };
        }
        for cause in causes {
            let lately = state.causes.entry(cause).or_insert(Lately::begun(now));
            lately.noted += 1;
        }
        Admission::Noted
    }

    /// How many alarms of `host` were held back since one was noted; from now on none.
    pub(super) fn take_held_back(&self, host: &HostId) -> u64 {
        self.lock().held_back.remove(host).unwrap_or_default()
    }

    /// Counts alarms of `host` that were not noted after all.
    pub(super) fn hold_back(&self, host: &HostId, count: u64) {
        self.lock().hold_back(host, count);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether one of these had its share, and if so, whether that is yet to be said. Then it is as good as said.
    fn exhausted(&mut self, causes: &[Cause], now: Instant) -> Option<bool> {
        let is_old = |lately: &Lately| now.saturating_duration_since(lately.since) >= WINDOW;
        if self.causes.len() + causes.len() > MAX_CAUSES {
            self.causes.retain(|_, lately| !is_old(lately));
        }
        let is_full = self.causes.len() + causes.len() > MAX_CAUSES;
        let mut is_exhausted = None;
        for cause in causes {
            match self.causes.get_mut(cause) {
                Some(lately) if is_old(lately) => *lately = Lately::begun(now),
                Some(lately) if lately.noted >= cause.share() => {
                    let is_news = !std::mem::replace(&mut lately.is_said, true);
                    is_exhausted = Some(is_exhausted.unwrap_or(false) | is_news);
                }
                Some(_) => {}
                None if is_full => is_exhausted = is_exhausted.or(Some(false)),
                None => {}
            }
        }
        is_exhausted
    }

    fn hold_back(&mut self, host: &HostId, count: u64) {
        let known = self.held_back.len();
        match self.held_back.get_mut(host) {
            Some(held_back) => *held_back = held_back.saturating_add(count),
            None if known < MAX_HELD_BACK => {
                self.held_back.insert(Arc::clone(host), count);
            }
            None => {}
        }
    }
}

impl Cause {
    const fn share(&self) -> u32 {
        match self {
            Self::Host(_) => OF_A_HOST,
            Self::Source(_) => OF_A_SOURCE,
        }
    }
}

impl Lately {
    const fn begun(since: Instant) -> Self {
        Self {
            since,
            noted: 0,
            is_said: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD_BACK: Admission = Admission::HeldBack { is_news: false };
    const FIRST_HELD_BACK: Admission = Admission::HeldBack { is_news: true };

    fn source(n: u32) -> Option<IpAddr> {
        Some(IpAddr::from(n.to_be_bytes()))
    }

    fn hosts<const N: usize>(ids: [&str; N]) -> [HostId; N] {
        ids.map(HostId::from)
    }

    #[test]
    fn a_host_that_shows_the_keys_of_others_is_noted_so_many_times_a_minute() {
        let (rates, start) = (AlarmRates::default(), Instant::now());
        for n in 0..OF_A_HOST {
            let pair = hosts(["thief", &n.to_string()]);
            assert_eq!(rates.admit(&pair, source(n), start), Admission::Noted);
        }
        // From wherever it comes, and whomever it is about.
        let pair = hosts(["thief", "victim"]);
        assert_eq!(rates.admit(&pair, source(100), start), FIRST_HELD_BACK);
        assert_eq!(rates.admit(&pair, source(101), start), HELD_BACK);
        let other = hosts(["victim"]);
        assert_eq!(rates.admit(&other, source(102), start), Admission::Noted);
        assert_eq!(rates.take_held_back(&other[0]), 2);
        assert_eq!(rates.take_held_back(&other[0]), 0);
        rates.hold_back(&other[0], 3);
        assert_eq!(rates.take_held_back(&other[0]), 3);
        assert_eq!(rates.admit(&pair, source(100), start + WINDOW), Admission::Noted);
        assert_eq!(rates.take_held_back(&pair[0]), 2);
    }

    #[test]
    fn a_source_is_noted_so_many_times_a_minute() {
        let (rates, start) = (AlarmRates::default(), Instant::now());
        for n in 0..OF_A_SOURCE {
            let host = hosts([n.to_string().as_str()]);
            assert_eq!(rates.admit(&host, source(1), start), Admission::Noted);
        }
        let host = hosts(["other"]);
        assert_eq!(rates.admit(&host, source(1), start), FIRST_HELD_BACK);
        assert_eq!(rates.admit(&host, source(1), start), HELD_BACK);
        assert_eq!(rates.admit(&host, source(2), start), Admission::Noted);
        assert_eq!(rates.admit(&host, source(1), start + WINDOW), Admission::Noted);
    }

    #[test]
    fn what_is_remembered_has_a_limit() {
        let (rates, start) = (AlarmRates::default(), Instant::now());
        for n in 0..MAX_CAUSES {
            let host = hosts([n.to_string().as_str()]);
            assert_eq!(rates.admit(&host, None, start), Admission::Noted);
        }
        let other = hosts(["other"]);
        assert_eq!(rates.admit(&other, None, start), HELD_BACK);
        assert_eq!(rates.take_held_back(&other[0]), 1);
        assert_eq!(rates.admit(&other, None, start + WINDOW), Admission::Noted);
        for n in 0..=MAX_HELD_BACK {
            rates.hold_back(&HostId::from(n.to_string()), 1);
        }
        assert_eq!(rates.lock().held_back.len(), MAX_HELD_BACK);
    }
}
