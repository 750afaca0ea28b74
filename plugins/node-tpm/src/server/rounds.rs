//! Rounds of a session: the host quotes over a nonce. What is as it was when all was looked at last costs one
//! signature; anything else is looked at as a whole, with the log.

use std::{sync::Arc, time::Duration};

use attest::{
    AttestationKey, Binding, Continuity, EvidenceKind, PcrSelection, Reject, VerifiedAk, VerifiedQuote,
    wire::ClockInfo,
};
use plugin_api::{
    Appraised, Asked, Context, ExpectEvidence, Host, HostClaim, HostPolicies, Refusal, Round, SessionBinding,
};
use prost::Message;

use super::{
    Rules,
    appraise::{Appraisal, Missing, Offered},
    blame::{blamed, blamed_at_first},
    ima::{grown, latest, with_list},
    outcome::Accepted,
};
use crate::wire::{self, Supplied};

/// How long a host may take to quote.
const QUOTE_WITHIN: Duration = Duration::from_secs(10);
/// How long it may take to send a log.
const LOG_WITHIN: Duration = Duration::from_secs(60);

/// A host that is asked in its session.
struct Questioned {
    rules: Arc<Rules>,
    host: Arc<Host>,
    session: SessionBinding,
    nonce: [u8; 32],
}

/// Waits for a quote.
struct ExpectQuote {
    asked: Questioned,
    wanted: PcrSelection,
}

/// Waits for a quote and a log.
struct ExpectLog {
    asked: Questioned,
    missing: Missing,
}

/// What a host is asked first in a round; `None` while nothing is known that it could be compared with.
pub(super) fn begin(
    rules: &Arc<Rules>,
    host: &Arc<Host>,
    session: &SessionBinding,
    context: &Context<'_>,
) -> Option<Asked> {
    let asked = Questioned {
        rules: Arc::clone(rules),
        host: Arc::clone(host),
        session: session.clone(),
        nonce: context.nonce,
    };
    asked.ask(context)
}

impl ExpectEvidence for ExpectQuote {
    fn handle(self: Box<Self>, answer: &[u8], context: &Context<'_>) -> Result<Round, Refusal> {
        let supplied = wire::supplied(answer)?;
        let host = Arc::clone(&self.asked.host);
        let policies = context.records.policies_of(&host);
        self.judge(supplied, &policies, context)
            .map_err(|refusal| blamed_at_first(refusal, &host, &policies))
    }
}

impl ExpectQuote {
    fn judge(
        self,
        supplied: Supplied,
        policies: &HostPolicies,
        context: &Context<'_>,
    ) -> Result<Round, Refusal> {
        let Self { asked, wanted } = self;
        let ak = asked.ak()?;
        let quote = asked.verify(&supplied, &ak)?;
        let Some(appraised) = &asked.host.appraised else {
            return Err(Reject::Unexpected.into());
        };
        let (list, pcr_digest) = latest(appraised, &asked.session);
        let is_other = quote.pcr_digest() != pcr_digest;
        let is_held_to_the_same = appraised.policy_generation == policies.generation();
        if is_held_to_the_same && !is_other && is_unchanged(&quote, &asked.session.clock, appraised, &wanted)
        {
            return Ok(Round::Unchanged(quote.clock));
        }
        check_logless(appraised, &quote, &wanted)?;
        let offered = Offered {
            selection: appraised.selection.clone(),
            event_log: appraised.event_log.as_ref().map(|log| log.sha256),
            has_list: list.is_some(),
            list: list.cloned(),
        };
        let host = &asked.host;
        let appraisal = match asked.rules.appraise(quote.clone(), host, &offered, policies)? {
            Appraisal::Open(missing) if missing.is_in(&supplied, quote.selection()) => {
                let selected = quote.over(&missing.pcrs)?;
                asked
                    .rules
                    .appraise_supplied(&selected, supplied, *missing, host, context)?
            }
            appraisal => appraisal,
        };
        Ok(asked.conclude(&ak, appraisal, context.nonce))
    }
}

impl ExpectEvidence for ExpectLog {
    fn handle(self: Box<Self>, answer: &[u8], context: &Context<'_>) -> Result<Round, Refusal> {
        let supplied = wire::supplied(answer)?;
        let host = Arc::clone(&self.asked.host);
        if self.missing.check_policies(&host, context).is_err() {
            let asked = Questioned {
                nonce: context.nonce,
                ..self.asked
            };
            return asked
                .ask(context)
                .map(Round::Ask)
                .ok_or(Reject::Unexpected.into());
        }
        let policies = self.missing.policies.clone();
        self.judge(supplied, context)
            .map_err(|refusal| blamed(refusal, &host, &policies))
    }
}

