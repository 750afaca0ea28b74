//! Every error that leaves the server becomes a [`Status`] here, and nowhere else.

use std::{error::Error, time::Duration};

use edge::Chain;
use plugin_api::{Refusal, RefusalKind};
use prost::Message;
use proto::{
    google::rpc,
    spire::api::types::{self, PermissionDeniedDetails, permission_denied_details::Reason},
};
use tonic::{Code, Status};

use crate::{
    authorize::Denied,
    backup::TakeError,
    ca::{OrderRefused, RotationError, SignError},
    registry::{
        ChangeError,
        authority_changes::NotAppended,
        changes::{NoToken, NotRecorded},
        hardware::Mixed,
        host_changes::HostMoved,
        key_changes::KeysRefused,
        policy_changes::PolicyRefused,
    },
};

/// A call that is not allowed; agents learn what to do from the details.
pub(super) fn denied(denied: &Denied) -> Status {
    let reason = match denied {
        Denied::AgentBanned(_) => Reason::AgentBanned,
        Denied::AgentExpired(_) => Reason::AgentExpired,
        Denied::AgentNotActive(_) => Reason::AgentNotActive,
        Denied::AgentNotAttested(_) => Reason::AgentNotAttested,
        Denied::AgentNotProven(_) | Denied::HostQuarantined(_) | Denied::HostStale(_) => {
            Reason::AgentMustReattest
        }
        Denied::Method(_) | Denied::Revoked(_) => return Status::permission_denied(denied.to_string()),
    };
    with_reason(&denied.to_string(), reason)
}

/// An ID that would be given both by hardware and without.
pub(super) fn mixed(mixed: &Mixed) -> Status {
    Status::failed_precondition(mixed.to_string())
}

/// A join token that is not made.
pub(super) fn token_not_created(error: &NoToken) -> Status {
    match error {
        NoToken::Exists => Status::already_exists(error.to_string()),
        NoToken::Mixed(_) => Status::failed_precondition(error.to_string()),
    }
}

/// An agent that renews by attesting again.
pub(super) fn must_reattest() -> Status {
    with_reason("agent must reattest instead of renew", Reason::AgentMustReattest)
}

fn with_reason(message: &str, reason: Reason) -> Status {
    let details = PermissionDeniedDetails {
        reason: reason.into(),
    };
    let name = "spire.api.types.PermissionDeniedDetails";
    with_detail(Code::PermissionDenied, message, name, &details)
}

fn with_detail(code: Code, message: &str, name: &str, detail: &impl Message) -> Status {
    let any = prost_types::Any {
        type_url: format!("type.googleapis.com/{name}"),
        value: detail.encode_to_vec(),
    };
    let status = rpc::Status {
        code: code.into(),
        message: message.into(),
        details: vec![any],
    };
    Status::with_details(code, message, status.encode_to_vec().into())
}

/// Evidence that was refused: the peer learns the rule, not the value.
pub(super) fn refused(refusal: &Refusal) -> Status {
    let message = format!("failed to attest: {} ({})", refusal.source, refusal.code);
    match refusal.kind {
        RefusalKind::Denied => Status::permission_denied(message),
        RefusalKind::Invalid => Status::invalid_argument(message),
    }
}

/// Session evidence that was refused: the host may attest anew.
pub(super) fn unproven(refusal: &Refusal) -> Status {
    with_reason(
        &format!("failed to prove the host: {} ({})", refusal.source, refusal.code),
        Reason::AgentMustReattest,
    )
}

/// An attestation that succeeded and does not count.
pub(super) fn not_recorded(error: NotRecorded) -> Status {
    match error {
        NotRecorded::Banned => with_reason(&error.to_string(), Reason::AgentBanned),
        NotRecorded::Host(HostMoved::MustAttest) => must_reattest(),
        NotRecorded::Host(HostMoved::Quarantined) => {
            Status::permission_denied(format!("{error} (host_quarantined)"))
        }
        NotRecorded::Host(HostMoved::PathTaken) => {
            Status::permission_denied(format!("{error} (agent_id_of_other_host)"))
        }
        NotRecorded::Host(HostMoved::Changed | HostMoved::KeyTaken | HostMoved::PolicyChanged) => {
            Status::aborted(error.to_string())
        }
        NotRecorded::TokenUsed => Status::invalid_argument(error.to_string()),
    }
}

