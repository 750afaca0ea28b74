//! What a verified quote says of a host, and what is still missing.

use std::sync::Arc;

use attest::{
    HashAlg, PcrSelection, PcrSet, Reject, SelectedQuote, Standing, VerifiedQuote, ek::TpmAttributes,
    event_log::EventLog,
};
use plugin_api::{
    Appraised, Attested, Claim, Context, Host, HostClaim, HostPolicies, KernelList, KnownLog, Outcome,
    Refusal, Shown, SvidKeyPlace,
};
use proto::plastron::attest::v1 as wire;

use super::{
    Proven, Rules,
    config::EventLogs,
    ima::with_list,
    list::Awaited,
    outcome::{self, Accepted},
};
use crate::{
    NAME,
    wire::{self as messages, Opening, Supplied},
};

/// What became of a quote.
pub(super) enum Appraisal {
    /// It is what was looked at last, or as good.
    Accepted(Box<Accepted>),
    /// It takes more to tell.
    Open(Box<Missing>),
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
    /// What the host is held to. What it is asked for is for their sake.
    pub(super) policies: HostPolicies,
    /// What the certificate of its TPM says, where it was looked at.
    pub(super) certified: Option<TpmAttributes>,
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
    /// Accepts a quote of what was looked at last under the same policies; says what is missing where it takes more.
    pub(super) fn appraise(
        &self,
        quote: VerifiedQuote,
        host: &Host,
        offered: &Offered,
        policies: &HostPolicies,
    ) -> Result<Appraisal, Reject> {
        let event_log = offered.event_log;
        if event_log.is_none() {
            self.event_logs.check_absent(host, policies)?;
        }
        let list = self.awaited(host, offered, quote.clock.reset_count)?;
        let boot = self.wanted(host, &offered.selection, policies);
        let pcrs = if list.is_some() {
            with_list(&boot)
        } else {
            boot.clone()
        };
        // What is on record of a kernel's list is of the boot before: it goes with that.
        let begins_anew = list.as_ref().is_some_and(Awaited::is_at_beginning) && policies.wants_list();
        let is_judged = !begins_anew && outcome::is_judged(host, &quote, &pcrs, policies);
        let known = known_log(host, event_log, &boot).filter(|_| is_judged);
        let accepted = |selected: &SelectedQuote, known: Option<KnownLog>, outcome: Outcome| {
            let list = list.as_ref().map(|list| list.at.clone());
            let appraised = appraised(selected, known, list, policies, outcome);
            Ok(Appraisal::Accepted(Box::new(appraised.into())))
        };
        let open = |known: Option<KnownLog>| {
            let wants_log = event_log.is_some() && known.is_none();
            Ok(Appraisal::Open(Box::new(Missing {
                list: list.clone().map(|list| list.with_log(wants_log)),
                pcrs: pcrs.clone(),
                wants_log,
                known,
                policies: policies.clone(),
                certified: None,
            })))
        };
        if !quote.selection().is_same_set(&pcrs) {
            return open(known);
        }
        let selected = quote.over(&pcrs)?;
        if event_log.is_none() {
            return accepted(&selected, None, Outcome::without_log(host.appraised.as_ref()));
        }
        let is_as_known = |known: &KnownLog| match &list {
            Some(list) => list.is_signed(&selected, known),
            None => selected.matches(&known.values).is_ok(),
        };
        match known {
            Some(known) if is_as_known(&known) => {
                accepted(&selected, Some(known), outcome::on_record(host, &selected))
            }
            // PCRs of firmware and of the kernel have one digest: what the list got since is asked for first.
            known => open(known.filter(|_| list.is_some())),
        }
    }

    /// The PCRs that a host has to quote (37): those configured and those that its policies need, and the same ones of its
    /// SHA-384 bank, if it has that active or ever had. A host that hides a bank the first time gains nothing: SHA-256 is
    /// explained in any case.
    pub(super) fn wanted(
        &self,
        host: &Host,
        offered: &PcrSelection,
        policies: &HostPolicies,
    ) -> PcrSelection {
        let before = host.appraised.as_ref().map(|appraised| &appraised.selection);
        let has = |selection: &PcrSelection| !is_empty(selection.of(HashAlg::Sha384));
        let is_active = has(offered) || before.is_some_and(has);
        let base = widened(&self.pcrs, policies.needed_pcrs());
        let pcrs = base.of(HashAlg::Sha256);
        if !self.all_banks || !is_active || has(&base) || is_empty(pcrs) {
            return base;
        }
        let more = (HashAlg::Sha384, pcrs);
        PcrSelection::new(base.banks().chain([more]).collect()).unwrap_or(base)
    }