impl ExpectLog {
    fn judge(self, supplied: Supplied, context: &Context<'_>) -> Result<Round, Refusal> {
        let Self { asked, missing } = self;
        let ak = asked.ak()?;
        let quote = asked.verify(&supplied, &ak)?;
        if let Some(appraised) = &asked.host.appraised {
            check_logless(appraised, &quote, &missing.pcrs)?;
        }
        let selected = quote.over(&missing.pcrs)?;
        let host = Arc::clone(&asked.host);
        let appraisal = asked
            .rules
            .appraise_supplied(&selected, supplied, missing, &host, context)?;
        Ok(asked.conclude(&ak, appraisal, context.nonce))
    }
}

impl Questioned {
    /// Asks for a quote of what the host is held to now.
    fn ask(self, context: &Context<'_>) -> Option<Asked> {
        let appraised = self.host.appraised.as_ref()?;
        let policies = context.records.policies_of(&self.host);
        let is_wanted = self.rules.is_list_wanted();
        let list = is_wanted.then(|| latest(appraised, &self.session).0).flatten();
        let boot = self.rules.wanted(&self.host, &appraised.selection, &policies);
        let wanted = if list.is_some() { with_list(&boot) } else { boot };
        Some(Asked {
            send: wire::need(&self.nonce, &wanted, false, list).encode_to_vec(),
            within: QUOTE_WITHIN,
            next: Box::new(ExpectQuote { asked: self, wanted }),
        })
    }

    /// The quote is about the nonce and this session, and the TPM ran on since its last one.
    fn verify(&self, supplied: &Supplied, ak: &VerifiedAk) -> Result<VerifiedQuote, Reject> {
        let binding = Binding {
            kind: EvidenceKind::Session,
            exporter: &self.session.exporter,
            nonce: &self.nonce,
            csr: &[],
            hello: &self.session.hello,
        };
        let quote = supplied.quote.clone().verify(ak, &binding)?;
        Continuity::between(&self.session.clock, &quote.clock, 0)?;
        self.rules.check_continuity(&quote, &self.host)?;
        Ok(quote)
    }

    fn ak(&self) -> Result<VerifiedAk, Reject> {
        let known = self.host.attestation_key.as_ref().ok_or(Reject::AkOfOtherHost)?;
        AttestationKey::parse(known.as_bytes())?.remembered(known)
    }

    fn conclude(self, ak: &VerifiedAk, appraisal: Appraisal, nonce: [u8; 32]) -> Round {
        let before = self.host.appraised.as_ref();
        match appraisal {
            Appraisal::Open(missing) => Round::Ask(self.ask_more(*missing, nonce)),
            Appraisal::Accepted(accepted) => {
                let now = &accepted.appraised;
                match before.and_then(|before| grown(before, now)) {
                    Some(grown) => Round::Grown(now.standing.clock, Box::new(grown)),
                    None => self.changed(ak, *accepted),
                }
            }
        }
    }

    fn changed(&self, ak: &VerifiedAk, accepted: Accepted) -> Round {
        Round::Changed(Box::new(HostClaim {
            id: Arc::clone(&self.host.id),
            revision: self.host.revision,
            activated: None,
            attestation_key: ak.key().public().clone(),
            appraised: accepted.appraised,
            event_log: accepted.event_log,
            svid_key: None,
            hello: self.session.hello,
        }))
    }

    fn ask_more(self, missing: Missing, nonce: [u8; 32]) -> Asked {
        Asked {
            send: missing.to_wire(&nonce).encode_to_vec(),
            within: LOG_WITHIN,
            next: Box::new(ExpectLog {
                asked: Self { nonce, ..self },
                missing,
            }),
        }
    }
}

/// Where there is no log that could tell why, PCRs are what they were; also in another order, and for a host that quoted
/// others first. What was not quoted before can't be compared.
fn check_logless(appraised: &Appraised, quote: &VerifiedQuote, wanted: &PcrSelection) -> Result<(), Reject> {
    let (before, now) = (&appraised.selection, quote.selection());
    let is_comparable = now == before || (before == wanted && now.is_same_set(wanted));
    let is_same = now == before && quote.pcr_digest() == appraised.pcr_digest;
    if appraised.event_log.is_none() && is_comparable && !is_same {
        return Err(Reject::PcrDigest);
    }
    Ok(())
}

/// Whether all that is signed beside the PCRs is as it was accepted last, and the TPM ran on since `last`.
fn is_unchanged(
    quote: &VerifiedQuote,
    last: &ClockInfo,
    appraised: &Appraised,
    wanted: &PcrSelection,
) -> bool {
    let (now, then) = (&quote.clock, &appraised.standing.clock);
    (now.reset_count, now.restart_count) == (then.reset_count, then.restart_count)
        && Continuity::between(last, now, 0) == Ok(Continuity::Running)
        && quote.firmware_version == appraised.standing.firmware_version
        && quote.selection() == wanted
        && quote.selection() == &appraised.selection
}
