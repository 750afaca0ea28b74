//! What a verified quote says of a host, and what is still missing.

use std::sync::Arc;

use attest::{
    HashAlg, PcrSelection, PcrSet, Reject, SelectedQuote, Standing, VerifiedQuote, event_log::EventLog,
};
use plugin_api::{Appraised, Attested, Claim, Host, HostClaim, KernelList, KnownLog};
use proto::plastron::attest::v1 as wire;

use super::{
    Proven, Rules,
    config::EventLogs,
    ima::{Awaited, with_list},
};
use crate::{
    NAME,
    wire::{self as messages, Opening, Supplied},
};

/// By which generation of what is required of hosts they are appraised: so far there is one, that logs explain PCRs.
pub(super) const POLICY_GENERATION: u64 = 0;

/// What became of a quote.
pub(super) enum Appraisal {
    /// The log on record explains it.
    Accepted(Appraised),
    /// It takes more to tell.
    Open(Missing),
}

/// What a host says it could send.
#[derive(Debug)]
pub(super) struct Offered {
    pub(super) selection: PcrSelection,
    pub(super) event_log: Option<[u8; 32]>,
    /// Whether it could send its kernel's list.
    pub(super) has_list: bool,
    /// How far that is proven, where a session knows better than the row.
    pub(super) list: Option<KernelList>,
}

/// What a host is asked for.
#[derive(Debug)]
pub(super) struct Missing {
    /// PCRs to quote.
    pub(super) pcrs: PcrSelection,
    /// The log that the host has, where it was accepted before: it need not come again.
    pub(super) known: Option<KnownLog>,
    /// Whether the event log is to be sent.
    wants_log: bool,
    /// The kernel's list, where that is looked at.
    list: Option<Awaited>,
}

impl Offered {
    pub(super) fn of(opening: &Opening) -> Self {
        Self {
            selection: opening.selection.clone(),
            event_log: opening.event_log,
            has_list: opening.has_list,
            list: None,
        }
    }
}

impl Missing {
    pub(super) fn to_wire(&self, nonce: &[u8; 32]) -> wire::Need {
        let list = self.list.as_ref().map(|list| &list.at);
        messages::need(nonce, &self.pcrs, self.wants_log, list)
    }

    /// What comes of the kernel's list next.
    pub(super) fn going_on(self, list: Awaited) -> Self {
        Self {
            wants_log: false,
            list: Some(list),
            ..self
        }
    }

    /// Everything from its beginning.
    pub(super) fn anew(self, list: Awaited) -> Self {
        Self {
            known: None,
            wants_log: true,
            list: Some(list),
            ..self
        }
    }

    /// Whether it came already, unasked: what the kernel's list got since.
    pub(super) fn is_in(&self, supplied: &Supplied, quoted: &PcrSelection) -> bool {
        let goes_on = |list: &Awaited| supplied.list.as_ref().is_some_and(|part| list.goes_on_with(part));
        self.known.is_some()
            && !self.wants_log
            && quoted.is_same_set(&self.pcrs)
            && self.list.as_ref().is_some_and(goes_on)
    }
}

impl Rules {
    /// Accepts a quote whose PCRs the log on record explains; says what is missing where it takes more.
    pub(super) fn appraise(
        &self,
        quote: VerifiedQuote,
        host: &Host,
        offered: &Offered,
    ) -> Result<Appraisal, Reject> {
        let event_log = offered.event_log;
        if event_log.is_none() {
            self.event_logs.check_absent(host)?;
        }
        let list = self.awaited(host, offered, quote.clock.reset_count)?;
        let boot = self.wanted(host, &offered.selection);
        let known = known_log(host, event_log, &boot);
        let pcrs = if list.is_some() { with_list(&boot) } else { boot };
        let open = |known: Option<KnownLog>| {
            let wants_log = event_log.is_some() && known.is_none();
            Ok(Appraisal::Open(Missing {
                pcrs: pcrs.clone(),
                list: list.clone().map(|list| list.with_log(wants_log)),
                wants_log,
                known,
            }))
        };
        if !quote.selection().is_same_set(&pcrs) {
            return open(known);
        }
        let selected = quote.over(&pcrs)?;
        match (event_log, known, &list) {
            (None, ..) => Ok(Appraisal::Accepted(appraised(&selected, None, None))),
            (Some(_), Some(known), None) if selected.matches(&known.values).is_ok() => {
                Ok(Appraisal::Accepted(appraised(&selected, Some(known), None)))
            }
            (Some(_), Some(known), Some(list)) if list.is_signed(&selected, &known) => Ok(
                Appraisal::Accepted(appraised(&selected, Some(known), Some(list.at.clone()))),
            ),
            // PCRs of firmware and of the kernel have one digest: what the list got since is asked for first.
            (Some(_), known, Some(_)) => open(known),
            (Some(_), _, None) => open(None),
        }
    }

