//! What a refusal by the server means for the agent.

use prost::Message;
use proto::{
    google::rpc,
    spire::api::types::{PermissionDeniedDetails, permission_denied_details::Reason},
};
use tonic::{Code, Status};

/// What to do after a refusal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Advice {
    /// The SVID is worth nothing: attest anew.
    AttestAnew,
    /// The agent is banned: nothing is signed for it any more.
    Banned,
    /// Try again later.
    Retry,
}

/// Reads the details that the server gave.
#[must_use]
pub fn advice(status: &Status) -> Advice {
    if status.code() != Code::PermissionDenied {
        return Advice::Retry;
    }
    match reason(status) {
        Some(Reason::AgentBanned) => Advice::Banned,
        Some(
            Reason::AgentExpired
            | Reason::AgentMustReattest
            | Reason::AgentNotActive
            | Reason::AgentNotAttested,
        ) => Advice::AttestAnew,
        Some(Reason::Unknown) | None => Advice::Retry,
    }
}

fn reason(status: &Status) -> Option<Reason> {
    let details = rpc::Status::decode(status.details()).ok()?.details;
    let wanted = |any: &&prost_types::Any| any.type_url.ends_with("/spire.api.types.PermissionDeniedDetails");
    let details = PermissionDeniedDetails::decode(details.iter().find(wanted)?.value.as_slice()).ok()?;
    Some(details.reason())
}
