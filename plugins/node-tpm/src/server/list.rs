//! A kernel's list on its way: in parts, after what is proven of it, on top of the firmware's log.

use std::sync::Arc;

use attest::{
    PcrSelection, PcrValues, Reject, SelectedQuote, VerifiedPcrs,
    event_log::{self, EventLog},
    ima::{self, Entry, MeasurementList, ProvenList},
};
use plugin_api::{Context, Host, HostPolicies, KernelList, KnownLog, ListFindings, Refusal, Shown};
use proto::bytes::Bytes;

use super::{
    appraise::{Appraisal, Missing, appraised, sha256},
    outcome::{self, Accepted},
};
use crate::wire::ListPart;

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
    pub(super) boot: Option<Boot>,
    /// Values that the prover read then.
    pub(super) claimed: Option<PcrValues>,
    /// What policies say of the parts that came.
    findings: ListFindings,
    /// Whether everything was asked for already.
    is_whole: bool,
}

/// What firmware's log may have left in the PCRs.
#[derive(Clone, Debug)]
pub(super) struct Boot {
    sha256: [u8; 32],
    ways: Vec<PcrValues>,
    /// The log, where it came.
    content: Option<Bytes>,
    /// What the host says that its kernel's command line is.
    command_line: Option<String>,
}

/// What a part of a list comes to.
pub(super) enum Taken {
    /// More parts are to come.
    More(Box<Awaited>),
    /// The quote proves it, and the log.
    Proven(Box<Proof>),
    /// It leads elsewhere.
    Unexplained(Reject),
}

/// What a quote proves of firmware and kernel.
pub(super) struct Proof {
    pcrs: VerifiedPcrs,
    log: KnownLog,
    content: Option<Bytes>,
    command_line: Option<String>,
    /// The last part of the list.
    last: ProvenList,
    /// What policies say of the parts before.
    findings: ListFindings,
    /// How far all of it is proven.
    list: KernelList,
}

/// Most parts that a list comes in: 10 MiB together.
const MAX_PARTS: usize = 14;

impl Awaited {
    pub(super) fn from(at: KernelList) -> Self {
        Self {
            sure: at.progress.entries(),
            at,
            parts: 0,
            first: Ok(()),
            boot: None,
            claimed: None,
            findings: ListFindings::default(),
            is_whole: false,
        }
    }

    /// The list from its beginning if the firmware's log is asked for, too: then nothing is left to ask.
    pub(super) fn with_log(self, wants_log: bool) -> Self {
        match self.whole() {
            Some(whole) if wants_log => whole,
            _ => self,
        }
    }

    /// Whether nothing of this boot is proven yet.
    pub(super) fn is_at_beginning(&self) -> bool {
        self.at.progress.entries() == 0
    }

    /// Whether the quote signs what is proven, and nothing since.
    pub(super) fn is_signed(&self, selected: &SelectedQuote, known: &KnownLog) -> bool {
        let values = known.values.with(self.at.progress.pcrs());
        !self.is_at_beginning() && selected.matches(&values).is_ok()
    }

    /// Whether `part` goes on where this one is to.
    pub(super) fn goes_on_with(&self, part: &ListPart) -> bool {
        part.offset == self.at.progress.entries()
    }

    /// The list from its beginning, where not everything was asked for yet.
    pub(super) fn whole(&self) -> Option<Self> {
        (!self.is_whole).then(|| Self {
            sure: self.sure,
            parts: self.parts,
            is_whole: true,
            ..Self::from(KernelList::of_boot(self.at.progress.reset_count()))
        })
    }

    /// Looks at a part that came.
    pub(super) fn take(
        self,
        selected: &SelectedQuote,
        part: &ListPart,
        boot: Boot,
        policies: &HostPolicies,
    ) -> Result<Taken, Reject> {
        let progress = &self.at.progress;
        if selected.quote().clock.reset_count != progress.reset_count() || !self.goes_on_with(part) {
            return Err(Reject::ImaContinuity);
        }
        let list = MeasurementList::parse_binary(&part.content)?;
        // Values on record may hold more than the kernel saw when it began: systemd extends words later.
        let on_record = PcrValues::default();
        let seen = boot.ways.first().map(|values| match boot.content {
            Some(_) => values,
            None => &on_record,
        });
        let first = match seen {
            Some(values) if progress.entries() == 0 => list.check_boot(values),
            _ => self.first,
        };
        if part.more {
            let awaited = Self { first, ..self };
            let past = awaited.past(&list, part.content.len(), selected.quote().selection(), policies)?;
            return Ok(Taken::More(Box::new(Self {
                boot: Some(boot),
                ..past
            })));
        }
        for values in &boot.ways {
            match selected.explain_list(list.clone(), part.offset, progress, values) {
                Err(Reject::ImaUnexplained(_)) => {}
                Err(reject) => return Err(reject),
                Ok((pcrs, proven)) => {
                    let last = accept(proven, first)?;
                    return Ok(Taken::Proven(Box::new(Proof {
                        pcrs,
                        log: boot.explains(values),
                        content: boot.content,
                        command_line: boot.command_line,
                        list: after(&self.at, &last),
                        last,
                        findings: self.findings,
                    })));
                }
            }
        }
        Ok(Taken::Unexplained(self.difference(selected, &list, &boot)))
    }

