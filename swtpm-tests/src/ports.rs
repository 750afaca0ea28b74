//! Pairs of TCP ports: libtss2 expects a TPM's control channel on the port after that of its commands.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    net::{Ipv4Addr, TcpListener},
};

/// Below the range from which the kernel takes ports for connections, so that only a listener can be in the way.
const FIRST: u16 = 12_000;
const PAIRS: u16 = 10_000;
/// How often another pair is tried.
pub(crate) const ATTEMPTS: usize = 50;

/// The first port of a random pair. It may be taken: who binds it finds out.
pub(crate) fn random() -> u16 {
    let random = RandomState::new().build_hasher().finish();
    FIRST + 2 * u16::try_from(random % u64::from(PAIRS)).unwrap()
}

/// A port that nobody listens on, for a server that has to be found on it again after a restart.
#[must_use]
pub fn free() -> u16 {
    listen().0
}

/// Listens on both ports of a pair.
pub(crate) fn listen() -> (u16, TcpListener, TcpListener) {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok();
    let pair = || {
        let port = random();
        Some((port, bind(port)?, bind(port + 1)?))
    };
    (0..ATTEMPTS).find_map(|_| pair()).expect("a free pair of ports")
}
