//! What is not to run beside its like, in whichever process.

use std::{env, fs::File};

use crate::world::uid;

/// Leave to run, until it is dropped.
#[derive(Debug)]
pub struct Alone {
    _locked: File,
}

/// What tests are that want all that the machine has: beside each other they would measure each other.
pub const FLOOD: &str = "flood";

/// Waits until nobody else of this user is `what`.
///
/// # Panics
///
/// There is no room for a file.
#[must_use]
pub fn alone(what: &str) -> Alone {
    let file = file(what);
    file.lock().unwrap();
    Alone { _locked: file }
}

/// Waits until nobody of this user is `what`, and nobody becomes it until this is dropped. Others may do the same.
pub(crate) fn nobody(what: &str) -> Alone {
    let file = file(what);
    file.lock_shared().unwrap();
    Alone { _locked: file }
}

fn file(what: &str) -> File {
    let path = env::temp_dir().join(format!("plastron-{what}-{}.lock", uid()));
    File::create(path).unwrap()
}
