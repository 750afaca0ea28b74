//! The kernel's measurement list (IMA): which hosts show it, where it goes on, and what of it a quote proves.
//!
//! ```text
//!   round:   Need{from} ──▶ quote, what came since  ── explained: the list got longer
//!                                                   └─ not: Need{event log, list from its beginning}
//!   parts:   Need{from 0} ─▶ part, more ─▶ Need{from n} ─▶ part, more ─▶ … ─▶ the last, which the quote proves
//! ```
//!
//! Entries are held to policies as they come (`HostPolicies::judge_entries`); another generation is shown all of them, and
//! after a boot all is looked at anew where policies have rules about files.
//! A list counts on top of a firmware's log alone: without one, nothing says which kernel wrote it.

use attest::{PcrSelection, Reject, SelectedQuote, Standing, ima};
use plugin_api::{Appraised, Context, Grown, Host, KernelList, Refusal, SessionBinding};
use serde::Deserialize;

use super::{
    Rules,
    appraise::{Appraisal, Missing, Offered},
    list::{Awaited, Boot, Taken},
};
use crate::wire::Supplied;

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
        && before.policies.len() == now.policies.len()
        && before
            .policies
            .iter()
            .zip(&now.policies)
            .all(|(then, now)| then.is_alike(now))
        && before.selectors == now.selectors
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

    /// The list that a host has to show, from where it is known; `None` if it shows none. One that it showed before it has
    /// to show ever after, like a bank of PCRs.
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
        (missing, mut awaited): (Missing, Awaited),
        host: &Host,
        context: &Context<'_>,
    ) -> Result<Appraisal, Refusal> {
        let policies = missing.policies.clone();
        awaited.claimed = supplied.claimed.or(awaited.claimed);
        let boot = match (supplied.event_log, awaited.boot.take(), &missing.known) {
            (Some(content), ..) => {
                let claimed = awaited.claimed.as_ref();
                Boot::replayed(content, supplied.command_line, &missing, claimed)?
            }
            (None, Some(boot), _) => boot,
            (None, None, Some(known)) => Boot::known(known),
            (None, None, None) => return Err(Reject::LogMissing.into()),
        };
        let whole = awaited.whole();
        let part = supplied.list.ok_or(Reject::ImaMissing)?;
        match awaited.take(selected, &part, boot, &policies)? {
            Taken::Proven(proof) => proof.accept(selected, &missing, host, context),
            Taken::More(awaited) => Ok(Appraisal::Open(Box::new(missing.going_on(*awaited)))),
            // Whichever PCR it is: the log and the whole list tell.
            Taken::Unexplained(reject) => match whole {
                Some(whole) => Ok(Appraisal::Open(Box::new(missing.anew(whole)))),
                None => Err(reject.into()),
            },
        }
    }
}
