//! How often one source may ask. Generous: a rack sits behind one address.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::Arc,
};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use tonic::Status;

use super::status;

/// Limits one kind of call, by source address. Local callers are not limited.
#[derive(Clone, Default)]
pub(super) struct Limiter(Option<Arc<DefaultKeyedRateLimiter<IpAddr>>>);

/// A rate per source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// Calls a second, in the long run.
    pub(super) per_second: NonZeroU32,
    /// Calls at once.
    pub(super) burst: NonZeroU32,
}

impl Limiter {
    pub(super) fn new(rate: Rate) -> Self {
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        Self(Some(Arc::new(RateLimiter::keyed(quota))))
    }

    /// Counts `calls` from `address`.
    pub(super) fn check(&self, address: Option<SocketAddr>, calls: usize) -> Result<(), Status> {
        let (Some(limiter), Some(address)) = (&self.0, address) else {
            return Ok(());
        };
        let Some(calls) = u32::try_from(calls).ok().and_then(NonZeroU32::new) else {
            return Ok(());
        };
        match limiter.check_key_n(&address.ip(), calls) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => Err(status::too_often(
                not_until.wait_time_from(DefaultClock::default().now()),
            )),
            Err(too_many) => Err(Status::resource_exhausted(format!(
                "batch is larger than {}",
                too_many.0
            ))),
        }
    }

    /// Forgets sources that were quiet for long enough to have their whole allowance back.
    pub(super) fn tidy(&self) {
        if let Some(limiter) = &self.0 {
            limiter.retain_recent();
        }
    }
}
