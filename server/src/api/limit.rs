//! How often one source may ask. Generous: a rack sits behind one address.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    num::NonZeroU32,
    sync::Arc,
};

use edge::metrics::Tally;
use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use tonic::Status;

use super::status;

/// Limits one kind of call, by source address. Local callers are not limited.
#[derive(Clone)]
pub(super) struct Limiter {
    /// `None` where there is no limit.
    rates: Option<Arc<DefaultKeyedRateLimiter<IpAddr>>>,
    name: &'static str,
    limited: Tally<1>,
}

/// A rate per source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// Calls a second, in the long run.
    pub(super) per_second: NonZeroU32,
    /// Calls at once.
    pub(super) burst: NonZeroU32,
}

/// By which sources are told apart: whoever has an IPv6 address has all of its /64.
pub(super) fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address => address,
    }
}

impl Limiter {
    /// Limits to `rate`, if any; counts in `limited`, as `name`, who meets it.
    pub(super) fn new(rate: Option<Rate>, name: &'static str, limited: Tally<1>) -> Self {
        let rates = rate.map(|rate| {
            let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
            Arc::new(RateLimiter::keyed(quota))
        });
        Self { rates, name, limited }
    }

    /// Counts `calls` from `address`.
    pub(super) fn check(&self, address: Option<SocketAddr>, calls: usize) -> Result<(), Status> {
        let (Some(limiter), Some(address)) = (&self.rates, address) else {
            return Ok(());
        };
        let Some(calls) = u32::try_from(calls).ok().and_then(NonZeroU32::new) else {
            return Ok(());
        };
        let checked = limiter.check_key_n(&source(address.ip()), calls);
        if !matches!(checked, Ok(Ok(()))) {
            self.limited.count([self.name]);
        }
        match checked {
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
        if let Some(limiter) = &self.rates {
            limiter.retain_recent();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_addresses_and_prefixes() {
        let check = |address: &str, expected: &str| {
            let source = source(address.parse().unwrap());
            assert_eq!(source, expected.parse::<IpAddr>().unwrap(), "{address}");
        };
        check("192.0.2.1", "192.0.2.1");
        check("::ffff:192.0.2.1", "192.0.2.1");
        check("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::");
    }

    #[test]
    fn a_source_has_a_burst_and_is_told_when_to_come_back() {
        let one = NonZeroU32::MIN;
        let limiter = Limiter::new(
            Some(Rate {
                per_second: one,
                burst: NonZeroU32::new(2).unwrap(),
            }),
            "attestation",
            Tally::default(),
        );
        let from = |last: u8| Some(([192, 0, 2, last], 1).into());
        assert!(limiter.check(from(1), 2).is_ok());
        let refused = limiter.check(from(1), 1).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(refused.message().contains("retry in"), "{refused}");
        assert!(limiter.check(from(2), 1).is_ok());
        assert!(limiter.check(None, 100).is_ok());
        assert!(limiter.check(from(3), 3).is_err());
    }
}
