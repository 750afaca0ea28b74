//! When signing may be tried again: at all, and for each entry whose SVID the server refused.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::backoff::Backoff;

/// Which failures are still to be waited out.
#[derive(Debug, Default)]
pub(super) struct Pace {
    all: Option<Pause>,
    entries: BTreeMap<Arc<str>, Pause>,
}

#[derive(Clone, Copy, Debug)]
struct Pause {
    backoff: Backoff,
    until: Instant,
}

impl Pace {
    /// Nothing could be signed. Answers with the pause.
    pub(super) fn failed(&mut self, hint: Option<Duration>) -> Duration {
        self.all.get_or_insert_with(Pause::new).failed(hint)
    }

    /// There is no connection: nothing is signed until there is one, for at most `pause`.
    pub(super) fn wait(&mut self, pause: Duration) {
        self.all.get_or_insert_with(Pause::new).until = Instant::now() + pause;
    }

    /// The server answered.
    pub(super) fn answered(&mut self) {
        self.all = None;
    }

    /// The SVID of one entry was refused.
    pub(super) fn refused(&mut self, id: &Arc<str>) {
        let pause = self.entries.entry(Arc::clone(id)).or_insert_with(Pause::new);
        pause.failed(None);
    }

    /// Nothing more is known against this entry: it was signed, changed, or is gone.
    pub(super) fn forget(&mut self, id: &str) {
        self.entries.remove(id);
    }

    /// How long signing has to wait.
    pub(super) fn left(&self) -> Duration {
        self.all.as_ref().map_or(Duration::ZERO, Pause::left)
    }

    /// How long one entry has to wait.
    pub(super) fn left_for(&self, id: &str) -> Duration {
        self.entries.get(id).map_or(Duration::ZERO, Pause::left)
    }
}

impl Pause {
    fn new() -> Self {
        Self {
            backoff: Backoff::default(),
            until: Instant::now(),
        }
    }

    fn failed(&mut self, hint: Option<Duration>) -> Duration {
        let pause = self.backoff.failed(hint);
        self.until = Instant::now() + pause;
        pause
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}
