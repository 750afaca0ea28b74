//! How much may be signed at once. What is beyond waits in turn, within limits; whoever is beyond those is told when to
//! come back. So signing never takes all processors from what costs little: sessions, health, administration.

use std::{sync::Arc, time::Duration};

use edge::metrics::Tally;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tonic::Status;

use super::status;

/// Admits what is to be signed. Clones admit to the same places.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    /// One for each SVID that waits, is signed or is made durable.
    places: Arc<Semaphore>,
    /// One for each call that signs.
    turns: Arc<Semaphore>,
    limited: Tally<1>,
}

/// Places, and the turn to sign.
#[derive(Debug)]
pub(super) struct Admitted {
    _places: OwnedSemaphorePermit,
    turn: Option<OwnedSemaphorePermit>,
}

/// Most SVIDs under way: about a second of work with keys on elliptic curves.
const PLACES: usize = 8192;
/// How long a call waits for its turn; with large RSA keys, a second's work takes minutes.
const WAIT: Duration = Duration::from_secs(5);

impl Admission {
    /// Lets as many calls sign at once as there are processors.
    pub(super) fn new(processors: usize, limited: Tally<1>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(PLACES)),
            turns: Arc::new(Semaphore::new(processors)),
            limited,
        }
    }

    /// Waits for the turn to sign `svids` SVIDs.
    ///
    /// # Errors
    ///
    /// Too much is waiting already, or for too long.
    pub(super) async fn turn(&self, svids: usize) -> Result<Admitted, Status> {
        let svids = u32::try_from(svids).unwrap_or(u32::MAX);
        let Ok(places) = Arc::clone(&self.places).try_acquire_many_owned(svids) else {
            return Err(self.refuse());
        };
        match timeout(WAIT, Arc::clone(&self.turns).acquire_owned()).await {
            Ok(Ok(turn)) => Ok(Admitted {
                _places: places,
                turn: Some(turn),
            }),
            _ => Err(self.refuse()),
        }
    }

    fn refuse(&self) -> Status {
        self.limited.count(["admission"]);
        status::too_much_to_sign()
    }
}

impl Admitted {
    /// Everything is signed: the next has its turn, while this is made durable.
    pub(super) fn signed(&mut self) {
        self.turn = None;
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_beyond_the_places_is_refused_at_once() {
        let admission = Admission::new(1, Tally::default());
        let mut first = admission.turn(PLACES - 1).await.unwrap();
        let begun = tokio::time::Instant::now();
        let refused = admission.turn(2).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains("retry in"), "{refused}");
        assert_eq!(begun.elapsed(), Duration::ZERO);
        first.signed();
        let second = admission.turn(1).await;
        assert!(
            second.is_ok(),
            "the first has given its turn back, not its places"
        );
        assert!(admission.turn(1).await.is_err());
        drop(first);
        drop(second);
        assert!(admission.turn(PLACES).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_waited_for_in_vain_only_so_long() {
        let admission = Admission::new(1, Tally::default());
        let first = admission.turn(1).await.unwrap();
        let begun = tokio::time::Instant::now();
        assert_eq!(
            admission.turn(1).await.unwrap_err().code(),
            Code::ResourceExhausted
        );
        assert_eq!(begun.elapsed(), WAIT);
        let (next, ()) = tokio::join!(admission.turn(1), async { drop(first) });
        assert!(next.is_ok());
    }
}
