//! The kernel's measurement list (IMA): which hosts show it, where it goes on, and what of it a quote proves.
//!
//! ```text
//!   round:   Need{from} ──▶ quote, what came since  ── explained: the list got longer
//!                                                   └─ not: Need{event log, list from its beginning}
//!   parts:   Need{from 0} ─▶ part, more ─▶ Need{from n} ─▶ part, more ─▶ … ─▶ the last, which the quote proves
//! ```
//!
//! A list counts on top of a firmware's log alone: without one, nothing says which kernel wrote it.

use attest::{
    PcrSelection, PcrValues, Reject, SelectedQuote, Standing,
    event_log::{self, EventLog},
    ima::{self, Entry, MeasurementList, ProvenList},
};
use plugin_api::{Appraised, Grown, Host, KernelList, KnownLog, SessionBinding};
use serde::Deserialize;

use super::{
    Rules,
    appraise::{Appraisal, Missing, Offered, appraised, sha256},
};
use crate::wire::{ListPart, Supplied};

/// Whether hosts have to show what their kernel measured.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum KernelLists {
    /// Nobody is asked.
    #[default]
    Off,
    /// A host that has a list shows it, and has to from then on.
    Optional,
    /// A host without one is refused.
    Required,
}

/// A list that is on its way.
#[derive(Clone, Debug)]
pub(super) struct Awaited {
    /// Where it goes on: after what is proven, and after parts that nothing proves yet.
    pub(super) at: KernelList,
    /// How many entries are proven for sure: after them, something is wrong.
    sure: u64,
    parts: usize,
    /// What is wrong with its first entry, if the rest is right.
    first: Result<(), Reject>,
    /// What firmware's log says, where that came with the first part.
    boot: Option<Boot>,
    /// Values that the prover read then.
    claimed: Option<PcrValues>,
    /// Whether everything was asked for already.
    is_whole: bool,
}

/// What firmware's log may have left in the PCRs.
#[derive(Clone, Debug)]
struct Boot {
    sha256: [u8; 32],
    ways: Vec<PcrValues>,
}

/// What a part of a list comes to.
enum Taken {
    /// More parts are to come.
    More(Awaited),
    /// The quote proves it, and the log.
    Proven(KnownLog, KernelList),
    /// It leads elsewhere.
    Unexplained(Reject),
}

/// Most parts that a list comes in: 10 MiB together.
const MAX_PARTS: usize = 14;
/// After how many further bytes of a list its progress is stored: a server that starts anew asks for as much again.
const STORE_AFTER: u64 = 256 * 1024;

/// The PCRs of `boot`, and that of the kernel's list in each of the banks.
pub(super) fn with_list(boot: &PcrSelection) -> PcrSelection {
    let banks = boot.banks();
    let banks = banks.map(|(alg, pcrs)| (alg, pcrs.iter().chain([ima::PCR]).collect()));
    PcrSelection::new(banks.collect()).unwrap_or_else(|_| boot.clone())
}

/// How far the list of `host` is proven, by its row or by what the session saw since; and the digest over all PCRs then.
pub(super) fn latest<'a>(
    appraised: &'a Appraised,
    session: &'a SessionBinding,
) -> (Option<&'a KernelList>, &'a [u8; 32]) {
    let stored = appraised.kernel_list.as_ref();
    let grown = session.grown.as_ref();
    match grown.filter(|grown| stored.is_some_and(|stored| grown.list.is_beyond(stored))) {
        Some(grown) => (Some(&grown.list), &grown.pcr_digest),
        None => (stored, &appraised.pcr_digest),
    }
}

/// What the session remembers where the list alone got longer since `before` was stored, and not by so much that it is to
/// be stored again.
pub(super) fn grown(before: &Appraised, now: &Appraised) -> Option<Grown> {
    let (then, list) = before.kernel_list.as_ref().zip(now.kernel_list.as_ref())?;
    let counts = |appraised: &Appraised| {
        let Standing {
            clock,
            firmware_version,
        } = appraised.standing;
        (clock.reset_count, clock.restart_count, firmware_version)
    };
    let is_alike = counts(before) == counts(now)
        && before.selection == now.selection
        && before.policy_generation == now.policy_generation
        && before.event_log == now.event_log;
    let is_more = list.is_beyond(then)
        && list.violations == then.violations
        && list.bytes.saturating_sub(then.bytes) < STORE_AFTER;
    (is_alike && is_more).then(|| Grown {
        pcr_digest: now.pcr_digest,
        list: list.clone(),
    })
}

