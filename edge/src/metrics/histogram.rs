//! How long something takes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Bound, Bucket, Labels, Samples};

/// How often something took how long. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Histogram(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// One for each bound, and one for what is longer.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

/// Notes how long it lives.
#[derive(Debug)]
pub struct Timer {
    histogram: Histogram,
    begun: Instant,
}

/// From what memory answers to what a TPM or a busy disk takes.
const BOUNDS: [(u64, &str); 14] = [
    (100_000, "0.0001"),
    (250_000, "0.00025"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (1_000_000_000, "1"),
    (5_000_000_000, "5"),
    (30_000_000_000, "30"),
];

impl Histogram {
    /// Notes that it took so long.
    pub fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|(bound, _)| *bound < nanos);
        if let Some(bucket) = self.0.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.0.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Notes how long what is returned lives.
    #[must_use]
    pub fn timer(&self) -> Timer {
        Timer {
            histogram: self.clone(),
            begun: Instant::now(),
        }
    }

    /// Adds what was noted, if anything was.
    pub(super) fn show_used(&self, labels: Labels<'_>, samples: &mut Samples<'_>) {
        if self
            .0
            .buckets
            .iter()
            .any(|bucket| bucket.load(Ordering::Relaxed) > 0)
        {
            self.show(labels, samples);
        }
    }

    /// Adds what was noted.
    pub fn show(&self, labels: Labels<'_>, samples: &mut Samples<'_>) {
        let bounds = BOUNDS.iter().map(|(nanos, text)| {
            Some(Bound {
                seconds: Duration::from_nanos(*nanos).as_secs_f64(),
                text,
            })
        });
        let mut buckets = [Bucket {
            bound: None,
            count: 0,
        }; BOUNDS.len() + 1];
        for ((shown, bucket), bound) in buckets.iter_mut().zip(&self.0.buckets).zip(bounds.chain([None])) {
            *shown = Bucket {
                bound,
                count: bucket.load(Ordering::Relaxed),
            };
        }
        let sum = Duration::from_nanos(self.0.nanos.load(Ordering::Relaxed));
        samples.seconds(labels, &buckets, sum.as_secs_f64());
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.histogram.observe(self.begun.elapsed());
    }
}
