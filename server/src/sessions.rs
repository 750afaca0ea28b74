//! Who follows the server: agents in a session, to whom changes are pushed, and agents that poll. One task knows
//! them; it wakes the sessions that a change concerns, and says which bundle everyone has.

use std::{collections::HashMap, sync::Arc, time::Duration};

use edge::metrics::Gauge;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::warn;

use crate::registry::{Concerned, Publication, Touched};

/// Announces sessions and polls. Clones reach the same task.
#[derive(Clone, Debug)]
pub struct Sessions {
    commands: mpsc::Sender<Command>,
}

/// A session that the task knows until it is dropped.
#[derive(Debug)]
pub struct Session {
    agent: Arc<str>,
    number: u64,
    wake: Arc<Notify>,
    ended: watch::Receiver<Option<Ended>>,
    commands: mpsc::Sender<Command>,
}

/// Why the server ends a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// The agent opened another one.
    Replaced,
    /// The agent did not acknowledge a new bundle in time, and others wait for it.
    Unresponsive,
}

#[derive(Debug)]
enum Command {
    Acknowledged {
        agent: Arc<str>,
        number: u64,
        sequence: u64,
    },
    Opened {
        agent: Arc<str>,
        live: Live,
    },
    Polled {
        agent: Arc<str>,
        sequence: u64,
    },
}

/// A session, as the task knows it.
#[derive(Debug)]
struct Live {
    number: u64,
    wake: Arc<Notify>,
    /// Closed when the session is dropped.
    ended: watch::Sender<Option<Ended>>,
    /// The bundle that the agent acknowledged last.
    acknowledged: u64,
    /// Since when it owes an acknowledgement.
    owes_since: Option<Instant>,
}

/// Commands that wait; further callers wait in turn.
const QUEUE: usize = 4096;
/// How long an agent may take to acknowledge a new bundle.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(10);
/// An agent that polled no bundle for so long counts as gone; SPIRE's back off to 8 minutes.
const POLLS_WITHIN: Duration = Duration::from_secs(600);

impl Sessions {
    /// Opens a session of the agent with path `agent`, in place of the one it has.
    pub async fn open(&self, agent: Arc<str>) -> Session {
        let number = u64::from_be_bytes(edge::random());
        let wake = Arc::new(Notify::new());
        let (sender, ended) = watch::channel(None);
        let live = Live {
            number,
            wake: Arc::clone(&wake),
            ended: sender,
            acknowledged: 0,
            owes_since: Some(Instant::now()),
        };
        self.send(Command::Opened {
            agent: Arc::clone(&agent),
            live,
        })
        .await;
        Session {
            agent,
            number,
            wake,
            ended,
            commands: self.commands.clone(),
        }
    }

    /// Notes that an agent without session was answered with the bundle of `sequence`.
    pub async fn polled(&self, agent: Arc<str>, sequence: u64) {
        self.send(Command::Polled { agent, sequence }).await;
    }

    async fn send(&self, command: Command) {
        // The task ends with the server, and every session with it.
        let _ending = self.commands.send(command).await;
    }
}

impl Session {
    /// Waits until something changed that may concern the agent.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Waits until the server ends the session.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(reason) => reason.unwrap_or(Ended::Replaced),
            Err(_) => Ended::Replaced,
        }
    }

    /// Notes that the agent, and the workloads' streams on it, have the bundle of `sequence`.
    pub async fn acknowledged(&self, sequence: u64) {
        let agent = Arc::clone(&self.agent);
        let command = Command::Acknowledged {
            agent,
            number: self.number,
            sequence,
        };
        let _ending = self.commands.send(command).await;
    }
}

/// The task.
#[derive(Debug)]
pub struct Hub {
    commands: mpsc::Receiver<Command>,
    publications: mpsc::Receiver<Publication>,
    confirmed: watch::Sender<u64>,
    live: HashMap<Arc<str>, Live>,
    polls: HashMap<Arc<str>, (u64, Instant)>,
    /// The bundle that is current.
    sequence: u64,
    open: Gauge,
}

