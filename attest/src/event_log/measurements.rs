//! What the PCRs prove to have been measured, and when.

use std::collections::BTreeMap;

use super::{
    Content, Event, EventKind, EventLog,
    separator::Separators,
    words::{ENDED, unlogged_words},
};
use crate::{HashAlg, PcrSet, PcrValues, Reject};

/// A log whose contents were checked, for some PCRs of one bank.
#[derive(Clone, Debug)]
pub struct Measurements {
    log: EventLog,
    alg: HashAlg,
    pcrs: PcrSet,
    /// Of each PCR that has one.
    separators: BTreeMap<u8, u32>,
    has_unlogged_end: bool,
}

/// What a PCR was extended by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Measurement<'a> {
    /// Position of the event in the log, as TCG's tools count.
    pub index: u32,
    /// Whether firmware measured it, or perhaps somebody after it.
    pub phase: Phase,
    /// The digest.
    pub digest: &'a [u8],
    /// What has this digest, as far as the log shows it.
    pub content: Content<'a>,
    /// What the log calls it: for display, never for a decision (check 47).
    pub claimed: EventKind,
}

/// When a PCR was extended. Ordered in time.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Phase {
    /// Before the separator, so by firmware.
    Firmware,
    /// By the separator.
    Separator,
    /// After it: by what firmware started, a boot loader or an attacker. PCRs above 7 have no separator, so
    /// all that is in them belongs here.
    Later,
}

impl Measurements {
    /// Checks what `log` says of `pcrs` of the bank `alg`. Only those that a quote covers, and that the log
    /// [explains](super::explain), prove anything; whether a bank is good enough to decide on is the quote's.
    ///
    /// # Errors
    ///
    /// [`Reject::LogBank`] or [`Reject::LogBanks`] if the log does not have the bank,
    /// [`Reject::LogSeparator`] if a PCR that has to have one separator has none, several, or one that
    /// reports an error, [`Reject::LogEventData`] if the data of an event was swapped.
    pub fn verify(log: EventLog, alg: HashAlg, pcrs: PcrSet) -> Result<Self, Reject> {
        if log.banks().all(|bank| bank != alg) {
            return Err(Reject::LogBank(alg));
        }
        let in_pcrs = || log.events().filter(|event| pcrs.contains(event.pcr));
        if let Some(event) = in_pcrs().find(|event| event.digests.of(alg).is_none()) {
            return Err(Reject::LogBanks(event.index));
        }
        let separators = find_separators(&log, alg, pcrs)?;
        if let Some(event) = in_pcrs().find(has_swapped_data) {
            return Err(Reject::LogEventData(event.index));
        }
        Ok(Self {
            log,
            alg,
            pcrs,
            separators,
            has_unlogged_end: false,
        })
    }

    /// The same, with what `values` prove beside: whether firmware said in PCR 5 that it ended, where Linux read the log
    /// before that.
    #[must_use]
    pub fn with_end(self, values: &PcrValues) -> Self {
        let words = unlogged_words(&self.log, values, self.alg, 5).filter(|_| self.pcrs.contains(5));
        Self {
            has_unlogged_end: words.is_some_and(|words| words == ENDED),
            ..self
        }
    }

    pub(super) const fn has_unlogged_end(&self) -> bool {
        self.has_unlogged_end
    }

    /// The bank.
    #[must_use]
    pub const fn alg(&self) -> HashAlg {
        self.alg
    }

    /// All that was measured into a PCR, in this order; nothing if it was not checked. An event that a policy
    /// does not know must not be skipped.
    pub fn of(&self, pcr: u8) -> Option<impl Iterator<Item = Measurement<'_>>> {
        let measurements = self
            .log
            .events()
            .filter(move |event| event.pcr == pcr)
            .filter_map(|event| self.measurement(&event));
        self.pcrs.contains(pcr).then_some(measurements)
    }

    /// The same, with what the log says of it beside; nothing of a PCR that was not checked.
    pub(super) fn logged(&self, pcr: u8) -> impl Iterator<Item = (Event<'_>, Measurement<'_>)> {
        self.log
            .events()
            .filter(move |event| event.pcr == pcr && self.pcrs.contains(pcr))
            .filter_map(|event| Some((event, self.measurement(&event)?)))
    }

    fn measurement<'a>(&self, event: &Event<'a>) -> Option<Measurement<'a>> {
        let digest = event.digests.of(self.alg)?;
        Some(Measurement {
            index: event.index,
            phase: self.phase(event),
            digest,
            content: Content::find(self.alg, digest, event.data),
            claimed: event.kind,
        })
    }

    fn phase(&self, event: &Event<'_>) -> Phase {
        match self.separators.get(&event.pcr) {
            Some(separator) if event.index < *separator => Phase::Firmware,
            Some(separator) if event.index == *separator => Phase::Separator,
            _ => Phase::Later,
        }
    }
}

fn find_separators(log: &EventLog, alg: HashAlg, pcrs: PcrSet) -> Result<BTreeMap<u8, u32>, Reject> {
    let separators = Separators::new(alg);
    Separators::PCRS
        .filter(|pcr| pcrs.contains(*pcr))
        .map(|pcr| {
            let events = log.events().filter(move |event| event.pcr == pcr);
            Ok((pcr, separators.find(pcr, events)?))
        })
        .collect()
}

/// Whether no part of the data has its digest in a bank, although all firmware that we know measures data of
/// such an event. With any other type this can be innocent, so who relabels the event escapes; but then
/// [`Content`] shows none of its data.
fn has_swapped_data(event: &Event<'_>) -> bool {
    let is_strict = matches!(
        event.kind,
        EventKind::EFI_ACTION | EventKind::EFI_VARIABLE_AUTHORITY | EventKind::EFI_VARIABLE_DRIVER_CONFIG
    );
    let is_absent = |(alg, digest)| Content::find(alg, digest, event.data) == Content::Absent;
    is_strict && event.digests.iter().any(is_absent)
}
