//! What the streams of workloads passed on.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};
use tracing::debug;

/// What the streams of workloads passed on. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Deliveries(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    streams: Mutex<Vec<Weak<Progress>>>,
    changed: Notify,
}

#[derive(Debug)]
struct Progress {
    /// The number of the state that it passed on last.
    passed_on: AtomicU64,
    /// It was waited for once, in vain, and has not read since.
    is_stalled: AtomicBool,
}

/// What one stream passed on.
#[derive(Debug)]
pub struct Delivery {
    progress: Arc<Progress>,
    shared: Arc<Shared>,
}

/// How long a stream may take to pass on what it was given.
const DELIVER_WITHIN: Duration = Duration::from_secs(5);

impl Deliveries {
    /// Counts a stream in that begins with the state of this number, until it is dropped.
    #[must_use]
    pub fn register(&self, number: u64) -> Delivery {
        let progress = Arc::new(Progress {
            passed_on: AtomicU64::new(number),
            is_stalled: AtomicBool::new(false),
        });
        self.streams().push(Arc::downgrade(&progress));
        Delivery {
            progress,
            shared: Arc::clone(&self.0),
        }
    }

    /// Waits until every stream has passed on the state of this number. One that takes too long is not waited for
    /// again until it reads.
    pub async fn delivered(self, number: u64) {
        if timeout(DELIVER_WITHIN, self.all_have(number)).await.is_err() {
            let behind = self.behind(number);
            debug!(count = behind.len(), "Workloads do not read their streams");
            for stream in behind {
                stream.is_stalled.store(true, Ordering::Release);
            }
            self.0.changed.notify_waiters();
        }
    }

    async fn all_have(&self, number: u64) {
        loop {
            // Made before the look: what is passed on in between is noticed.
            let changed = self.0.changed.notified();
            if self.behind(number).is_empty() {
                return;
            }
            changed.await;
        }
    }

    fn behind(&self, number: u64) -> Vec<Arc<Progress>> {
        let mut streams = self.streams();
        streams.retain(|stream| stream.strong_count() > 0);
        let is_behind = |stream: &Arc<Progress>| {
            stream.passed_on.load(Ordering::Acquire) < number && !stream.is_stalled.load(Ordering::Acquire)
        };
        streams
            .iter()
            .filter_map(Weak::upgrade)
            .filter(is_behind)
            .collect()
    }

    fn streams(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Progress>>> {
        self.0.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Delivery {
    /// The stream passed on everything up to the state with this number, or has no need to.
    pub fn passed_on(&self, number: u64) {
        self.progress.passed_on.store(number, Ordering::Release);
        self.progress.is_stalled.store(false, Ordering::Release);
        self.shared.changed.notify_waiters();
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.passed_on(u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    async fn waited_for(deliveries: &Deliveries, number: u64) -> Duration {
        let began = Instant::now();
        deliveries.clone().delivered(number).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_waited_for_until_it_passes_on_or_ends() {
        let deliveries = Deliveries::default();
        let (first, second) = (deliveries.register(1), deliveries.register(1));
        assert_eq!(waited_for(&deliveries, 1).await, Duration::ZERO);
        let act = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            first.passed_on(2);
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(second);
        };
        let (waited, ()) = tokio::join!(waited_for(&deliveries, 2), act);
        assert_eq!(waited, Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_stalls_is_waited_for_once_until_it_reads_again() {
        let deliveries = Deliveries::default();
        let stream = deliveries.register(1);
        assert_eq!(waited_for(&deliveries, 2).await, DELIVER_WITHIN);
        assert_eq!(waited_for(&deliveries, 3).await, Duration::ZERO);
        stream.passed_on(3);
        assert_eq!(waited_for(&deliveries, 4).await, DELIVER_WITHIN);
    }
}