/// A field or message that is wrong.
pub(super) fn invalid(what: &str, why: &(dyn Error + 'static)) -> Status {
    Status::invalid_argument(format!("{what}: {}", Chain(why)))
}

/// A change that was not made.
pub(super) fn not_changed(error: &ChangeError) -> Status {
    match error {
        ChangeError::NotStored(_) | ChangeError::Stopped => Status::unavailable(error.to_string()),
    }
}

/// A backup that was not taken.
pub(super) fn not_taken(error: &TakeError) -> Status {
    let message = format!("cannot take a backup: {}", Chain(error));
    match error {
        TakeError::Audit(_) | TakeError::Spool(_) | TakeError::Stopped => Status::unavailable(message),
        TakeError::File(_) | TakeError::Keys { .. } | TakeError::Store(_) => Status::internal(message),
    }
}

/// An SVID that was not signed.
pub(super) fn not_signed(error: &SignError) -> Status {
    let message = format!("failed to sign X509-SVID: {}", Chain(error));
    match error {
        SignError::Journal(_) | SignError::NotReady => Status::unavailable(message),
        SignError::Mint(_) | SignError::Token(_) => Status::internal(message),
    }
}

/// A JWT-SVID that was not signed.
pub(super) fn no_token(error: &SignError) -> Status {
    let message = format!("failed to sign JWT-SVID: {}", Chain(error));
    match error {
        SignError::Journal(_) | SignError::NotReady => Status::unavailable(message),
        SignError::Mint(_) | SignError::Token(_) => Status::internal(message),
    }
}

/// An order to the authorities that was not carried out.
pub(super) fn not_ordered(error: &RotationError) -> Status {
    let message = Chain(error).to_string();
    match error {
        RotationError::Change(_) | RotationError::Stopping => Status::unavailable(message),
        RotationError::Certificate(_)
        | RotationError::Crl(_)
        | RotationError::CrlFile(_)
        | RotationError::Key(_)
        | RotationError::Ledger(_) => Status::internal(message),
        RotationError::Refused(OrderRefused::NoId | OrderRefused::Unknown(_)) => {
            Status::invalid_argument(message)
        }
        RotationError::Refused(_) | RotationError::Upstream(_) => Status::failed_precondition(message),
    }
}

/// A change of a host's endorsement keys that can't be made.
pub(super) fn keys_refused(refused: &KeysRefused) -> Status {
    let message = refused.to_string();
    match refused {
        KeysRefused::KeyTaken(_) => Status::already_exists(message),
        KeysRefused::NotFound => Status::not_found(message),
        KeysRefused::LastKey | KeysRefused::NotEnrolled | KeysRefused::NoSuchKey => {
            Status::failed_precondition(message)
        }
        KeysRefused::TooMany => Status::resource_exhausted(message),
    }
}

/// A change of policies that can't be made.
pub(super) fn policy_refused(refused: &PolicyRefused) -> Status {
    let message = refused.to_string();
    match refused {
        PolicyRefused::NoGeneration(_) | PolicyRefused::NoPolicy(_) => Status::not_found(message),
        PolicyRefused::TooMany { .. } => Status::resource_exhausted(message),
        PolicyRefused::Ambiguous(_) | PolicyRefused::Generations(_) | PolicyRefused::NotNewer { .. } => {
            Status::failed_precondition(message)
        }
    }
}

/// Authorities that were not appended to the bundle.
pub(super) fn not_appended(error: &NotAppended) -> Status {
    match error {
        NotAppended::KeyIdTaken(_) => Status::invalid_argument(error.to_string()),
        NotAppended::TooMany => Status::resource_exhausted(error.to_string()),
    }
}

/// A method that exists, and that this server does not carry out.
pub(super) fn not_offered(what: &str) -> Status {
    Status::unimplemented(format!("this server does not support {what}"))
}

/// A caller that asks too often; programs read the pause from the details.
pub(super) fn too_often(retry_in: Duration) -> Status {
    too_often_of("too many requests from this address or host", retry_in)
}

/// More is to be signed than the server gets to.
pub(super) fn too_much_to_sign() -> Status {
    too_often_of(
        "more is waiting to be signed than the server gets to",
        Duration::from_secs(1),
    )
}

/// An agent has had more signed than could be revoked, should it lose its standing.
pub(super) fn too_many_serials() -> Status {
    let what = "too many X.509-SVIDs of this agent have not ended yet; keep what is signed until it is to be renewed";
    too_often_of(what, Duration::from_secs(60))
}

/// More attest at once than the server has room for.
pub(super) fn too_many_attest() -> Status {
    too_often_of("too many attestations are under way", Duration::from_secs(1))
}

/// After `retry_in` or up to as long again, but at least up to a second later: those who are refused together are not to
/// come back together.
fn too_often_of(what: &str, retry_in: Duration) -> Status {
    let spread = retry_in.max(Duration::from_secs(1));
    let random = u32::from_be_bytes(edge::random());
    let retry_in = retry_in + spread.mul_f64(f64::from(random) / f64::from(u32::MAX));
    let seconds = retry_in.as_secs_f64();
    let message = format!("{what}; retry in {seconds:.1} s");
    let info = rpc::RetryInfo {
        retry_delay: retry_in.try_into().ok(),
    };
    let code = Code::ResourceExhausted;
    with_detail(code, &message, "google.rpc.RetryInfo", &info)
}

/// A call without what the gate puts into each one: our own mistake.
pub(super) fn bug(what: &str) -> Status {
    Status::internal(format!("BUG: {what}"))
}

/// The status of one item of a batch that went well.
pub(super) fn item_ok() -> types::Status {
    types::Status {
        code: 0,
        message: "OK".into(),
    }
}

/// The status of one item of a batch.
pub(super) fn item(status: &Status) -> types::Status {
    types::Status {
        code: status.code().into(),
        message: status.message().into(),
    }
}
