//! New evidence in a session: the server asks, the host answers in time or said nothing.
//!
//! ```text
//!   agent                              server
//!     ◀── Question{round, need} ────────  each `evidence_interval` at most, one at a time
//!     ── Answer{round, evidence} ──────▶  nothing new: noted in memory
//!     ◀── Question{log} ────────────────  something is new: it takes the log to tell
//! ```

use std::{sync::Arc, time::Duration};

use edge::{Chain, Clock};
use plugin_api::{Asked, Context, ExpectEvidence, HostEvent, NodeAttestor, Refusal, Round, SessionBinding};
use proto::plastron::agent::v1::{Answer, Question, Sealing};
use tokio::{sync::Semaphore, time::Instant};
use tonic::Status;
use tracing::{info, warn};

use super::{sealing::sealing, status, verdicts::Verdicts};
use crate::{
    journal::Record,
    registry::{HostId, Snapshot, alarms::Alarming, host_changes},
};

/// The rounds of one session.
pub(super) struct Rounds {
    pub(super) with: RoundsWith,
    /// Path of the agent's SPIFFE ID.
    pub(super) path: Arc<str>,
    pub(super) host: HostId,
    /// From where the agent came.
    pub(super) address: String,
    pub(super) binding: SessionBinding,
    number: u64,
    next_at: Instant,
    open: Option<Open>,
    /// What the agent was told last that it may seal to.
    told: Option<Sealing>,
}

/// What all rounds work with.
#[derive(Clone)]
pub(super) struct RoundsWith {
    pub(super) attestor: Arc<dyn NodeAttestor>,
    pub(super) verdicts: Verdicts,
    /// Logs that may be appraised at once.
    pub(super) appraisals: Arc<Semaphore>,
    pub(super) interval: Duration,
    pub(super) clock: Clock,
}

/// A question that waits for its answer.
struct Open {
    until: Instant,
    next: Box<dyn ExpectEvidence>,
}

/// An answer of so many bytes has a log, which takes milliseconds to appraise.
const LARGE: usize = 16 * 1024;

impl Rounds {
    /// Rounds of the agent at `path`, whose host proved itself on this connection.
    pub(super) fn new(
        with: RoundsWith,
        path: Arc<str>,
        host: HostId,
        address: String,
        binding: SessionBinding,
    ) -> Self {
        let next_at = Instant::now() + jittered(with.interval);
        Self {
            with,
            path,
            host,
            address,
            binding,
            number: 0,
            next_at,
            open: None,
            told: None,
        }
    }

    /// Notes what the agent was told as the session began.
    pub(super) fn told(mut self, sealing: Option<Sealing>) -> Self {
        self.told = sealing;
        self
    }

    /// Waits until a question is due.
    pub(super) async fn due(&self) {
        tokio::time::sleep_until(self.next_at).await;
    }

    /// A question at once, in place of one that may still be open.
    pub(super) fn ask_anew(&mut self) -> Option<Question> {
        self.open = None;
        self.ask()
    }

    /// The next question, unless the last one may still be answered.
    pub(super) fn ask(&mut self) -> Option<Question> {
        let now = Instant::now();
        if let Some(open) = self.open.as_ref().filter(|open| open.until > now) {
            self.next_at = open.until;
            return None;
        }
        if self.open.take().is_some() {
            self.with.verdicts.meters.evidence.count(["missed"]);
        }
        self.next_at = now + jittered(self.with.interval);
        let snapshot = self.with.verdicts.registry.snapshot();
        let host = snapshot.hosts.get(&self.host)?;
        let asked = self.show(&snapshot, |context| {
            self.with.attestor.begin_round(host, &self.binding, context)
        });
        let sealing = sealing(host, &snapshot);
        let question = asked.map(|asked| self.question(asked))?;
        Some(Question {
            sealing: self.news(sealing),
            ..question
        })
    }

    /// What the agent was not told yet: an empty one where there is nothing any more that it may seal to.
    fn news(&mut self, sealing: Option<Sealing>) -> Option<Sealing> {
        if self.told == sealing {
            return None;
        }
        self.told.clone_from(&sealing);
        Some(sealing.unwrap_or_default())
    }

    fn question(&mut self, asked: Asked) -> Question {
        self.number += 1;
        self.open = Some(Open {
            until: Instant::now() + asked.within,
            next: asked.next,
        });
        Question {
            round: self.number,
            need: asked.send,
            sealing: None,
        }
    }

    /// Takes an answer, and asks further where it takes more to tell. Who answers too late said nothing.
    ///
    /// # Errors
    ///
    /// The answer can't be read, or what it says can't be stored: the session is over.
    pub(super) async fn hear(&mut self, answer: Answer) -> Result<Option<Question>, Status> {
        let Some(open) = self.opened(&answer) else {
            self.with.verdicts.meters.evidence.count(["late"]);
            return Ok(None);
        };
        match self.decide(open.next, answer.evidence).await? {
            Ok(Round::Ask(asked)) => Ok(Some(self.question(asked))),
            Ok(Round::Changed(claim)) => {
                self.binding.clock = claim.appraised.standing.clock;
                let (path, address) = (Arc::clone(&self.path), self.address.clone());
                self.with.verdicts.pulses.note(&self.host);
                let noted = move |draft: &mut _| {
                    host_changes::claim(draft, *claim, HostEvent::Answered, &path, &address)
                };
                let noted = self.with.verdicts.registry.change(noted).await;
                match noted.map_err(|error| status::not_changed(&error))? {
                    Ok(()) => self.heard().await?,
                    // It is asked again; a host that is quarantined hears of that.
                    Err(moved) => warn!(agent_path = %self.path, error = %moved, "Evidence not noted"),
                }
                Ok(None)
            }
            Ok(Round::Grown(clock, grown)) => {
                self.binding.clock = clock;
                self.binding.grown = Some(*grown);
                self.heard().await?;
                Ok(None)
            }
            Ok(Round::Unchanged(clock)) => {
                self.binding.clock = clock;
                self.heard().await?;
                Ok(None)
            }
            Err(refusal) => self.refuse(&refusal).await.map(|()| None),
        }
    }

