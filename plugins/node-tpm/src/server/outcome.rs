//! What accepted evidence comes to under the policies that a host is held to.

use std::sync::Arc;

use attest::{PcrSelection, SelectedQuote, VerifiedQuote, ek::TpmAttributes};
use plugin_api::{Appraised, Context, Host, HostPolicies, Outcome, Refusal, Shown};

use super::appraise::Missing;

/// Evidence that is accepted, and the bytes of its event log where they came.
pub(super) struct Accepted {
    pub(super) appraised: Appraised,
    pub(super) event_log: Option<Arc<[u8]>>,
}

/// The policies of a host changed while it was asked for what those before need.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("what this host is held to changed meanwhile; try again")]
struct PolicyChanged;

impl From<Appraised> for Accepted {
    /// Where no log came.
    fn from(appraised: Appraised) -> Self {
        Self {
            appraised,
            event_log: None,
        }
    }
}

impl Accepted {
    /// Whether nothing is known of the TPM that a certificate could tell: with a log, it was looked at when that came.
    pub(super) fn lacks_certified(&self) -> bool {
        self.appraised.event_log.is_none() && self.appraised.selectors.is_empty()
    }

    /// Adds what the certificate of the TPM says.
    pub(super) fn add_certified(&mut self, attributes: Option<&TpmAttributes>) {
        let selectors = &mut self.appraised.selectors;
        selectors.extend(certified(attributes));
        selectors.sort();
    }
}

impl Missing {
    /// Checks that the host is still held to what it was asked for.
    pub(super) fn check_policies(&self, host: &Host, context: &Context<'_>) -> Result<(), Refusal> {
        if context.records.policies_of(host).generation() == self.policies.generation() {
            Ok(())
        } else {
            Err(Refusal::invalid("policy_changed", PolicyChanged))
        }
    }
}

/// Whether all of a host was looked at under the same policies, the choice of PCRs and, where there are policies, the TPM's
/// firmware included.
pub(super) fn is_judged(
    host: &Host,
    quote: &VerifiedQuote,
    wanted: &PcrSelection,
    policies: &HostPolicies,
) -> bool {
    host.appraised.as_ref().is_some_and(|before| {
        before.policy_generation == policies.generation()
            && (policies.is_empty() || before.standing.firmware_version == quote.firmware_version)
            && before.selection.is_same_set(wanted)
    })
}

/// What a log that explains the PCRs comes to, and a kernel's list, with what the certificate of the TPM says. Whether that
/// is enough is for the caller to check.
pub(super) fn of_log(
    shown: &Shown<'_>,
    missing: &Missing,
    host: &Host,
    context: &Context<'_>,
) -> Result<Outcome, Refusal> {
    let policies = &missing.policies;
    let mut outcome = match policies.appraise(shown, host.appraised.as_ref(), context.now) {
        Ok(outcome) => outcome,
        // Where nothing follows, a log that tells less than policies want to know is as good as one that tells all.
        Err(_) if !policies.is_enforced() => Outcome::default(),
        Err(reject) => return Err(reject.into()),
    };
    outcome.add(certified(missing.certified.as_ref()));
    Ok(outcome)
}

/// What evidence came to that is as it was, but for the TPM's firmware.
pub(super) fn on_record(host: &Host, selected: &SelectedQuote) -> Outcome {
    let before = host.appraised.as_ref();
    let mut outcome = before.map_or_else(Outcome::default, |before| Outcome {
        standings: before.policies.clone(),
        selectors: before.selectors.clone(),
    });
    outcome.set_firmware(selected.quote().firmware_version);
    outcome
}

/// What evidence without a log comes to, with what the certificate of the TPM says.
pub(super) fn without_log(host: &Host, attributes: Option<&TpmAttributes>) -> Outcome {
    let mut outcome = Outcome::without_log(host.appraised.as_ref());
    outcome.add(certified(attributes));
    outcome
}

/// What a verified certificate says of a TPM, as values of selectors.
fn certified(attributes: Option<&TpmAttributes>) -> impl Iterator<Item = String> {
    let of = |attributes: &TpmAttributes| {
        let vendor = attributes
            .vendor()
            .map(|vendor| format!("vendor:{}", vendor.letters()));
        vendor.into_iter().chain([format!("model:{}", attributes.model)])
    };
    attributes.into_iter().flat_map(of)
}
