//! The thread that owns the TPM, and how it is asked: one request after the other, each within a limit.
//!
//! A TPM that does not answer can't be interrupted: the thread goes on waiting for it, whoever asked does not. Until it
//! answers nothing else is asked of it, and whoever comes is told so at once. Nothing piles up: one thread waits for the
//! TPM, and requests that nobody waits for any more are dropped.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        mpsc::{self, RecvTimeoutError, TrySendError},
    },
    thread,
    time::{Duration, Instant},
};

use plugin_api::TpmError;
use tracing::{debug, info};

use crate::device::Device;

/// Requests that may wait.
const QUEUE: usize = 16;
/// How long the TPM may take where it may have to generate an RSA key: twice what the slowest was ever seen to take.
const GENERATE_WITHIN: Duration = Duration::from_secs(240);

/// What the TPM is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Operation {
    Activate,
    Certify,
    CreateKey,
    EndorsementKeys,
    Identify,
    Open,
    Quote,
    ReadPcrs,
    Seal,
    Sign,
    Unseal,
}

/// Asks the thread that owns the TPM. Clones share it; it ends with the last one.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    requests: mpsc::SyncSender<Request>,
    limits: Arc<Limits>,
    under_way: Arc<Mutex<Option<UnderWay>>>,
}

#[derive(Debug)]
struct Limits {
    /// How the TPM is addressed.
    tcti: String,
    /// How long it may take for anything but the generation of a key.
    answer_within: Duration,
}

struct Request {
    operation: Operation,
    /// Gone once nobody waits for the answer.
    wanted: Weak<()>,
    act: Box<dyn FnOnce(&mut Device) + Send>,
}

/// What the thread waits for.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    operation: Operation,
    until: Instant,
}

impl Operation {
    /// As logs and metrics have it.
    const fn name(self) -> &'static str {
        match self {
            Self::Activate => "activate",
            Self::Certify => "certify",
            Self::CreateKey => "create_key",
            Self::EndorsementKeys => "endorsement_keys",
            Self::Identify => "identify",
            Self::Open => "open",
            Self::Quote => "quote",
            Self::ReadPcrs => "read_pcrs",
            Self::Seal => "seal",
            Self::Sign => "sign",
            Self::Unseal => "unseal",
        }
    }

    /// Whether it may take the generation of an endorsement key.
    const fn generates(self) -> bool {
        matches!(self, Self::Activate | Self::EndorsementKeys | Self::Identify)
    }
}

impl Limits {
    fn of(&self, operation: Operation) -> Duration {
        if operation.generates() {
            GENERATE_WITHIN.max(self.answer_within)
        } else {
            self.answer_within
        }
    }

    fn no_answer(&self, operation: Operation) -> TpmError {
        TpmError::NoAnswer {
            tcti: self.tcti.as_str().into(),
            operation: operation.name(),
            limit: self.of(operation),
        }
    }
}

impl Owner {
    /// Starts the thread.
    pub(crate) fn start(mut device: Device, tcti: String, answer_within: Duration) -> Result<Self, TpmError> {
        let (requests, queue) = mpsc::sync_channel::<Request>(QUEUE);
        let owner = Self {
            requests,
            limits: Arc::new(Limits { tcti, answer_within }),
            under_way: Arc::default(),
        };
        let (limits, under_way) = (Arc::clone(&owner.limits), Arc::clone(&owner.under_way));
        thread::Builder::new()
            .name("tpm".into())
            .spawn(move || {
                for request in &queue {
                    run(request, &mut device, &limits, &under_way);
                }
            })
            .map_err(|_| TpmError::Stopped)?;
        Ok(owner)
    }

