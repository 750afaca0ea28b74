//! How often one source may ask, and one endorsement key. Generous: a rack sits behind one address.

use std::{
    hash::Hash,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use edge::metrics::Tally;
use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use tonic::Status;

use super::status;

/// Limits one kind of call for each key, by default the source address. Clones share what was counted.
#[derive(Clone)]
pub(super) struct Limiter<K: Hash + Eq + Clone = IpAddr> {
    /// `None` where there is no limit.
    rates: Option<Arc<DefaultKeyedRateLimiter<K>>>,
    tidied: Arc<Mutex<Instant>>,
    name: &'static str,
    limited: Tally<1>,
}

/// A host, by where it comes from and the key that it says it has. Nobody has proven that yet: without the source,
/// whoever knows a host's key could have it refused.
pub(super) type ClaimedHost = (IpAddr, [u8; 32]);

/// Most keys that are remembered; beyond, calls are not counted until some have their whole allowance back. A key that
/// called once has it back after a moment, so that takes tens of thousands of callers at once.
const MAX_KEYS: usize = 65_536;
/// How often room is made where there is none.
const TIDY_EVERY: Duration = Duration::from_secs(1);

/// By which sources are told apart: whoever has an IPv6 address has all of its /64.
pub(super) fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address => address,
    }
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    /// Limits to `quota`, if any; counts in `limited`, as `name`, who meets it.
    pub(super) fn new(quota: Option<Quota>, name: &'static str, limited: Tally<1>) -> Self {
        Self {
            rates: quota.map(|quota| Arc::new(RateLimiter::keyed(quota))),
            tidied: Arc::new(Mutex::new(Instant::now())),
            name,
            limited,
        }
    }

    /// Counts `calls` of `key`.
    pub(super) fn check_key(&self, key: &K, calls: usize) -> Result<(), Status> {
        let calls = u32::try_from(calls).ok().and_then(NonZeroU32::new);
        let (Some(rates), Some(calls)) = (&self.rates, calls) else {
            return Ok(());
        };
        if rates.len() >= MAX_KEYS && !self.makes_room(rates) {
            return Ok(());
        }
        let checked = rates.check_key_n(key, calls);
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

    fn makes_room(&self, rates: &DefaultKeyedRateLimiter<K>) -> bool {
        let mut tidied = self.tidied.lock().unwrap_or_else(PoisonError::into_inner);
        if tidied.elapsed() >= TIDY_EVERY {
            rates.retain_recent();
            *tidied = Instant::now();
        }
        rates.len() < MAX_KEYS
    }

    /// Forgets who was quiet for long enough to have its whole allowance back.
    pub(super) fn tidy(&self) {
        if let Some(rates) = &self.rates {
            rates.retain_recent();
        }
    }
}

impl Limiter {
    /// Counts `calls` from `address`. Local callers are not limited.
    pub(super) fn check(&self, address: Option<SocketAddr>, calls: usize) -> Result<(), Status> {
        address.map_or(Ok(()), |address| self.check_key(&source(address.ip()), calls))
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
        let quota = Quota::per_second(one).allow_burst(NonZeroU32::new(2).unwrap());
        let limiter = Limiter::new(Some(quota), "attestation", Tally::default());
        let from = |last: u8| Some(([192, 0, 2, last], 1).into());
        assert!(limiter.check(from(1), 2).is_ok());
        let refused = limiter.check(from(1), 1).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(refused.message().contains("retry in"), "{refused}");
        assert!(limiter.check(from(2), 1).is_ok());
        assert!(limiter.check(None, 100).is_ok());
        assert!(limiter.check(from(3), 3).is_err());
    }

    #[test]
    fn who_is_remembered_has_a_limit() {
        let quota = Quota::per_minute(NonZeroU32::MIN);
        let limiter = Limiter::new(Some(quota), "endorsement_key", Tally::default());
        for key in 0..=MAX_KEYS {
            assert!(limiter.check_key(&key, 1).is_ok());
        }
        assert_eq!(limiter.rates.unwrap().len(), MAX_KEYS);
    }
}
