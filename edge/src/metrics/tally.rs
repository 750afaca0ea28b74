//! Counters by label, for what is rare or slow enough that a lock is nothing beside it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::Samples;

/// A counter for each combination of what `N` labels hold. Clones share it.
#[derive(Clone, Debug)]
pub struct Tally<const N: usize>(Arc<Mutex<BTreeMap<[&'static str; N], u64>>>);

/// Most combinations: values are constants, so this is never met unless somebody makes them up.
const MAX: usize = 512;

impl<const N: usize> Tally<N> {
    /// Counts one.
    pub fn count(&self, values: [&'static str; N]) {
        self.add(values, 1);
    }

    /// Adds `more`; with 0, the combination is shown before it occurs.
    pub fn add(&self, values: [&'static str; N], more: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() < MAX || counts.contains_key(&values) {
            *counts.entry(values).or_default() += more;
        }
    }

    pub(super) fn show(&self, labels: [&'static str; N], samples: &mut Samples<'_>) {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (values, count) in counts {
            let labels: Vec<_> = labels.into_iter().zip(values).collect();
            samples.number(&labels, count);
        }
    }
}

impl<const N: usize> Default for Tally<N> {
    fn default() -> Self {
        Self(Arc::default())
    }
}
