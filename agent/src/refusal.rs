//! What a refusal by the server means for the agent.

use std::time::Duration;

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

/// Whether the server looked at what it was shown and does not take it. Else it is as good as away: it has too much to do,
/// or something is in between.
#[must_use]
pub fn is_judgement(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::FailedPrecondition | Code::InvalidArgument | Code::PermissionDenied | Code::Unauthenticated
    )
}

/// How long the server wants to be left alone, if it says so.
#[must_use]
pub fn retry_after(status: &Status) -> Option<Duration> {
    let delay = detail::<rpc::RetryInfo>(status, "/google.rpc.RetryInfo")?.retry_delay?;
    Duration::try_from(delay).ok()
}

fn reason(status: &Status) -> Option<Reason> {
    let details: PermissionDeniedDetails = detail(status, "/spire.api.types.PermissionDeniedDetails")?;
    Some(details.reason())
}

fn detail<T: Message + Default>(status: &Status, name: &str) -> Option<T> {
    let details = rpc::Status::decode(status.details()).ok()?.details;
    let wanted = details.iter().find(|any| any.type_url.ends_with(name))?;
    T::decode(wanted.value.as_slice()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(delay: prost_types::Duration, expected: Option<Duration>) {
        let info = rpc::RetryInfo {
            retry_delay: Some(delay),
        };
        let any = prost_types::Any {
            type_url: "type.googleapis.com/google.rpc.RetryInfo".into(),
            value: info.encode_to_vec(),
        };
        let details = rpc::Status {
            details: vec![any],
            ..Default::default()
        };
        let details = details.encode_to_vec().into();
        let status = Status::with_details(Code::ResourceExhausted, "too many", details);
        assert_eq!(retry_after(&status), expected);
    }

    #[test]
    fn the_pause_that_the_server_asks_for_is_read() {
        let delay = |seconds, nanos| prost_types::Duration { seconds, nanos };
        check(delay(1, 200_000_000), Some(Duration::from_millis(1200)));
        check(delay(-1, 0), None);
        assert_eq!(retry_after(&Status::resource_exhausted("retry in 1.2 s")), None);
    }
}
