//! Which refusals speak against the host that surely said what is refused: it is quarantined for those alone.

use attest::Reject;
use plugin_api::{Host, HostPolicies, Refusal};

/// What a host that was asked for something is refused for, held to `policies`.
pub(super) fn blamed(refusal: Refusal, host: &Host, policies: &HostPolicies) -> Refusal {
    match refusal.source.downcast_ref() {
        Some(reject) if is_excused(reject, host) => refusal,
        _ => refusal.said_by(host, policies),
    }
}

/// The same of what it says unasked, or has on record. A log that can't be read now, or is not on record where it is
/// wanted from now on, makes no host suspect; one that does not come where it was said to be does.
pub(super) fn blamed_at_first(refusal: Refusal, host: &Host, policies: &HostPolicies) -> Refusal {
    match refusal.source.downcast_ref() {
        Some(Reject::ImaMissing | Reject::LogMissing) => refusal,
        _ => blamed(refusal, host, policies),
    }
}

const fn is_excused(reject: &Reject, host: &Host) -> bool {
    match reject {
        // It shows more than is listened to: nothing was shown to be bad.
        Reject::ImaLimit => true,
        // Its kernel is none whose list can be believed. That is nothing new of a host that never showed one.
        Reject::ImaBootAggregate | Reject::ImaPcr(_) | Reject::ImaWeakHash => !has_shown_list(host),
        _ => false,
    }
}

const fn has_shown_list(host: &Host) -> bool {
    match &host.appraised {
        Some(appraised) => appraised.kernel_list.is_some(),
        None => false,
    }
}