impl Rules {
    /// Whether anybody is asked for a list.
    pub(super) fn is_list_wanted(&self) -> bool {
        self.kernel_lists != KernelLists::Off
    }

    /// The list that a host has to show, from where it is `known`; `None` if it shows none. One that it showed before it
    /// has to show ever after, like a bank of PCRs.
    pub(super) fn awaited(
        &self,
        host: &Host,
        offered: &Offered,
        reset_count: u32,
    ) -> Result<Option<Awaited>, Reject> {
        let before = host
            .appraised
            .as_ref()
            .and_then(|before| before.kernel_list.as_ref());
        let has_any = offered.has_list && offered.event_log.is_some();
        match self.kernel_lists {
            KernelLists::Off => return Ok(None),
            KernelLists::Optional if !has_any && before.is_none() => return Ok(None),
            KernelLists::Optional | KernelLists::Required if !has_any => return Err(Reject::ImaMissing),
            KernelLists::Optional | KernelLists::Required => {}
        }
        let known = offered.list.as_ref().or(before);
        let known = known.filter(|known| known.progress.reset_count() == reset_count);
        Ok(Some(Awaited::from(
            known.cloned().unwrap_or_else(|| KernelList::of_boot(reset_count)),
        )))
    }

    /// Looks at a list that came, or at a part of one.
    pub(super) fn appraise_list(
        &self,
        selected: &SelectedQuote,
        supplied: Supplied,
        missing: Missing,
        awaited: Awaited,
    ) -> Result<Appraisal, Reject> {
        let boot = match (&supplied.event_log, &awaited.boot, &missing.known) {
            (Some(content), ..) => Boot::replayed(content, &missing.pcrs)?,
            (None, Some(boot), _) => boot.clone(),
            (None, None, Some(known)) => Boot::known(known),
            (None, None, None) => return Err(Reject::LogMissing),
        };
        let awaited = Awaited {
            claimed: supplied.claimed.or(awaited.claimed),
            ..awaited
        };
        let whole = awaited.whole();
        match awaited.take(selected, &supplied.list.ok_or(Reject::ImaMissing)?, boot)? {
            Taken::Proven(log, list) => Ok(Appraisal::Accepted(appraised(selected, Some(log), Some(list)))),
            Taken::More(awaited) => Ok(Appraisal::Open(missing.going_on(awaited))),
            // Whichever PCR it is: the log and the whole list tell.
            Taken::Unexplained(reject) => match whole {
                Some(whole) => Ok(Appraisal::Open(missing.anew(whole))),
                None => Err(reject),
            },
        }
    }
}

impl Awaited {
    fn from(at: KernelList) -> Self {
        Self {
            sure: at.progress.entries(),
            at,
            parts: 0,
            first: Ok(()),
            boot: None,
            claimed: None,
            is_whole: false,
        }
    }

    /// With the firmware's log, or without it. If it is asked for, and the list from its beginning, nothing is left to ask.
    pub(super) fn with_log(self, wants_log: bool) -> Self {
        let is_whole = wants_log && self.at.progress.entries() == 0;
        Self { is_whole, ..self }
    }

    /// Whether the quote signs what is proven, and nothing since.
    pub(super) fn is_signed(&self, selected: &SelectedQuote, known: &KnownLog) -> bool {
        let values = known.values.with(self.at.progress.pcrs());
        self.at.progress.entries() > 0 && selected.matches(&values).is_ok()
    }

    /// Whether `part` goes on where this one is to.
    pub(super) fn goes_on_with(&self, part: &ListPart) -> bool {
        part.offset == self.at.progress.entries()
    }

    /// The list from its beginning, where not everything was asked for yet.
    fn whole(&self) -> Option<Self> {
        (!self.is_whole).then(|| Self {
            sure: self.sure,
            parts: self.parts,
            is_whole: true,
            ..Self::from(KernelList::of_boot(self.at.progress.reset_count()))
        })
    }

