//! Tells another program what becomes of hosts: what the audit trail has of it, once it is stored. Nothing waits for that
//! program: what it does not take in time is dropped, and counted.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use edge::{
    Chain,
    metrics::Counter,
    webhook::{PostError, Poster},
};
use serde::Serialize;
use svid::{Timestamp, TrustDomain};
use tokio::{sync::mpsc, time::sleep};
use tracing::{error, info, warn};

use crate::journal::Record;

/// Takes notices. Clones reach the same task.
#[derive(Clone, Debug)]
pub struct Webhook {
    trust_domain: TrustDomain,
    grave: mpsc::Sender<Notice>,
    notices: mpsc::Sender<Notice>,
    /// Whether the last notice was dropped.
    is_dropping: Arc<AtomicBool>,
    counts: Counts,
}

/// What became of notices.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// The other program took them.
    pub delivered: Counter,
    /// Too many waited, or the server stopped.
    pub dropped: Counter,
    /// It did not take them, however often they were sent.
    pub failed: Counter,
}

/// What is told, in JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Notice {
    /// Different for each, the same each time that it is sent.
    id: String,
    /// As the audit trail has it.
    event: &'static str,
    at: String,
    trust_domain: String,
    /// Who caused it.
    actor: String,
    facts: BTreeMap<&'static str, String>,
}

/// How often a notice is sent, and how long the pauses are.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Pause after the first time; each further one is twice as long.
    pub first: Duration,
    /// Longest pause.
    pub longest: Duration,
    /// How often it is sent.
    pub times: u32,
}

impl Patience {
    /// Six minutes in all.
    pub const USUAL: Self = Self {
        first: Duration::from_secs(1),
        longest: Duration::from_secs(60),
        times: 11,
    };

    /// The pause after the `nth` time.
    fn pause(&self, nth: u32) -> Duration {
        let factor = 2_u32.saturating_pow(nth.saturating_sub(1));
        self.first.saturating_mul(factor).min(self.longest)
    }
}

/// The task that sends.
#[derive(Debug)]
pub struct Sending {
    poster: Poster,
    patience: Patience,
    grave: mpsc::Receiver<Notice>,
    notices: mpsc::Receiver<Notice>,
    /// Whether a notice is being sent.
    is_sending: bool,
    counts: Counts,
}

/// Notices that wait, of those that are grave and of the others; further ones are dropped.
const QUEUE: usize = 1024;
/// The events that have places of their own, and are told first: that many hosts are stale after an outage pushes out none.
const GRAVE: [&str; 4] = ["host_alarm", "host_lost", "host_quarantined", "host_tpm_replaced"];
/// The events that are told.
const TOLD: [&str; 7] = [
    "host_alarm",
    "host_lost",
    "host_quarantined",
    "host_released",
    "host_stale",
    "host_tpm_replaced",
    "host_verified",
];

impl Webhook {
    /// A task that sends to `poster`, and who tells it.
    #[must_use]
    pub fn new(
        poster: Poster,
        patience: Patience,
        trust_domain: TrustDomain,
        counts: Counts,
    ) -> (Self, Sending) {
        let (to_grave, grave) = mpsc::channel(QUEUE);
        let (to_notices, notices) = mpsc::channel(QUEUE);
        let webhook = Self {
            trust_domain,
            grave: to_grave,
            notices: to_notices,
            is_dropping: Arc::default(),
            counts: counts.clone(),
        };
        let sending = Sending {
            poster,
            patience,
            grave,
            notices,
            is_sending: false,
            counts,
        };
        (webhook, sending)
    }

    /// The notices of `records`, of what is about to be stored.
    #[must_use]
    pub fn notices(&self, records: &[Record], now: Timestamp) -> Vec<Notice> {
        let told = records.iter().filter(|record| TOLD.contains(&record.event()));
        told.map(|record| self.notice(record, now)).collect()
    }

    fn notice(&self, record: &Record, now: Timestamp) -> Notice {
        Notice {
            id: hex::encode(edge::random::<16>()),
            event: record.event(),
            at: now.to_string(),
            trust_domain: self.trust_domain.to_string(),
            actor: record.actor().into(),
            facts: record.facts().collect(),
        }
    }

    /// Has notices sent, without waiting.
    pub fn tell(&self, notices: Vec<Notice>) {
        for notice in notices {
            let event = notice.event;
            let queue = if GRAVE.contains(&event) {
                &self.grave
            } else {
                &self.notices
            };
            let is_dropped = queue.try_send(notice).is_err();
            let was_dropping = self.is_dropping.swap(is_dropped, Ordering::Relaxed);
            if is_dropped {
                self.counts.dropped.add(1);
                if !was_dropping {
                    error!(
                        event,
                        "Webhook not told: too many notices wait, further ones are dropped"
                    );
                }
            }
        }
    }
}

impl Sending {
    /// Sends one notice after the other, the grave ones first, else in their order, until nobody can tell any more and all
    /// are sent, or until `stop` is done. What is left then is lost, which is said.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let is_stopped = tokio::select! {
            () = self.send_all() => false,
            () = stop => true,
        };
        if is_stopped {
            self.give_up();
        }
    }

    fn give_up(&mut self) {
        let mut lost = u64::from(self.is_sending);
        for queue in [&mut self.grave, &mut self.notices] {
            queue.close();
            while queue.try_recv().is_ok() {
                lost += 1;
            }
        }
        self.counts.dropped.add(lost);
        if lost > 0 {
            error!(
                count = lost,
                "Webhook not told: the server stops; the audit trail has what it was to be told"
            );
        }
    }

    async fn send_all(&mut self) {
        let mut reached = None;
        while let Some(notice) = self.next().await {
            self.is_sending = true;
            let is_delivered = self.deliver(&notice, &mut reached).await;
            self.is_sending = false;
            if is_delivered {
                self.counts.delivered.add(1);
            } else {
                self.counts.failed.add(1);
                error!(
                    event = notice.event,
                    "Webhook not told: it did not take the notice"
                );
            }
        }
    }

    async fn next(&mut self) -> Option<Notice> {
        tokio::select! {
            biased;
            Some(notice) = self.grave.recv() => Some(notice),
            Some(notice) = self.notices.recv() => Some(notice),
            else => None,
        }
    }

    /// `reached`: whether it was the last time.
    async fn deliver(&self, notice: &Notice, reached: &mut Option<bool>) -> bool {
        let Ok(body) = serde_json::to_string(notice) else {
            return false;
        };
        for time in 1..=self.patience.times {
            let posted = self.poster.post(body.clone()).await;
            let is_final = posted.as_ref().is_err_and(PostError::is_final);
            let is_news = *reached != Some(posted.is_ok());
            *reached = Some(posted.is_ok());
            let url = self.poster.url();
            match posted {
                Ok(()) => {
                    if is_news {
                        info!(url, "Webhook reached");
                    }
                    return true;
                }
                // Said when it changes: one that is away all night fills no log.
                Err(error) if is_news => {
                    warn!(url, error = %Chain(&error), retry_in = ?self.patience.pause(time), "Webhook not reached");
                }
                Err(_) => {}
            }
            if is_final {
                return false;
            }
            if time < self.patience.times {
                sleep(self.patience.pause(time)).await;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests;
