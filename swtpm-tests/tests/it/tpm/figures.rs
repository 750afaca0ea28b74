//! How long things take on swtpm. Printed, not judged: `cargo test figures -- --nocapture`.

use std::time::{Duration, Instant};

use super::*;

fn timed<T>(act: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = act();
    (result, start.elapsed())
}

fn median(mut act: impl FnMut()) -> Duration {
    let mut times: Vec<_> = (0..51).map(|_| timed(&mut act).1).collect();
    times.sort();
    times[times.len() / 2]
}

#[test]
fn figures() {
    let tpm = any_tpm();
    let mut handle = open(tpm.tcti());
    let (identity, first) = timed(|| handle.identify(&trust_domain()).unwrap());
    println!("identify, first: {first:?}");
    let (_, restarted) = timed(|| identified(tpm.tcti()));
    println!("identify, first of a later process: {restarted:?}");
    let again = median(|| drop(handle.identify(&trust_domain()).unwrap()));
    println!("identify, again: {again:?}");
    println!("quote: {:?}", median(|| drop(quote(&mut handle).unwrap())));
    let key = handle.create_key().unwrap();
    let signed = median(|| drop(handle.sign(&key, b"message").unwrap()));
    println!("sign: {signed:?}");
    let ak = name(&identity.attestation_key);
    for ek in &identity.endorsement_keys {
        let (_, activation) = challenge(ek, &ak);
        let taken = median(|| drop(handle.activate(&activation).unwrap()));
        println!("activate, {} bytes of public area: {taken:?}", ek.public.len());
    }
    let bare = bare_tpm();
    let (_, bare) = timed(|| identified(bare.tcti()));
    println!("identify, with an RSA key to generate: {bare:?}");
}
