//! From the response codes of the TPM and its stack to what a reader can do about them.

use plugin_api::TpmError;
use tss_esapi::{
    Error,
    constants::response_code::{Tss2ResponseCode, Tss2ResponseCodeKind as Kind},
};

/// What a command needs the authorization of.
#[derive(Clone, Copy)]
pub(crate) enum Hierarchy {
    Endorsement,
    Owner,
}

/// The TPM does not answer.
#[derive(Debug, thiserror::Error)]
#[error("the TPM no longer answers; it is opened again for the next request")]
struct Lost(#[source] Error);

/// Requests that can't be met, whatever the TPM says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Misuse {
    #[error(
        "attestation key is another one than before: the TPM was exchanged or its seed changed; identify again"
    )]
    AnotherTpm,
    #[error("what was kept of the key is no context of a TPM")]
    NoContext,
    #[error("there is no attestation key yet; identify first")]
    NotIdentified,
    #[error("a unix socket (`path=`) is not supported; use `host=` and `port=`")]
    UnixSocket,
}

impl Hierarchy {
    const fn name(self) -> &'static str {
        match self {
            Self::Endorsement => "endorsement",
            Self::Owner => "owner",
        }
    }

    const fn setting(self) -> &'static str {
        match self {
            Self::Endorsement => "endorsement_auth",
            Self::Owner => "owner_auth",
        }
    }
}

/// A command failed that needs no hierarchy's authorization.
pub(crate) fn failed(command: &'static str) -> impl Fn(Error) -> TpmError {
    move |error| match kind(error) {
        Some(Kind::Lockout) => TpmError::Lockout,
        Some(
            Kind::Memory
            | Kind::ObjectHandles
            | Kind::ObjectMemory
            | Kind::SessionHandles
            | Kind::SessionMemory
            | Kind::TooManyContexts,
        ) => TpmError::NoMemory,
        _ => other(command, error),
    }
}

/// A command failed that the hierarchy's password authorizes.
pub(crate) fn failed_in(hierarchy: Hierarchy, command: &'static str) -> impl Fn(Error) -> TpmError {
    move |error| match kind(error) {
        Some(Kind::AuthFail | Kind::AuthUnavailable | Kind::BadAuth) => TpmError::Auth {
            hierarchy: hierarchy.name(),
            setting: hierarchy.setting(),
        },
        Some(Kind::Hierarchy) => TpmError::HierarchyDisabled(hierarchy.name()),
        Some(Kind::NvSpace) => TpmError::NoFreeSlot,
        _ => failed(command)(error),
    }
}

/// TPM2_ActivateCredential failed.
pub(crate) fn failed_to_activate(error: Error) -> TpmError {
    const COMMAND: &str = "TPM2_ActivateCredential";
    if error == RESPONSE_HMAC.into_error() {
        return TpmError::InterposerSuspected;
    }
    match kind(error) {
        // With an RSA key, libtpms reports a secret that does not decrypt as a failure of the whole TPM. If it were
        // one, the session would not have started.
        Some(
            Kind::EccPoint | Kind::Failure | Kind::Insufficient | Kind::Integrity | Kind::Size | Kind::Value,
        ) => TpmError::Credential,
        _ => failed(COMMAND)(error),
    }
}

/// TPM2_ContextLoad failed: that of a key which is gone for good, or one that would be taken another time.
pub(crate) fn failed_to_load(error: Error) -> TpmError {
    match kind(error) {
        Some(
            Kind::Handle | Kind::Hierarchy | Kind::Insufficient | Kind::Integrity | Kind::Size | Kind::Value,
        ) if !is_of_stack(error) => TpmError::KeyGone(error.into()),
        _ => failed("TPM2_ContextLoad")(error),
    }
}

/// A request can't be met.
pub(crate) fn misuse(command: &'static str, misuse: Misuse) -> TpmError {
    TpmError::Command {
        command,
        source: misuse.into(),
    }
}

/// Whether the connection, and what is known of the keys behind it, is of no more use.
pub(crate) fn is_lost(error: &TpmError) -> bool {
    match error {
        // libtss2 goes no further after an answer that it could not authenticate.
        TpmError::InterposerSuspected => true,
        TpmError::Command { source, .. } => {
            let misuse = source.downcast_ref::<Misuse>();
            source.is::<Lost>() || matches!(misuse, Some(Misuse::AnotherTpm))
        }
        _ => false,
    }
}

/// Whether there is no key at the handle.
pub(crate) fn is_gone(error: Error) -> bool {
    matches!(kind(error), Some(Kind::Handle | Kind::ReferenceH0))
}

/// Whether the TPM does not know a hash.
pub(crate) fn is_unknown_hash(error: Error) -> bool {
    matches!(kind(error), Some(Kind::Hash))
}

/// Whether something was sealed in another state of the host, or by another TPM.
pub(crate) fn is_other_state(error: Error) -> bool {
    matches!(
        kind(error),
        Some(Kind::Integrity | Kind::PcrChanged | Kind::PolicyFail)
    )
}

fn other(command: &'static str, error: Error) -> TpmError {
    let source = if is_of_stack(error) {
        Lost(error).into()
    } else {
        error.into()
    };
    TpmError::Command { command, source }
}

