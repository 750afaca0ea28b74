//! How much of something one source may hold at once.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Places, of which each source may hold so many. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Shares {
    a_source: usize,
    in_all: usize,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    by_source: HashMap<IpAddr, usize>,
    in_all: usize,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    source: IpAddr,
    held: Arc<Mutex<Held>>,
}

impl Shares {
    pub(super) fn new(a_source: usize, in_all: usize) -> Self {
        Self {
            a_source,
            in_all,
            held: Arc::default(),
        }
    }

    /// Takes a place for `source`; `None` if it has its share, or all are taken.
    pub(super) fn take(&self, source: IpAddr) -> Option<Share> {
        let mut held = lock(&self.held);
        let of_source = held.by_source.get(&source).copied().unwrap_or_default();
        if of_source >= self.a_source || held.in_all >= self.in_all {
            return None;
        }
        held.by_source.insert(source, of_source + 1);
        held.in_all += 1;
        Some(Share {
            source,
            held: Arc::clone(&self.held),
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = lock(&self.held);
        held.in_all = held.in_all.saturating_sub(1);
        if let Some(of_source) = held.by_source.get_mut(&self.source) {
            *of_source = of_source.saturating_sub(1);
            if *of_source == 0 {
                held.by_source.remove(&self.source);
            }
        }
    }
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_its_share_and_all_have_a_limit() {
        let shares = Shares::new(2, 3);
        let [here, there] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        let first = shares.take(here).unwrap();
        let _second = shares.take(here).unwrap();
        assert!(shares.take(here).is_none());
        let third = shares.take(there).unwrap();
        assert!(shares.take(there).is_none(), "all are taken");
        drop(first);
        let _again = shares.take(here).unwrap();
        drop(third);
        assert!(shares.take(there).is_some());
        assert_eq!(
            lock(&shares.held).by_source.len(),
            1,
            "sources that hold nothing are forgotten"
        );
    }
}