    /// Takes an answer in a session that another one replaced, and says whether the host's keys are there: then it is at two
    /// places. It verifies nobody.
    ///
    /// # Errors
    ///
    /// As [`Self::hear`].
    pub(super) async fn overhear(&mut self, answer: Answer) -> Result<bool, Status> {
        let Some(open) = self.opened(&answer) else {
            return Ok(false);
        };
        match self.decide(open.next, answer.evidence).await? {
            Ok(_) => Ok(true),
            Err(refusal) => self.refuse(&refusal).await.map(|()| false),
        }
    }

    /// The question that this answers in time.
    fn opened(&mut self, answer: &Answer) -> Option<Open> {
        let is_current = answer.round == self.number;
        let open = self.open.take_if(|_| is_current);
        open.filter(|open| open.until > Instant::now())
    }

    /// Notes that the host answered here `since` another session had replaced this one.
    pub(super) async fn alarm(&self, since: Duration) {
        let verdicts = &self.with.verdicts;
        let snapshot = verdicts.registry.snapshot();
        let other = snapshot.hosts.get(&self.host);
        let other = other.map(|host| host.last_address.as_str()).unwrap_or_default();
        let alarming = Alarming {
            code: "two_sessions",
            text: format!(
                "its TPM answered from {} {} s after a session from {other} had replaced that one",
                self.address,
                since.as_secs()
            ),
            held_back: 0,
        };
        let hosts = vec![Arc::clone(&self.host)];
        verdicts.alarm(hosts, &alarming, &self.address, None).await;
    }

    async fn heard(&self) -> Result<(), Status> {
        self.with.verdicts.meters.evidence.count(["ok"]);
        let heard = self.with.verdicts.heard(&self.host).await;
        heard.map_err(|error| status::not_changed(&error))
    }

    /// Looks at an answer: at a large one where that keeps nobody waiting.
    async fn decide(
        &self,
        next: Box<dyn ExpectEvidence>,
        evidence: Vec<u8>,
    ) -> Result<Result<Round, Refusal>, Status> {
        let snapshot = self.with.verdicts.registry.snapshot();
        if evidence.len() < LARGE {
            return Ok(self.show(&snapshot, |context| next.handle(&evidence, context)));
        }
        let _place = self.with.appraisals.acquire().await;
        let (now, exporter) = (self.with.clock.now(), self.binding.exporter);
        let decided =
            tokio::task::spawn_blocking(move || next.handle(&evidence, &context(&snapshot, now, exporter)));
        decided
            .await
            .map_err(|_| Status::unavailable("server is stopping"))
    }

    fn show<T>(&self, snapshot: &Snapshot, decide: impl FnOnce(&Context<'_>) -> T) -> T {
        decide(&context(snapshot, self.with.clock.now(), self.binding.exporter))
    }

    async fn refuse(&self, refusal: &Refusal) -> Result<(), Status> {
        let reason = Chain(&*refusal.source).to_string();
        let verdicts = &self.with.verdicts;
        verdicts.meters.evidence.count([refusal.code]);
        info!(agent_path = %self.path, caller_addr = self.address, reject = refusal.code, error = reason,
            "Evidence refused");
        let condemned = verdicts.condemn(refusal, &self.address).await;
        condemned.map_err(|error| status::not_changed(&error))?;
        if refusal.said_by.is_some() {
            // Its session hears of the quarantine.
            return Ok(());
        }
        let record = Record::new("session_evidence_refused", &self.address)
            .with("agent_path", &self.path)
            .with("reject", &refusal.code)
            .with("reason", &reason);
        // That the trail can't be written is logged there; the refusal stands.
        let _unaudited = verdicts.registry.change(move |draft| draft.audit(record)).await;
        Err(status::refused(refusal))
    }
}

fn context(snapshot: &Snapshot, now: svid::Timestamp, exporter: [u8; 32]) -> Context<'_> {
    Context {
        now,
        trust_domain: &snapshot.trust_domain,
        records: snapshot,
        exporter: Some(exporter),
        csr: &[],
        nonce: edge::random(),
    }
}

/// The interval or up to a fifth less: hosts that came together are not asked together.
fn jittered(interval: Duration) -> Duration {
    shortened(interval, u32::from_be_bytes(edge::random()))
}

/// Less by a share of a fifth: `random` of its greatest value.
fn shortened(interval: Duration, random: u32) -> Duration {
    let share = f64::from(random) / f64::from(u32::MAX);
    interval.saturating_sub(interval.mul_f64(share / 5.0))
}

#[cfg(test)]
mod tests;