    fn take(self, selected: &SelectedQuote, part: &ListPart, boot: Boot) -> Result<Taken, Reject> {
        let progress = &self.at.progress;
        if selected.quote().clock.reset_count != progress.reset_count() || !self.goes_on_with(part) {
            return Err(Reject::ImaContinuity);
        }
        let list = MeasurementList::parse_binary(&part.content)?;
        let first = match boot.ways.first() {
            Some(values) if progress.entries() == 0 => list.check_boot(values),
            _ => self.first,
        };
        if part.more {
            return self.past(&list, part.content.len(), selected, boot, first);
        }
        for values in &boot.ways {
            match selected.explain_list(list.clone(), part.offset, progress, values) {
                Err(Reject::ImaUnexplained(_)) => {}
                Err(reject) => return Err(reject),
                Ok((_, proven)) => {
                    let log = KnownLog {
                        sha256: boot.sha256,
                        values: values.clone(),
                    };
                    return Ok(Taken::Proven(log, after(&self.at, &accept(proven, first)?)));
                }
            }
        }
        Ok(Taken::Unexplained(self.difference(selected, &list, &boot)))
    }

    /// Adds a part that others follow.
    fn past(
        self,
        list: &MeasurementList,
        len: usize,
        selected: &SelectedQuote,
        boot: Boot,
        first: Result<(), Reject>,
    ) -> Result<Taken, Reject> {
        if list.is_empty() {
            return Err(Reject::Unexpected);
        }
        if self.parts >= MAX_PARTS {
            return Err(Reject::ImaLimit);
        }
        let before = &self.at.progress;
        let progress = before.past(list, before.entries(), selected.quote().selection())?;
        Ok(Taken::More(Self {
            at: KernelList {
                progress,
                bytes: self.at.bytes.saturating_add(as_u64(len)),
                violations: self.at.violations + violations(list.entries()),
            },
            parts: self.parts + 1,
            first,
            boot: Some(boot),
            ..self
        }))
    }

    /// What the list does not explain: a PCR of the firmware's, if the prover read it and the quote agrees, or else what
    /// the kernel extended.
    fn difference(&self, selected: &SelectedQuote, list: &MeasurementList, boot: &Boot) -> Reject {
        let unexplained = Reject::ImaUnexplained(self.sure);
        let Some(claimed) = &self.claimed else {
            return unexplained;
        };
        let is_phase = |way: &&PcrValues| {
            let mut phases = way.iter().filter(|(_, pcr, _)| *pcr == event_log::UKI_PCR);
            phases.all(|(alg, pcr, value)| claimed.get(alg, pcr) == Some(value))
        };
        let replayed = boot.ways.iter().find(is_phase).or(boot.ways.first());
        let mut replayed = replayed.iter().flat_map(|values| values.iter());
        let Some((alg, pcr, _)) = replayed.find(|(alg, pcr, value)| claimed.get(*alg, *pcr) != Some(*value))
        else {
            return unexplained;
        };
        // PCR 10 may have gone on between quote and reading.
        let goes_on = || {
            let progress = &self.at.progress;
            selected.explain_list(list.clone(), progress.entries(), progress, claimed)
        };
        let is_signed = selected.matches(claimed) != Err(Reject::PcrDigest)
            || !matches!(goes_on(), Err(Reject::ImaUnexplained(_)));
        if is_signed {
            Reject::LogMismatch(alg, pcr)
        } else {
            Reject::LogUnexplained
        }
    }
}

impl Boot {
    fn replayed(content: &[u8], pcrs: &PcrSelection) -> Result<Self, Reject> {
        let banks = pcrs.banks();
        let banks = banks.map(|(alg, pcrs)| (alg, pcrs.iter().filter(|pcr| *pcr != ima::PCR).collect()));
        let firmware = PcrSelection::new(banks.collect()).map_err(|_| Reject::PcrSelection)?;
        Ok(Self {
            sha256: sha256(content),
            ways: event_log::replays(&firmware, &EventLog::parse(content)?)?,
        })
    }

    fn known(known: &KnownLog) -> Self {
        Self {
            sha256: known.sha256,
            ways: vec![known.values.clone()],
        }
    }
}

/// What is demanded of a list that is proven: that it is of this boot, and that what is extended is more than SHA-1.
fn accept(proven: ProvenList, first: Result<(), Reject>) -> Result<ProvenList, Reject> {
    first?;
    if proven.progress().entries() == 0 {
        // The kernel found its TPM too late, and measured nothing into it.
        return Err(Reject::ImaBootAggregate);
    }
    proven.hashed_whole()
}

/// How far it is proven after `proven`.
fn after(before: &KernelList, proven: &ProvenList) -> KernelList {
    KernelList {
        progress: proven.progress().clone(),
        bytes: before.bytes.saturating_add(as_u64(proven.proven_len())),
        violations: before.violations + violations(proven.entries()),
    }
}

fn violations<'a>(entries: impl Iterator<Item = Entry<'a>>) -> u64 {
    as_u64(entries.filter(Entry::is_violation).count())
}

fn as_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
