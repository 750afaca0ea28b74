//! What one user of this host may take of the Workload API, so that there is something left for the others.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The shares of all users that are connected.
#[derive(Default)]
pub(super) struct Shares {
    of: HashMap<u32, Arc<Share>>,
}

/// The share of one user.
pub(super) struct Share {
    connections: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

/// Most connections of one user at once; root is excepted.
pub(super) const CONNECTIONS: usize = 1024;
/// Most calls and streams of one user at once; root is excepted.
pub(super) const STREAMS: usize = 4096;
/// Users that are remembered before those who are gone are forgotten.
const USERS: usize = 64;

impl Shares {
    /// The share of a user, and room for one more connection of theirs until the permit is dropped.
    pub(super) fn connect(&mut self, uid: u32) -> Option<(Arc<Share>, OwnedSemaphorePermit)> {
        if self.of.len() >= USERS {
            self.of.retain(|_, share| Arc::strong_count(share) > 1);
        }
        let share = self.of.entry(uid).or_insert_with(|| Arc::new(Share::new(uid)));
        let permit = Arc::clone(&share.connections).try_acquire_owned().ok()?;
        Some((Arc::clone(share), permit))
    }
}

impl Share {
    fn new(uid: u32) -> Self {
        let semaphore = |most| {
            let most = if uid == 0 { Semaphore::MAX_PERMITS } else { most };
            Arc::new(Semaphore::new(most))
        };
        Self {
            connections: semaphore(CONNECTIONS),
            streams: semaphore(STREAMS),
        }
    }

    /// Room for one more call or stream, until the permit is dropped.
    pub(super) fn call(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.streams).try_acquire_owned().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_who_takes_all_leaves_the_others_theirs() {
        let mut shares = Shares::default();
        let mut taken: Vec<_> = (0..CONNECTIONS).map(|_| shares.connect(1000).unwrap()).collect();
        assert!(shares.connect(1000).is_none());
        assert!(shares.connect(1001).is_some());
        drop(taken.pop());
        assert!(shares.connect(1000).is_some());
    }

    #[test]
    fn streams_are_counted_over_all_connections() {
        let mut shares = Shares::default();
        let ((first, _one), (second, _two)) = (shares.connect(1000).unwrap(), shares.connect(1000).unwrap());
        let _taken: Vec<_> = (0..STREAMS).map(|_| first.call().unwrap()).collect();
        assert!(second.call().is_none());
    }

    #[test]
    fn root_is_not_limited() {
        let mut shares = Shares::default();
        let taken: Vec<_> = (0..=CONNECTIONS).map_while(|_| shares.connect(0)).collect();
        assert_eq!(taken.len(), CONNECTIONS + 1);
    }

    #[test]
    fn users_who_are_gone_are_forgotten() {
        let mut shares = Shares::default();
        let _stays = shares.connect(1).unwrap();
        for uid in 2..1000 {
            drop(shares.connect(uid).unwrap());
        }
        assert!(shares.of.len() <= USERS);
        assert!(shares.of.contains_key(&1));
    }
}