    /// Adds a part that others follow.
    fn past(
        mut self,
        list: &MeasurementList,
        len: usize,
        banks: &PcrSelection,
        policies: &HostPolicies,
    ) -> Result<Self, Reject> {
        if list.is_empty() {
            return Err(Reject::Unexpected);
        }
        if self.parts >= MAX_PARTS {
            return Err(Reject::ImaLimit);
        }
        let before = self.at.progress.entries();
        policies.judge_entries(&list.entries(), before, &mut self.findings);
        Ok(Self {
            at: KernelList {
                progress: self.at.progress.past(list, before, banks)?,
                bytes: self.at.bytes.saturating_add(as_u64(len)),
                violations: self.at.violations + violations(list.entries()),
            },
            parts: self.parts + 1,
            ..self
        })
    }

    /// What the list does not explain: a PCR of the firmware's, if the prover read it and the quote agrees, or else what
    /// the kernel extended.
    fn difference(&self, selected: &SelectedQuote, list: &MeasurementList, boot: &Boot) -> Reject {
        let unexplained = Reject::ImaUnexplained(self.sure);
        let Some(claimed) = &self.claimed else {
            return unexplained;
        };
        let differing = |way: &&PcrValues| {
            let values = way.iter();
            values
                .filter(|(alg, pcr, value)| claimed.get(*alg, *pcr) != Some(*value))
                .count()
        };
        let replayed = boot.ways.iter().min_by_key(differing);
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
    pub(super) fn replayed(
        content: Bytes,
        command_line: Option<String>,
        missing: &Missing,
        claimed: Option<&PcrValues>,
    ) -> Result<Self, Reject> {
        let banks = missing.pcrs.banks();
        let banks = banks.map(|(alg, pcrs)| (alg, pcrs.iter().filter(|pcr| *pcr != ima::PCR).collect()));
        let firmware = PcrSelection::new(banks.collect()).map_err(|_| Reject::PcrSelection)?;
        let (log, unlogged) = (EventLog::parse(&content)?, missing.policies.unlogged_pcrs());
        Ok(Self {
            sha256: sha256(&content),
            ways: event_log::replays(&firmware, claimed, &log, unlogged)?,
            content: Some(content),
            command_line,
        })
    }

    pub(super) fn known(known: &KnownLog) -> Self {
        Self {
            sha256: known.sha256,
            ways: vec![known.values.clone()],
            content: None,
            command_line: None,
        }
    }

    fn explains(&self, values: &PcrValues) -> KnownLog {
        KnownLog {
            sha256: self.sha256,
            values: values.clone(),
            is_kept: true,
        }
    }
}

impl Proof {
    /// What it comes to under the policies that the host is held to: all of it where the log came, or else what the list
    /// got since.
    pub(super) fn accept(
        mut self,
        selected: &SelectedQuote,
        missing: &Missing,
        host: &Host,
        context: &Context<'_>,
    ) -> Result<Appraisal, Refusal> {
        let mut outcome = match &self.content {
            Some(content) => {
                let shown = Shown {
                    values: self.pcrs.values(),
                    log: &EventLog::parse(content)?,
                    tpm_firmware: selected.quote().firmware_version,
                    list: Some(&self.last),
                    command_line: self.command_line.as_deref(),
                };
                outcome::of_log(&shown, missing, host, context)?
            }
            None => {
                let (entries, before) = (self.last.entries(), self.last.offset());
                missing
                    .policies
                    .judge_entries(&entries, before, &mut self.findings);
                outcome::on_record(host, selected)
            }
        };
        outcome.add_findings(&self.findings, context.now);
        outcome.check()?;
        Ok(Appraisal::Accepted(Box::new(Accepted {
            appraised: appraised(
                selected,
                Some(self.log),
                Some(self.list),
                &missing.policies,
                outcome,
            ),
            event_log: self.content.map(|content| Arc::from(content.as_ref())),
        })))
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