    /// Has the thread do `act`, and waits for what comes of it, but no longer than the TPM may take for `operation`.
    pub(crate) fn ask<T, F>(&self, operation: Operation, act: F) -> Result<T, TpmError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Device) -> Result<T, TpmError> + Send + 'static,
    {
        if let Some(late) = self.under_way().filter(UnderWay::is_late) {
            return Err(self.limits.no_answer(late.operation));
        }
        let (reply, answer) = mpsc::sync_channel(1);
        let waiting = Arc::new(());
        let request = Request {
            operation,
            wanted: Arc::downgrade(&waiting),
            act: Box::new(move |device| {
                // Whoever asked waits for the answer; if it is gone, nobody misses it.
                reply.send(act(device)).ok();
            }),
        };
        self.requests.try_send(request).map_err(|error| match error {
            TrySendError::Disconnected(_) => TpmError::Stopped,
            TrySendError::Full(_) => TpmError::Busy { limit: QUEUE },
        })?;
        self.wait(operation, &answer)
    }

    /// Waits for an answer: while what is before it is within its limit, and then within its own.
    fn wait<T>(
        &self,
        operation: Operation,
        answer: &mpsc::Receiver<Result<T, TpmError>>,
    ) -> Result<T, TpmError> {
        let mut until = Instant::now() + self.limits.of(operation);
        loop {
            match answer.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(outcome) => return outcome,
                Err(RecvTimeoutError::Disconnected) => return Err(TpmError::Stopped),
                Err(RecvTimeoutError::Timeout) => {}
            }
            until = match self.under_way() {
                Some(late) if late.is_late() => return Err(self.limits.no_answer(late.operation)),
                Some(before) => before.until,
                // The thread is between two requests.
                None => Instant::now() + self.limits.of(operation),
            };
        }
    }

    fn under_way(&self) -> Option<UnderWay> {
        *self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnderWay {
    fn is_late(&self) -> bool {
        self.until <= Instant::now()
    }
}

fn run(request: Request, device: &mut Device, limits: &Limits, under_way: &Mutex<Option<UnderWay>>) {
    let Request {
        operation,
        wanted,
        act,
    } = request;
    if wanted.strong_count() == 0 {
        debug!(
            operation = operation.name(),
            "Request to the TPM dropped: nobody waits for it"
        );
        return;
    }
    let note = |now| *under_way.lock().unwrap_or_else(PoisonError::into_inner) = now;
    let (began, limit) = (Instant::now(), limits.of(operation));
    note(Some(UnderWay {
        operation,
        until: began + limit,
    }));
    act(device);
    note(None);
    let taken = began.elapsed();
    if taken >= limit {
        info!(tcti = %limits.tcti, operation = operation.name(), ?taken, ?limit, "TPM answers again");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Sender;

    use super::*;
    use crate::Config;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(60);

    /// An owner of a TPM that is never opened.
    fn owner(answer_within: Duration) -> Owner {
        let device = Device::closed(Config::default());
        Owner::start(device, "a TPM".into(), answer_within).unwrap()
    }

    /// Has a quote asked for that is answered when something is sent; answers when the thread has begun with it.
    fn hang(owner: &Owner) -> (Sender<()>, thread::JoinHandle<Result<(), TpmError>>) {
        let (answer, hung) = mpsc::channel();
        let (begin, begun) = mpsc::channel();
        let owner = owner.clone();
        let asking = thread::spawn(move || {
            owner.ask(Operation::Quote, move |_| {
                begin.send(()).unwrap();
                hung.recv().ok();
                Ok(())
            })
        });
        begun.recv().unwrap();
        (answer, asking)
    }

    fn check_late(outcome: Result<(), TpmError>) {
        let error = outcome.unwrap_err();
        let TpmError::NoAnswer {
            tcti,
            operation,
            limit,
        } = &error
        else {
            panic!("{error:?}")
        };
        assert_eq!((tcti.as_ref(), *operation, *limit), ("a TPM", "quote", SHORT));
        let said = error.to_string();
        assert!(
            said.starts_with("TPM `a TPM` did not answer `quote` within 50ms"),
            "{said}"
        );
    }

    #[test]
    fn a_tpm_that_never_answers_holds_up_nobody_and_is_asked_for_nothing_else() {
        let owner = owner(SHORT);
        let (answer, asking) = hang(&owner);
        check_late(asking.join().unwrap());
        for _ in 0..2 * QUEUE {
            let outcome = owner.ask(Operation::Identify, |_| panic!("it is asked all the same"));
            check_late(outcome);
        }
        drop(answer);
    }

    #[test]
    fn a_tpm_that_answers_after_all_is_asked_again() {
        let owner = owner(SHORT);
        let (answer, asking) = hang(&owner);
        check_late(asking.join().unwrap());
        answer.send(()).unwrap();
        // The thread takes note of the answer in its own time.
        let ask = || owner.ask(Operation::Quote, |_| Ok(()));
        let recovered = std::iter::repeat_with(ask).take(1_000_000).any(|outcome| {
            thread::yield_now();
            outcome.is_ok()
        });
        assert!(recovered);
    }

    #[test]
    fn what_waits_behind_another_request_has_its_own_limit() {
        let owner = owner(LONG);
        let (answer, asking) = hang(&owner);
        let behind = owner.clone();
        let behind = thread::spawn(move || behind.ask(Operation::ReadPcrs, |_| Ok(7)));
        answer.send(()).unwrap();
        asking.join().unwrap().unwrap();
        assert_eq!(behind.join().unwrap().unwrap(), 7);
    }

    #[test]
    fn requests_that_nobody_waits_for_are_dropped() {
        let owner = owner(SHORT);
        let (answer, asking) = hang(&owner);
        let behind = owner.clone();
        let behind = thread::spawn(move || {
            behind.ask(Operation::Quote, |_| -> Result<(), TpmError> {
                panic!("nobody waits for it")
            })
        });
        check_late(asking.join().unwrap());
        check_late(behind.join().unwrap());
        answer.send(()).unwrap();
        drop(answer);
        let ask = || owner.ask(Operation::Quote, |_| Ok(()));
        while ask().is_err() {
            thread::yield_now();
        }
    }

    #[test]
    fn no_more_requests_wait_than_the_queue_holds() {
        let owner = owner(LONG);
        let (answer, asking) = hang(&owner);
        let ask = |owner: &Owner| {
            let owner = owner.clone();
            thread::spawn(move || owner.ask(Operation::Quote, |_| Ok(())))
        };
        let all: Vec<_> = (0..=QUEUE).map(|_| ask(&owner)).collect();
        // One of them has no place, and is told so while the others wait.
        while !all.iter().any(thread::JoinHandle::is_finished) {
            thread::yield_now();
        }
        answer.send(()).unwrap();
        asking.join().unwrap().unwrap();
        let outcomes: Vec<_> = all.into_iter().map(|one| one.join().unwrap()).collect();
        let refused = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
        assert!(
            refused
                .clone()
                .all(|error| matches!(error, TpmError::Busy { limit: QUEUE }))
        );
        assert_eq!(refused.count(), 1);
    }

    #[test]
    fn only_what_may_generate_a_key_may_take_minutes() {
        let limits = Limits {
            tcti: String::new(),
            answer_within: Duration::from_secs(20),
        };
        let check = |operation, seconds| {
            assert_eq!(
                limits.of(operation),
                Duration::from_secs(seconds),
                "{operation:?}"
            );
        };
        for operation in [
            Operation::Activate,
            Operation::EndorsementKeys,
            Operation::Identify,
        ] {
            check(operation, 240);
        }
        for operation in [
            Operation::Certify,
            Operation::CreateKey,
            Operation::Open,
            Operation::Quote,
            Operation::ReadPcrs,
            Operation::Seal,
            Operation::Sign,
            Operation::Unseal,
        ] {
            check(operation, 20);
        }
    }
}
