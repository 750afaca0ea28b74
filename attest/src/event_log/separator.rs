//! Separators: where firmware ends and the operating system begins (check 49).

use super::event::{Event, EventKind};
use crate::{Digest, HashAlg, Reject};

/// What separators measure, by bank (PFP, EV_SEPARATOR).
pub(super) struct Separators {
    alg: HashAlg,
    zeros: Digest,
    ones: Digest,
    error: Digest,
}

impl Separators {
    /// Firmware separates PCR 0 to PCR 7.
    pub(super) const PCRS: std::ops::RangeInclusive<u8> = 0..=7;

    pub(super) fn new(alg: HashAlg) -> Self {
        Self {
            alg,
            zeros: alg.digest(&[&[0; 4]]),
            ones: alg.digest(&[&[0xff; 4]]),
            error: alg.digest(&[&1_u32.to_le_bytes()]),
        }
    }

    /// Finds the separator of `pcr`, whose events are `events`.
    ///
    /// Its digest makes a separator, whatever it is called: who could relabel the true one and add another
    /// at the end would pass his own events for those of firmware. The first one counts, so that this can't
    /// be done with those either that are let pass as [`is_lookalike`](Self::is_lookalike).
    pub(super) fn find<'a>(
        &self,
        pcr: u8,
        events: impl Iterator<Item = Event<'a>> + Clone,
    ) -> Result<u32, Reject> {
        let first = events.clone().find(|event| self.is_normal(event));
        let mut separators = events.filter(|event| self.is_separator(event) && !self.is_lookalike(event));
        match (first, separators.next(), separators.next()) {
            (Some(first), Some(only), None) if self.is_normal(&only) => Ok(first.index),
            _ => Err(Reject::LogSeparator(pcr)),
        }
    }

    fn is_separator(&self, event: &Event<'_>) -> bool {
        event.kind == EventKind::SEPARATOR || self.is_normal(event) || self.measures(event, &self.error)
    }

    fn is_normal(&self, event: &Event<'_>) -> bool {
        self.measures(event, &self.zeros) || self.measures(event, &self.ones)
    }

    /// Two real events have the digest of a separator: a part of Intel's S-CRTM that is zeros, and the
    /// `BootOrder` 1, 0, which are the bytes of an error. Firmware that fails marks all PCRs, not just PCR 1.
    fn is_lookalike(&self, event: &Event<'_>) -> bool {
        let digest = match (event.pcr, event.kind) {
            (0, EventKind::S_CRTM_CONTENTS) => &self.zeros,
            (1, EventKind::EFI_VARIABLE_BOOT | EventKind::EFI_VARIABLE_BOOT2) => &self.error,
            _ => return false,
        };
        self.measures(event, digest)
    }

    fn measures(&self, event: &Event<'_>, digest: &Digest) -> bool {
        event.digests.of(self.alg) == Some(digest.as_bytes())
    }
}