    /// The PCRs that a host has to quote (37): those configured, and the same ones of its SHA-384 bank, if it has that
    /// active or ever had. A host that hides a bank the first time gains nothing: SHA-256 is explained in any case.
    pub(super) fn wanted(&self, host: &Host, offered: &PcrSelection) -> PcrSelection {
        let before = host.appraised.as_ref().map(|appraised| &appraised.selection);
        let has = |selection: &PcrSelection| !is_empty(selection.of(HashAlg::Sha384));
        let is_active = has(offered) || before.is_some_and(has);
        let pcrs = self.pcrs.of(HashAlg::Sha256);
        if !self.all_banks || !is_active || has(&self.pcrs) || is_empty(pcrs) {
            return self.pcrs.clone();
        }
        let more = (HashAlg::Sha384, pcrs);
        PcrSelection::new(self.pcrs.banks().chain([more]).collect()).unwrap_or_else(|_| self.pcrs.clone())
    }

    /// Accepts what a host sent when it was asked for more.
    pub(super) fn appraise_supplied(
        &self,
        selected: &SelectedQuote,
        supplied: Supplied,
        mut missing: Missing,
    ) -> Result<Appraisal, Reject> {
        if let Some(list) = missing.list.take() {
            return self.appraise_list(selected, supplied, missing, list);
        }
        let event_log = match (supplied.event_log, missing.known) {
            (Some(content), _) => {
                let log = EventLog::parse(&content)?;
                let pcrs = selected.explain(&log, supplied.claimed.as_ref())?;
                Some(KnownLog {
                    sha256: sha256(&content),
                    values: pcrs.values().clone(),
                })
            }
            (None, Some(known)) => {
                selected.matches(&known.values)?;
                Some(known)
            }
            // It said that it has one.
            (None, None) if missing.wants_log => return Err(Reject::LogMissing),
            (None, None) => None,
        };
        Ok(Appraisal::Accepted(appraised(selected, event_log, None)))
    }
}

/// The log on record, if it is the one that the host has and tells every PCR that is wanted.
fn known_log(host: &Host, event_log: Option<[u8; 32]>, pcrs: &PcrSelection) -> Option<KnownLog> {
    let known = host.appraised.as_ref()?.event_log.as_ref()?;
    let is_told =
        |(alg, set): (HashAlg, PcrSet)| set.iter().all(|index| known.values.get(alg, index).is_some());
    (Some(known.sha256) == event_log && pcrs.banks().all(is_told)).then(|| known.clone())
}

fn is_empty(pcrs: PcrSet) -> bool {
    pcrs.mask() == 0
}

impl EventLogs {
    /// Whether a host may have no log. One that had one before has to show one ever after, like a bank of PCRs: it does
    /// not hide a boot by hiding its log.
    fn check_absent(self, host: &Host) -> Result<(), Reject> {
        let had_one = host
            .appraised
            .as_ref()
            .is_some_and(|before| before.event_log.is_some());
        match self {
            Self::Optional if !had_one => Ok(()),
            Self::Optional | Self::Required => Err(Reject::LogMissing),
        }
    }
}

pub(super) fn appraised(
    selected: &SelectedQuote,
    event_log: Option<KnownLog>,
    kernel_list: Option<KernelList>,
) -> Appraised {
    let quote = selected.quote();
    Appraised {
        standing: Standing::from(quote),
        selection: quote.selection().clone(),
        pcr_digest: quote.pcr_digest().try_into().unwrap_or_default(),
        policy_generation: POLICY_GENERATION,
        event_log,
        kernel_list,
    }
}

/// What the kernel's list is worth, as selectors.
fn of_list(list: &KernelList) -> impl Iterator<Item = String> {
    let is_clean = list.violations == 0;
    ["ima:proven"]
        .into_iter()
        .chain(is_clean.then_some("ima:clean"))
        .map(str::to_owned)
}

pub(super) fn sha256(content: &[u8]) -> [u8; 32] {
    let digest = HashAlg::Sha256.digest(&[content]);
    digest.as_bytes().first_chunk().copied().unwrap_or_default()
}

impl Proven {
    /// The outcome of an attestation.
    pub(super) fn attested(self, appraised: Appraised, hello: [u8; 32]) -> Attested {
        let mut hashes: Vec<_> = self
            .host
            .endorsement_keys
            .iter()
            .chain(&self.activated)
            .filter_map(|key| key.hash)
            .collect();
        hashes.sort();
        hashes.dedup();
        let of_keys = hashes.iter().map(|hash| format!("pub_hash:{hash}"));
        Attested {
            suffix: self.suffix(),
            selectors: of_keys
                .chain(appraised.kernel_list.iter().flat_map(of_list))
                .collect(),
            can_reattest: true,
            claims: vec![Claim::Host(Box::new(self.claim(appraised, hello)))],
        }
    }

    /// What becomes of the host's row.
    pub(super) fn claim(self, appraised: Appraised, hello: [u8; 32]) -> HostClaim {
        HostClaim {
            id: Arc::clone(&self.host.id),
            revision: self.host.revision,
            activated: self.activated,
            attestation_key: self.ak.key().public().clone(),
            appraised,
            hello,
        }
    }

    /// Hash of the endorsement key enrolled first. Once given, it stays.
    fn suffix(&self) -> String {
        let given = self.host.agent_path.as_deref();
        if let Some(given) = given.and_then(|path| path.strip_prefix("/spire/agent/")?.strip_prefix(NAME)) {
            return given.trim_start_matches('/').into();
        }
        let first = self.host.endorsement_keys.iter().chain(&self.activated);
        let hash = first.filter_map(|key| key.hash).next();
        hash.map(|hash| hash.to_string()).unwrap_or_default()
    }
}
