//! Operators' orders, and those among them that wait: an authority signs when everyone has the bundle that holds it.

use rustls_pki_types::CertificateDer;
use svid::x509::PublicKey;
use tokio::time::{Duration, Instant};
use tracing::warn;

use super::{
    AuthorityKind, Command, Order, OrderRefused, Ordered, Rotation, RotationError,
    steps::{self, Kind},
};

/// An order to activate that waits for a bundle to be everywhere.
#[derive(Debug)]
pub(super) struct Waiting {
    command: Command,
    /// Of the bundle.
    sequence: u64,
    /// When it is carried out all the same.
    until: Instant,
}

/// How long an order to activate waits: sessions that do not acknowledge a bundle in 10 s are closed meanwhile.
const CONFIRM_WITHIN: Duration = Duration::from_secs(12);
/// Most orders that wait; further ones wait in the queue.
pub(super) const MOST_WAITING: usize = 16;

impl Rotation {
    /// Carries out an order, or keeps it until it can be; nothing else waits for that.
    pub(super) async fn obey(&mut self, command: Command) {
        let awaited = match command.kind {
            AuthorityKind::Jwt => self.awaited::<PublicKey>(&command.order),
            AuthorityKind::X509 => self.awaited::<CertificateDer<'static>>(&command.order),
        };
        match awaited {
            Ok(Some(sequence)) if *self.config.confirmed.borrow() < sequence => self.waiting.push(Waiting {
                command,
                sequence,
                until: Instant::now() + CONFIRM_WITHIN,
            }),
            Ok(_) => self.carry_out(command).await,
            Err(refused) => reply(command, Err(refused.into())),
        }
    }

    /// Carries out the orders that waited long enough.
    pub(super) async fn obey_waiting(&mut self) {
        let confirmed = *self.config.confirmed.borrow();
        let now = Instant::now();
        let all = std::mem::take(&mut self.waiting);
        for waiting in all {
            if waiting.sequence > confirmed && waiting.until > now {
                self.waiting.push(waiting);
                continue;
            }
            if waiting.sequence > confirmed {
                warn!("Authority signs although some agents may not have it yet: an operator ordered it");
            }
            self.carry_out(waiting.command).await;
        }
    }

    /// How long until the first order that waits is carried out whatever comes.
    pub(super) fn patience(&self) -> Duration {
        let untils = self.waiting.iter().map(|waiting| waiting.until);
        untils.min().map_or(Duration::MAX, |until| {
            until.saturating_duration_since(Instant::now())
        })
    }

    /// The bundle that everyone is to have before the order is carried out.
    fn awaited<K: Kind>(&self, order: &Order) -> Result<Option<u64>, OrderRefused> {
        let snapshot = self.registry.snapshot();
        let all = K::of(&snapshot.authorities);
        let position = order.decide(all, self.clock.now())?;
        let about = position.and_then(|position| all.get(position));
        let is_awaited = matches!(order, Order::Activate(_));
        Ok(about
            .filter(|_| is_awaited)
            .map(|authority| authority.published_sequence))
    }

    async fn carry_out(&mut self, command: Command) {
        let (order, actor) = (command.order.clone(), &command.actor);
        let done = match command.kind {
            AuthorityKind::Jwt => steps::obey::<PublicKey>(self, order, actor).await,
            AuthorityKind::X509 => steps::obey::<CertificateDer<'static>>(self, order, actor).await,
        };
        let published = match done {
            Ok(ordered) => self.publish().await.map(|()| ordered),
            Err(error) => Err(error),
        };
        reply(command, published);
    }
}

fn reply(command: Command, outcome: Result<Ordered, RotationError>) {
    // Whoever ordered it may have gone.
    let _gone = command.reply.send(outcome);
}