fn kind(error: Error) -> Option<Kind> {
    match error {
        Error::Tss2Error(code) => code.kind(),
        Error::WrapperError(_) => None,
    }
}

/// A code of libtss2, which keeps its layer in the third byte.
#[derive(Clone, Copy)]
struct StackCode(u32);

const ESYS: u32 = 7 << 16;
const SYS: u32 = 8 << 16;
const TCTI: u32 = 10 << 16;
/// TSS2_ESYS_RC_RSP_AUTH_FAILED: the answer was not made with the session's key.
const RESPONSE_HMAC: StackCode = StackCode(ESYS | 27);

impl StackCode {
    fn into_error(self) -> Error {
        Error::Tss2Error(Tss2ResponseCode::from(self.0))
    }
}

/// Whether the error comes from libtss2's upper layers or the transport, not from the TPM. tss-esapi keeps the
/// number to itself, but compares.
fn is_of_stack(error: Error) -> bool {
    [ESYS, SYS, TCTI]
        .iter()
        .flat_map(|layer| (1..0x40).map(move |code| StackCode(layer | code)))
        .any(|code| code.into_error() == error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(code: u32) -> Error {
        StackCode(code).into_error()
    }

    /// A word for each message.
    fn word(error: &TpmError) -> &'static str {
        match error {
            TpmError::Auth { hierarchy, .. } => hierarchy,
            TpmError::Credential => "credential",
            TpmError::HierarchyDisabled(_) => "disabled",
            TpmError::InterposerSuspected => "interposer",
            TpmError::KeyGone(_) => "gone",
            TpmError::Lockout => "lockout",
            TpmError::NoFreeSlot => "slot",
            TpmError::NoMemory => "memory",
            error if is_lost(error) => "lost",
            _ => "other",
        }
    }

    #[test]
    fn says_what_to_do_about_each_code() {
        let check = |number, expected| {
            let error = failed_in(Hierarchy::Owner, "TPM2_EvictControl")(code(number));
            assert_eq!(word(&error), expected, "{number:#x}");
        };
        check(0x14B, "slot"); // TPM_RC_NV_SPACE
        check(0x185, "disabled"); // TPM_RC_HIERARCHY, first handle
        check(0x98E, "owner"); // TPM_RC_AUTH_FAIL, first session
        check(0x9A2, "owner"); // TPM_RC_BAD_AUTH, first session
        check(0x902, "memory"); // TPM_RC_OBJECT_MEMORY
        check(0x903, "memory"); // TPM_RC_SESSION_MEMORY
        check(0x921, "lockout"); // TPM_RC_LOCKOUT
        check(0x101, "other"); // TPM_RC_FAILURE
        check(0x14C, "other"); // TPM_RC_NV_DEFINED
        check(0xA_000A, "lost"); // TSS2_TCTI_RC_IO_ERROR
        check(0xA_0001, "lost"); // TSS2_TCTI_RC_GENERAL_FAILURE
        check(0x7_0007, "lost"); // TSS2_ESYS_RC_BAD_SEQUENCE
    }

    #[test]
    fn says_what_a_failed_activation_means() {
        let check = |number, expected| {
            let error = failed_to_activate(code(number));
            assert_eq!(word(&error), expected, "{number:#x}");
        };
        check(0x1DF, "credential"); // TPM_RC_INTEGRITY, first parameter
        check(0x2C4, "credential"); // TPM_RC_VALUE, second parameter
        check(0x2E7, "credential"); // TPM_RC_ECC_POINT, second parameter
        check(0x7_001B, "interposer"); // TSS2_ESYS_RC_RSP_AUTH_FAILED
        check(0xA9D, "other"); // TPM_RC_POLICY_FAIL, second session
        check(0x921, "lockout"); // TPM_RC_LOCKOUT
        check(0xA_000A, "lost"); // TSS2_TCTI_RC_IO_ERROR
    }

    #[test]
    fn a_key_is_gone_only_if_the_tpm_refuses_its_context() {
        let check =
            |number, expected| assert_eq!(word(&failed_to_load(code(number))), expected, "{number:#x}");
        check(0x1DF, "gone"); // TPM_RC_INTEGRITY, first parameter
        check(0x1CB, "gone"); // TPM_RC_HANDLE, first parameter
        check(0x1C5, "gone"); // TPM_RC_HIERARCHY, first parameter
        check(0x902, "memory"); // TPM_RC_OBJECT_MEMORY
        check(0x922, "other"); // TPM_RC_RETRY
        check(0xA_000A, "lost"); // TSS2_TCTI_RC_IO_ERROR
    }

    #[test]
    fn tells_a_missing_hash_from_other_parameters() {
        assert!(is_unknown_hash(code(0x1C3))); // TPM_RC_HASH, first parameter
        assert!(!is_unknown_hash(code(0x1C4))); // TPM_RC_VALUE, first parameter
    }

    #[test]
    fn tells_a_missing_key_from_a_broken_connection() {
        assert!(is_gone(code(0x18B))); // TPM_RC_HANDLE, first handle
        assert!(is_gone(code(0x910))); // TPM_RC_REFERENCE_H0
        assert!(!is_gone(code(0xA_000B))); // TSS2_TCTI_RC_BAD_VALUE
    }
}
