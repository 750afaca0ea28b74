//! Awaited answers. Each is consumed by the one that comes: a credential and a nonce are spent once.

use std::sync::Arc;

use attest::{CertifiedKey, Reject, credential::IssuedCredential};
use plugin_api::{Context, Expect, Newcomer, Refusal, Step};
use proto::plastron::attest::v1 as wire_proto;

use super::{
    Proven, Rules,
    appraise::{Appraisal, Missing},
    blame::blamed,
    challenge, keys,
    subject::Subject,
};
use crate::{
    NO_NONCE,
    wire::{self, OfferedEk, Opening},
};

/// Waits for the credential that only the TPM with both keys recovers.
pub(super) struct ExpectCredential {
    pub(super) rules: Arc<Rules>,
    pub(super) opening: Opening,
    pub(super) subject: Subject,
    pub(super) ek: OfferedEk,
    pub(super) credential: IssuedCredential,
}

impl Expect for ExpectCredential {
    fn handle(self: Box<Self>, answer: &[u8], context: &Context<'_>) -> Result<Step, Refusal> {
        // 1. The attestation key is in the TPM of the endorsement key.
        let binding = self.credential.verify(&wire::credential(answer)?)?;
        let ak = self.opening.attestation_key.clone().activated(&binding)?;
        // 2. Whose TPM that is.
        let (ek, host) = keys::identify(&self.ek, &self.rules.trust.roots, context.records, context.now)?;
        let Some(host) = host else {
            // It signed the first message: it is this TPM that asks, over this connection.
            self.opening.quote.verify(&ak, &self.subject.binding(&NO_NONCE))?;
            return Ok(Step::Newcomer(Box::new(Newcomer { endorsement_key: ek })));
        };
        // 3. What booted.
        let proven = Proven {
            host,
            ak,
            activated: Some(ek),
            svid_key: None,
        };
        Rules::judge(&self.rules, proven, self.opening, self.subject, context)
    }
}

/// Waits for a new quote, and for logs.
pub(super) struct ExpectSupplied {
    pub(super) rules: Arc<Rules>,
    pub(super) proven: Proven,
    /// What is wrong with it counts once the boot is known to be good.
    pub(super) svid_key: Result<Option<CertifiedKey>, Reject>,
    pub(super) subject: Subject,
    pub(super) nonce: [u8; 32],
    pub(super) missing: Missing,
}

impl ExpectSupplied {
    /// Asks for what is missing.
    pub(super) fn ask(self) -> Step {
        Step::Challenge {
            send: challenge(wire_proto::challenge::Step::Need(
                self.missing.to_wire(&self.nonce),
            )),
            next: Box::new(self),
        }
    }
}

impl Expect for ExpectSupplied {
    fn is_of_known_host(&self) -> bool {
        true
    }

    fn handle(self: Box<Self>, answer: &[u8], context: &Context<'_>) -> Result<Step, Refusal> {
        let Self {
            rules,
            mut proven,
            svid_key,
            subject,
            nonce,
            missing,
        } = *self;
        let host = &proven.host;
        missing.check_policies(host, context)?;
        let supplied = wire::supplied_answer(answer)?;
        let quote = supplied
            .quote
            .clone()
            .verify(&proven.ak, &subject.binding(&nonce))?;
        let policies = missing.policies.clone();
        let continuity = rules.check_continuity(&quote, host);
        let selected = continuity.and_then(|()| quote.over(&missing.pcrs));
        let appraisal = selected
            .map_err(Refusal::from)
            .and_then(|selected| rules.appraise_supplied(&selected, supplied, missing, host, context));
        match appraisal.map_err(|refusal| blamed(refusal, host, &policies))? {
            Appraisal::Accepted(accepted) => {
                proven.svid_key = svid_key?;
                Ok(Step::Done(proven.attested(*accepted, subject.hello)))
            }
            Appraisal::Open(missing) => {
                let awaited = Self {
                    rules,
                    proven,
                    svid_key,
                    subject,
                    nonce: context.nonce,
                    missing: *missing,
                };
                Ok(awaited.ask())
            }
        }
    }
}