    /// Looks at what a host sent when it was asked for more. What is refused here, the host surely said.
    pub(super) fn appraise_supplied(
        &self,
        selected: &SelectedQuote,
        supplied: Supplied,
        mut missing: Missing,
        host: &Host,
        context: &Context<'_>,
    ) -> Result<Appraisal, Refusal> {
        if supplied.event_log.is_some() && !missing.wants_log {
            return Err(Reject::Unexpected.into());
        }
        if let Some(list) = missing.list.take() {
            return self.appraise_list(selected, supplied, (missing, list), host, context);
        }
        let policies = &missing.policies;
        let accepted = match (supplied.event_log, &missing.known) {
            (Some(content), _) => {
                let log = EventLog::parse(&content)?;
                let unlogged = policies.unlogged_pcrs();
                let pcrs = selected.explain_beside(&log, supplied.claimed.as_ref(), unlogged)?;
                let shown = Shown {
                    values: pcrs.values(),
                    log: &log,
                    tpm_firmware: selected.quote().firmware_version,
                    list: None,
                    command_line: supplied.command_line.as_deref(),
                };
                let outcome = outcome::of_log(&shown, &missing, host, context)?;
                outcome.check()?;
                let known = KnownLog {
                    sha256: sha256(&content),
                    values: pcrs.values().clone(),
                    is_kept: true,
                };
                Accepted {
                    appraised: appraised(selected, Some(known), None, policies, outcome),
                    event_log: Some(Arc::from(content.as_ref())),
                }
            }
            (None, Some(known)) => {
                selected.matches(&known.values)?;
                let outcome = outcome::on_record(host, selected);
                appraised(selected, Some(known.clone()), None, policies, outcome).into()
            }
            // It said that it has one.
            (None, None) if missing.wants_log => return Err(Reject::LogMissing.into()),
            (None, None) => {
                let outcome = outcome::without_log(host, missing.certified.as_ref());
                appraised(selected, None, None, policies, outcome).into()
            }
        };
        Ok(Appraisal::Accepted(Box::new(accepted)))
    }
}

/// A selection with further PCRs in each bank.
fn widened(selection: &PcrSelection, further: PcrSet) -> PcrSelection {
    let widen = |(alg, set): (HashAlg, PcrSet)| (alg, set.iter().chain(further.iter()).collect());
    PcrSelection::new(selection.banks().map(widen).collect()).unwrap_or_else(|_| selection.clone())
}

/// The log on record, if it is the one that the host has, and tells every PCR that is wanted. One of which an older server
/// kept no bytes comes again.
fn known_log(host: &Host, event_log: Option<[u8; 32]>, pcrs: &PcrSelection) -> Option<KnownLog> {
    let known = host.appraised.as_ref()?.event_log.as_ref()?;
    let is_told =
        |(alg, set): (HashAlg, PcrSet)| set.iter().all(|index| known.values.get(alg, index).is_some());
    (known.is_kept && Some(known.sha256) == event_log && pcrs.banks().all(is_told)).then(|| known.clone())
}

fn is_empty(pcrs: PcrSet) -> bool {
    pcrs.mask() == 0
}

impl EventLogs {
    /// Whether a host may have no log. One that had one before has to show one ever after, like a bank of PCRs: it does
    /// not hide a boot by hiding its log.
    fn check_absent(self, host: &Host, policies: &HostPolicies) -> Result<(), Reject> {
        let had_one = host
            .appraised
            .as_ref()
            .is_some_and(|before| before.event_log.is_some());
        match self {
            // Of what booted, a policy knows by the log alone.
            Self::Optional if !had_one && !policies.is_enforced() => Ok(()),
            Self::Optional | Self::Required => Err(Reject::LogMissing),
        }
    }
}

pub(super) fn appraised(
    selected: &SelectedQuote,
    event_log: Option<KnownLog>,
    kernel_list: Option<KernelList>,
    policies: &HostPolicies,
    mut outcome: Outcome,
) -> Appraised {
    let quote = selected.quote();
    outcome.set_list(kernel_list.as_ref());
    Appraised {
        standing: Standing::from(quote),
        selection: quote.selection().clone(),
        pcr_digest: quote.pcr_digest().try_into().unwrap_or_default(),
        policy_generation: policies.generation(),
        policies: outcome.standings,
        selectors: outcome.selectors,
        event_log,
        kernel_list,
    }
}

pub(super) fn sha256(content: &[u8]) -> [u8; 32] {
    let digest = HashAlg::Sha256.digest(&[content]);
    digest.as_bytes().first_chunk().copied().unwrap_or_default()
}

impl Proven {
    /// The outcome of an attestation.
    pub(super) fn attested(self, accepted: Accepted, hello: [u8; 32]) -> Attested {
        let mut hashes: Vec<_> = self
            .host
            .endorsement_keys
            .iter()
            .chain(&self.activated)
            .filter_map(|key| key.hash)
            .collect();
        hashes.sort();
        hashes.dedup();
        let of_keys = hashes
            .iter()
            .flat_map(|hash| [format!("ek_hash:{hash}"), format!("pub_hash:{hash}")]);
        Attested {
            suffix: self.suffix(),
            selectors: of_keys
                .chain(self.svid_key.iter().map(|_| "svid_key:tpm".into()))
                .chain(accepted.appraised.selectors.clone())
                .collect(),
            can_reattest: true,
            claims: vec![Claim::Host(Box::new(HostClaim {
                svid_key: Some(self.svid_key_place()),
                ..self.claim(accepted, hello)
            }))],
        }
    }

    /// What becomes of the host's row.
    pub(super) fn claim(self, accepted: Accepted, hello: [u8; 32]) -> HostClaim {
        HostClaim {
            id: Arc::clone(&self.host.id),
            revision: self.host.revision,
            activated: self.activated,
            attestation_key: self.ak.key().public().clone(),
            appraised: accepted.appraised,
            event_log: accepted.event_log,
            svid_key: None,
            hello,
        }
    }

    fn svid_key_place(&self) -> SvidKeyPlace {
        match self.svid_key {
            Some(_) => SvidKeyPlace::Tpm,
            None => SvidKeyPlace::Unproven,
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
