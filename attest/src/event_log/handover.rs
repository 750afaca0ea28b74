//! How firmware handed over: PCR 4 says what it started, PCR 5 that it then ended (check 52).

use super::{Measurements, Phase, words};
use crate::Reject;

/// What was started on the way to the operating system, by position in the log. Digests are those of the images as
/// Secure Boot hashes them (Authenticode).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Handover {
    /// Images that firmware started before it turned to the boot options: its own menus, and what vendors hide there.
    pub before: Vec<u32>,
    /// Images from the boot option on: boot loaders, kernels.
    pub images: Vec<u32>,
    /// Whether firmware said last that it ended. Some never says so; and none has, while a loader still runs on it.
    pub has_ended: bool,
}

const CALLING: &[u8] = b"Calling EFI Application from Boot Option";
const RETURNING: &[u8] = b"Returning from EFI Application from Boot Option";
const EXIT: &[u8] = words::EXIT.as_bytes();
const EXITED: &[u8] = words::EXITED.as_bytes();
const NOT_EXITED: &[u8] = b"Exit Boot Services Returned with Failure";

impl Handover {
    /// Reads PCRs 4 and 5. What marks the boot option is the separator of PCR 4: firmware measures it just before, and much
    /// firmware does not say besides that it calls one. Whatever else is in PCR 4 is an image, on either side of it.
    ///
    /// Linux appends firmware's last events to the log since 5.3; before, they are missing, and only the value of PCR 5 tells
    /// ([`Measurements::with_end`]).
    ///
    /// # Errors
    ///
    /// [`Reject::LogHandover`] if nothing shows that a boot option was called, neither firmware's word before the separator
    /// of PCR 4 nor an image after it; or if PCR 5 tells of the end, but not last.
    pub fn of(measurements: &Measurements) -> Result<Self, Reject> {
        let mut handover = Self {
            has_ended: has_ended(measurements)?,
            ..Self::default()
        };
        let mut is_called = false;
        for event in measurements.of(4).into_iter().flatten() {
            let action = event.content.bytes().map(unterminated).and_then(action);
            match (event.phase, action) {
                (Phase::Firmware, Some(Action::Calling)) => is_called = true,
                (_, Some(_)) | (Phase::Separator, _) => {}
                (Phase::Firmware, None) => handover.before.push(event.index),
                (Phase::Later, None) => handover.images.push(event.index),
            }
        }
        if is_called || !handover.images.is_empty() {
            Ok(handover)
        } else {
            Err(Reject::LogHandover)
        }
    }
}

/// What firmware says in PCR 4 of boot options.
enum Action {
    Calling,
    Returning,
}

fn action(text: &[u8]) -> Option<Action> {
    match text {
        CALLING => Some(Action::Calling),
        RETURNING => Some(Action::Returning),
        _ => is_booting(text).then_some(Action::Calling),
    }
}

/// `Booting to Boot0001 Option`, as PFP 1.06 has it beside the other two.
fn is_booting(text: &[u8]) -> bool {
    let number = text
        .strip_prefix(b"Booting to Boot")
        .and_then(|rest| rest.strip_suffix(b" Option"));
    number.is_some_and(|number| number.len() == 4 && number.iter().all(u8::is_ascii_hexdigit))
}

/// Whether PCR 5 says last that firmware ended; not, if it says nothing at all of its end. Before, firmware may have failed
/// to, and EDK2 told the failure alone until 2024, without that it was asked to end.
fn has_ended(measurements: &Measurements) -> Result<bool, Reject> {
    let texts: Vec<_> = measurements
        .of(5)
        .into_iter()
        .flatten()
        .filter_map(|event| {
            let text = event.content.bytes().map(unterminated);
            (event.phase == Phase::Later).then_some(text)
        })
        .collect();
    let count = |text: &[u8]| texts.iter().filter(|found| **found == Some(text)).count();
    let (asked, ended, failed) = (count(EXIT), count(EXITED), count(NOT_EXITED));
    match texts.as_slice() {
        [.., Some(EXIT | NOT_EXITED), Some(EXITED)] if ended == 1 && (1..=failed + 1).contains(&asked) => {
            Ok(true)
        }
        _ if asked + ended + failed == 0 => Ok(measurements.has_unlogged_end()),
        _ => Err(Reject::LogHandover),
    }
}

fn unterminated(text: &[u8]) -> &[u8] {
    text.strip_suffix(b"\0").unwrap_or(text)
}
