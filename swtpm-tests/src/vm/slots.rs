//! How many guests run at once, and beside what: each keeps a processor busy while it boots.

use std::sync::{Condvar, Mutex};

use crate::alone::{Alone, FLOOD, nobody};

/// Two processors are what CI has.
const AT_ONCE: usize = 2;

static FREE: Mutex<usize> = Mutex::new(AT_ONCE);
static FREED: Condvar = Condvar::new();

/// The right to run a guest, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    // What is measured in a flood is not to be measured beside an emulator.
    _no_flood: Alone,
}

impl Slot {
    /// Waits until a guest may run.
    pub(super) fn wait() -> Self {
        let mut free = FREED.wait_while(FREE.lock().unwrap(), |free| *free == 0).unwrap();
        *free -= 1;
        drop(free);
        Self {
            _no_flood: nobody(FLOOD),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *FREE.lock().unwrap() += 1;
        FREED.notify_one();
    }
}
