//! Which connection each agent proved its host on last: only that one counts.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// The latest proof of each agent, by the number of its connection. As many as there are connections at most.
#[derive(Clone, Debug, Default)]
pub struct Proofs(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    next: AtomicU64,
    current: Mutex<HashMap<Arc<str>, u64>>,
}

/// A proof, for as long as its connection lives.
#[derive(Debug)]
pub(super) struct Proof {
    proofs: Proofs,
    path: Arc<str>,
    number: u64,
}

impl Proofs {
    /// Notes that the agent at `path` proved itself now: earlier proofs count no more.
    pub(super) fn note(&self, path: Arc<str>) -> Proof {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(Arc::clone(&path), number);
        Proof {
            proofs: self.clone(),
            path,
            number,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, u64>> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proof {
    /// Whether there was none since.
    pub(super) fn is_current(&self) -> bool {
        self.proofs.lock().get(&self.path) == Some(&self.number)
    }
}

impl Drop for Proof {
    fn drop(&mut self) {
        let mut current = self.proofs.lock();
        if current.get(&self.path) == Some(&self.number) {
            current.remove(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_proof_counts_while_it_lives() {
        let proofs = Proofs::default();
        let first = proofs.note("/a".into());
        let other = proofs.note("/b".into());
        assert!(first.is_current() && other.is_current());
        let second = proofs.note("/a".into());
        assert!(!first.is_current() && second.is_current());
        drop(first);
        assert!(second.is_current());
        drop(second);
        drop(other);
        assert!(proofs.lock().is_empty());
    }
}
