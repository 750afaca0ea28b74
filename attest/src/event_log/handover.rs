//! How firmware handed over: PCR 4 says what it started, PCR 5 that it then ended (check 52).

use super::{Measurements, Phase};
use crate::Reject;

/// What was started on the way to the operating system, by position in the log. Digests are those of the images as
/// Secure Boot hashes them (Authenticode).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Handover {
    /// Images that firmware started before it called the boot option: its own menus, and what vendors hide there.
    pub before: Vec<u32>,
    /// Images from the boot option on: boot loaders, kernels.
    pub images: Vec<u32>,
}

const CALLING: &[u8] = b"Calling EFI Application from Boot Option";
const RETURNING: &[u8] = b"Returning from EFI Application from Boot Option";
const EXIT: &[u8] = b"Exit Boot Services Invocation";
const EXITED: &[u8] = b"Exit Boot Services Returned with Success";
const NOT_EXITED: &[u8] = b"Exit Boot Services Returned with Failure";

impl Handover {
    /// Reads PCRs 4 and 5. Linux appends firmware's last events to the log since 5.3; before, they are missing, and the
    /// log does not explain PCR 5.
    ///
    /// # Errors
    ///
    /// [`Reject::LogHandover`] if firmware did not call a boot option before the separator of PCR 4, or did not say last
    /// in PCR 5 that it ended.
    pub fn of(measurements: &Measurements) -> Result<Self, Reject> {
        let mut handover = Self::default();
        let mut is_called = false;
        for event in measurements.of(4).into_iter().flatten() {
            match (event.phase, event.content.bytes().map(unterminated)) {
                (Phase::Firmware, Some(CALLING)) => is_called = true,
                (_, Some(CALLING | RETURNING)) | (Phase::Separator, _) => {}
                (Phase::Firmware, _) => handover.before.push(event.index),
                (Phase::Later, _) => handover.images.push(event.index),
            }
        }
        if is_called && has_ended(measurements) {
            Ok(handover)
        } else {
            Err(Reject::LogHandover)
        }
    }
}

/// Whether the last two events of PCR 5 say that firmware ended. Before, it may have failed to.
fn has_ended(measurements: &Measurements) -> bool {
    let texts: Vec<_> = measurements
        .of(5)
        .into_iter()
        .flatten()
        .filter(|event| event.phase == Phase::Later)
        .map(|event| event.content.bytes().map(unterminated))
        .collect();
    let count = |text: &[u8]| texts.iter().filter(|found| **found == Some(text)).count();
    texts.ends_with(&[Some(EXIT), Some(EXITED)]) && count(EXITED) == 1 && count(EXIT) == 1 + count(NOT_EXITED)
}

fn unterminated(text: &[u8]) -> &[u8] {
    text.strip_suffix(b"\0").unwrap_or(text)
}
