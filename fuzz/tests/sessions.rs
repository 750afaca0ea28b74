//! Conversations after random scripts, the same ones each time: what the target asserts holds.

use std::cell::Cell;

use fuzz::targets::sessions::{MAX_STEPS, STEP, Tally, play};
use proptest::{
    collection::vec,
    prelude::any,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

const SCRIPTS: u32 = 300;

#[test]
fn the_server_believes_what_is_true_and_blames_who_said_it() {
    let config = Config {
        cases: SCRIPTS,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let all = Cell::new(Tally::default());
    let script = vec(any::<[u8; STEP]>(), 1..MAX_STEPS);
    let outcome = TestRunner::new_with_rng(config, rng).run(&script, |script| {
        let (one, mut sum) = (play(script.as_flattened()), all.get());
        sum.claims += one.claims;
        sum.unchanged += one.unchanged;
        sum.grown += one.grown;
        sum.refused += one.refused;
        sum.blamed += one.blamed;
        all.set(sum);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    // Scripts come to something, of every kind.
    let Tally {
        claims,
        unchanged,
        grown,
        refused,
        blamed,
    } = all.get();
    let least = usize::try_from(SCRIPTS / 10).unwrap();
    let rare = [claims, unchanged, grown, refused, blamed].into_iter().min();
    assert!(rare.unwrap() >= least, "{:?}", all.get());
}
