//! What is not to run beside its like, in whichever process.

use std::{env, fs::File};

use crate::world::uid;

/// Leave to run, until it is dropped.
#[derive(Debug)]
pub struct Alone {
    _locked: File,
}

/// Waits until nobody else of this user is `what`.
///
/// # Panics
///
/// There is no room for a file.
#[must_use]
pub fn alone(what: &str) -> Alone {
    let path = env::temp_dir().join(format!("plastron-{what}-{}.lock", uid()));
    let file = File::create(path).unwrap();
    file.lock().unwrap();
    Alone { _locked: file }
}
