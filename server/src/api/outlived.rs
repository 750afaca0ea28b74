//! A session that its agent left for another one. An agent that goes on elsewhere closes it; whoever goes on answering in
//! it is at a second place, with the keys of the same host.
//!
//! ```text
//!   the agent attested anew ──▶ left ── no other session opens ──▶ over
//!                                └── another session opens ──▶ replaced ── GRACE ──▶ asked once ──▶ over
//! ```

use std::time::Duration;

use tokio::time::Instant;

/// How far such a session is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outlived {
    left_at: Instant,
    replaced_at: Option<Instant>,
    is_asked: bool,
}

/// What comes next in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// The host is asked for evidence: it should not be here any more.
    Ask,
    /// It is over.
    End,
    /// Nothing before then.
    Wait(Instant),
}

/// How long an agent may take to close a session that another one replaced.
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// How long it may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

impl Outlived {
    /// The agent attested anew elsewhere.
    pub(super) fn left(now: Instant) -> Self {
        Self {
            left_at: now,
            replaced_at: None,
            is_asked: false,
        }
    }

    /// Another session took its place.
    pub(super) fn replace(&mut self, now: Instant) {
        self.replaced_at.get_or_insert(now);
    }

    /// For how long another session has been in its place, if one is.
    pub(super) fn replaced_for(&self, now: Instant) -> Option<Duration> {
        self.replaced_at.map(|at| now.saturating_duration_since(at))
    }

    /// Whether the host was asked since: what it answers to questions of before tells nothing.
    pub(super) fn is_asked(&self) -> bool {
        self.is_asked
    }

    /// The host was asked.
    pub(super) fn ask(&mut self) {
        self.is_asked = true;
    }

    /// What comes next.
    pub(super) fn turn(&self, now: Instant) -> Turn {
        let (due, turn) = match self.replaced_at {
            None => (self.left_at + GRACE, Turn::End),
            Some(at) if !self.is_asked => (at + GRACE, Turn::Ask),
            Some(at) => (at + GRACE + ANSWER_WITHIN, Turn::End),
        };
        if due <= now { turn } else { Turn::Wait(due) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_stays_in_a_replaced_session_is_asked_once() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut session = Outlived::left(start);
        assert_eq!(session.turn(at(9)), Turn::Wait(at(10)));
        assert_eq!(session.turn(at(10)), Turn::End, "no other session opened");
        session.replace(at(5));
        session.replace(at(6));
        assert_eq!(session.turn(at(14)), Turn::Wait(at(15)));
        assert_eq!(session.turn(at(15)), Turn::Ask);
        session.ask();
        assert_eq!(session.turn(at(15)), Turn::Wait(at(25)));
        assert_eq!(session.turn(at(25)), Turn::End);
        assert_eq!(session.replaced_for(at(17)), Some(Duration::from_secs(12)));
    }
}
