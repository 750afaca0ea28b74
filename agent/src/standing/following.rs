//! A session that is followed, and what happens beside it: workloads get what was pushed, and the agent's SVID is
//! renewed. Nothing of that keeps the session from being read.

use std::{future::Future, pin::Pin, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use proto::plastron::agent::v1::{Answer, Question};
use tokio::time::{Instant, timeout};

use super::{
    AgentSvid, Established, LOOK, StandingError,
    reach::{Attested, NotOpened},
};
use crate::{
    attest::{AttestError, Prover},
    backoff::at_least,
    link::Lost,
    session::{SessionError, SessionEvent},
    state::KeptSvid,
};

/// A session, and what happens beside it.
pub(super) struct Following {
    pub(super) established: Established,
    /// A newer SVID, with which no session could be opened so far.
    pub(super) newer: Option<AgentSvid>,
    /// Revisions that workloads are being given.
    deliveries: FuturesUnordered<Pin<Box<dyn Future<Output = u64> + Send>>>,
    renewal: Option<Renewal>,
    /// Evidence that the TPM is asked for.
    proof: Option<Proof>,
    /// A question that came meanwhile: the newest, which alone is still open.
    asked: Option<Question>,
    /// No renewal is begun before. Measured apart from the clock, which may be set meanwhile.
    pause_until: Instant,
    is_over: bool,
}

/// An answer that is being made.
type Proof = Pin<Box<dyn Future<Output = Result<Answer, AttestError>> + Send>>;

/// A step of a renewal.
pub(super) type Renewal = Pin<Box<dyn Future<Output = Renewed> + Send>>;

/// What a step of a renewal came to.
pub(super) enum Renewed {
    /// The host attested, on a new connection.
    Attested(Result<Box<Attested>, StandingError>),
    /// A session was opened that rests on the newer SVID.
    Opened(Result<Box<Established>, Box<NotOpened>>),
    /// The server renewed the SVID.
    Signed(Result<KeptSvid, StandingError>),
}

/// What happens first.
pub(super) enum Event {
    /// There is an answer for the server, or there will be none.
    Answered(Result<Answer, AttestError>),
    /// Workloads have this revision.
    Delivered(u64),
    /// The time has come to renew.
    Due,
    /// Time to look at the clock again, and at the disk.
    Look,
    /// A step of the renewal ended.
    Renewed(Renewed),
    /// The server said something, or the session is over.
    Session(Result<SessionEvent, SessionError>),
}

/// Pause after a renewal that failed: it does not grow, because the SVID ends.
const RENEW_RETRY: Duration = Duration::from_secs(5);
/// How long the server may take to take a message.
const SAY_WITHIN: Duration = Duration::from_secs(10);

impl Following {
    pub(super) fn new(established: Established) -> Self {
        Self {
            established,
            newer: None,
            deliveries: FuturesUnordered::new(),
            renewal: None,
            proof: None,
            asked: None,
            pause_until: Instant::now(),
            is_over: false,
        }
    }

    /// Waits for whatever happens first; `due_in` is how long the SVID needs no renewal.
    pub(super) async fn next(&mut self, due_in: Duration) -> Event {
        let is_renewing = self.renewal.is_some();
        let pause = self.pause_until.saturating_duration_since(Instant::now());
        let due_in = due_in.max(pause);
        let Established { link, session, .. } = &mut self.established;
        tokio::select! {
            event = link.during(session.next()), if !self.is_over => {
                Event::Session(event.map_err(SessionError::from).flatten())
            }
            Some(revision) = self.deliveries.next(), if !self.is_over => Event::Delivered(revision),
            renewed = done(&mut self.renewal) => Event::Renewed(renewed),
            answer = done(&mut self.proof), if !self.is_over => Event::Answered(answer),
            () = tokio::time::sleep(due_in), if !is_renewing && due_in <= LOOK => Event::Due,
            () = tokio::time::sleep(LOOK) => Event::Look,
        }
    }

    /// Has `revision` acknowledged when `delivered` is done.
    pub(super) fn deliver(&mut self, revision: u64, delivered: impl Future<Output = ()> + Send + 'static) {
        let delivery = async move {
            delivered.await;
            revision
        };
        self.deliveries.push(Box::pin(delivery));
    }

    /// Tells the server that workloads have this revision.
    pub(super) async fn acknowledge(&mut self, revision: u64) -> Result<(), Lost> {
        let Established { link, session, .. } = &mut self.established;
        let said = link.during(timeout(SAY_WITHIN, session.acknowledge(revision)));
        said.await?.unwrap_or(Err(Lost))
    }

    /// Has `prover` answer a question, once it has answered the one before.
    pub(super) fn ask(&mut self, prover: &Prover, question: Question) {
        if self.proof.is_some() {
            self.asked = Some(question);
            return;
        }
        let (prover, exporter) = (prover.clone(), self.established.link.exporter);
        let Question { round, need, .. } = question;
        self.proof = Some(Box::pin(async move {
            let evidence = prover.answer(exporter, need).await?;
            Ok(Answer { round, evidence })
        }));
    }

    /// Gives the server an answer, and begins with what it asked meanwhile.
    pub(super) async fn answer(&mut self, prover: &Prover, answer: Answer) -> Result<(), Lost> {
        self.go_on_answering(prover);
        let Established { link, session, .. } = &mut self.established;
        let said = link.during(timeout(SAY_WITHIN, session.answer(answer)));
        said.await?.unwrap_or(Err(Lost))
    }

    /// Begins with what the server asked meanwhile.
    pub(super) fn go_on_answering(&mut self, prover: &Prover) {
        if let Some(question) = self.asked.take() {
            self.ask(prover, question);
        }
    }

    /// Begins the next step of a renewal.
    pub(super) fn renew(&mut self, step: Renewal) {
        self.renewal = Some(step);
    }

    /// Puts the next renewal off, for as long as the server wants. Answers with the pause.
    pub(super) fn put_off(&mut self, hint: Option<Duration>) -> Duration {
        let pause = at_least(RENEW_RETRY, hint);
        self.pause_until = Instant::now() + pause;
        pause
    }

    /// The session is over; what is under way to replace it goes on.
    pub(super) fn end(&mut self) {
        self.is_over = true;
        self.deliveries.clear();
        (self.proof, self.asked) = (None, None);
    }

    /// Whether the session is over, and nothing is under way to replace it.
    pub(super) fn is_over(&self) -> bool {
        self.is_over && self.renewal.is_none()
    }

    /// Whether a renewal is under way.
    pub(super) fn is_renewing(&self) -> bool {
        self.renewal.is_some()
    }

    /// The newest SVID that the server signed.
    pub(super) fn newest(self) -> AgentSvid {
        self.newer.unwrap_or(self.established.svid)
    }
}

/// Waits for what is under way; for ever, where nothing is.
async fn done<T>(under_way: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    let Some(step) = under_way else {
        return std::future::pending().await;
    };
    let outcome = step.await;
    *under_way = None;
    outcome
}

#[cfg(test)]
mod tests;