impl Hub {
    /// A task that learns of changes from `publications`. The receiver tells the sequence number of the bundle that
    /// everyone has.
    #[must_use]
    pub fn new(
        publications: mpsc::Receiver<Publication>,
        sequence: u64,
    ) -> (Self, Sessions, watch::Receiver<u64>) {
        let (sender, commands) = mpsc::channel(QUEUE);
        let (confirmed, everyone_has) = watch::channel(u64::MAX);
        let (live, polls) = (HashMap::new(), HashMap::new());
        let hub = Self {
            commands,
            publications,
            confirmed,
            live,
            polls,
            sequence,
            open: Gauge::default(),
        };
        (hub, Sessions { commands: sender }, everyone_has)
    }

    /// Shows in `open` how many sessions there are.
    #[must_use]
    pub fn metered(self, open: Gauge) -> Self {
        Self { open, ..self }
    }

    /// Runs until the registry ends.
    pub async fn run(mut self) {
        let mut look = interval(Duration::from_secs(1));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut commands = Vec::with_capacity(QUEUE);
        loop {
            tokio::select! {
                // A session announces itself before it looks at the state: whatever changes after its look is
                // published after its announcement, and must be handled after it.
                biased;
                // All at once: what everyone has takes a look at every session, and thousands may come together.
                1.. = self.commands.recv_many(&mut commands, QUEUE) => {
                    commands.drain(..).for_each(|command| self.obey(command));
                }
                publication = self.publications.recv() => match publication {
                    Some(publication) => self.publish(&publication),
                    None => return,
                },
                _ = look.tick() => self.tidy(),
            }
            self.open.set(self.live.len());
            self.confirm();
        }
    }

    fn publish(&mut self, publication: &Publication) {
        let mut concerned = Concerned::default();
        for touched in publication.touched.iter() {
            match touched {
                Touched::Agent(path) => self.wake(path),
                Touched::Authorities => self.new_bundle(publication.after.authorities.sequence),
                Touched::Crls => self.live.values().for_each(|live| live.wake.notify_one()),
                Touched::Entry { old, new } => {
                    old.iter()
                        .for_each(|entry| concerned.add(&publication.before, entry));
                    new.iter()
                        .for_each(|entry| concerned.add(&publication.after, entry));
                }
            }
        }
        for (path, live) in &self.live {
            if concerned.includes(&publication.after, path) {
                live.wake.notify_one();
            }
        }
    }

    fn new_bundle(&mut self, sequence: u64) {
        self.sequence = sequence;
        for live in self.live.values_mut() {
            live.owes_since.get_or_insert_with(Instant::now);
            live.wake.notify_one();
        }
    }

    fn wake(&self, path: &Arc<str>) {
        if let Some(live) = self.live.get(path) {
            live.wake.notify_one();
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Acknowledged {
                agent,
                number,
                sequence,
            } => {
                let current = self.sequence;
                if let Some(live) = self.live.get_mut(&agent).filter(|live| live.number == number) {
                    live.acknowledged = live.acknowledged.max(sequence);
                    if live.acknowledged >= current {
                        live.owes_since = None;
                    }
                }
            }
            Command::Opened { agent, live } => {
                self.polls.remove(&agent);
                if let Some(replaced) = self.live.insert(agent, live) {
                    replaced.ended.send_replace(Some(Ended::Replaced));
                }
            }
            Command::Polled { agent, sequence } => {
                if !self.live.contains_key(&agent) {
                    self.polls.insert(agent, (sequence, Instant::now()));
                }
            }
        }
    }

    /// Forgets who is gone, and ends sessions that owe an acknowledgement for too long.
    fn tidy(&mut self) {
        self.polls.retain(|_, (_, at)| at.elapsed() < POLLS_WITHIN);
        self.live.retain(|agent, live| {
            if live
                .owes_since
                .is_some_and(|since| since.elapsed() >= ACKNOWLEDGE_WITHIN)
            {
                warn!(agent_path = %agent, "Agent did not acknowledge a bundle");
                live.ended.send_replace(Some(Ended::Unresponsive));
                return false;
            }
            !live.ended.is_closed()
        });
    }

    fn confirm(&self) {
        let sessions = self
            .live
            .values()
            .filter(|live| !live.ended.is_closed())
            .map(|live| live.acknowledged);
        let polls = self.polls.values().map(|(sequence, _)| *sequence);
        let everyone_has = sessions.chain(polls).min().unwrap_or(u64::MAX);
        self.confirmed
            .send_if_modified(|confirmed| std::mem::replace(confirmed, everyone_has) != everyone_has);
    }
}

#[cfg(test)]
mod tests;
