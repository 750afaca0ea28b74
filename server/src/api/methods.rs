//! Which methods there are, on which listener, and to whom they are open. What is not here does not exist.

use super::intake::Intake;
use crate::authorize::Access;

const NOBODY: Access = Access {
    admin: false,
    agent: false,
    anyone: false,
    downstream: false,
    local: false,
    unproven: false,
};
const ADMIN: Access = Access {
    admin: true,
    local: true,
    ..NOBODY
};
const AGENT: Access = Access {
    agent: true,
    ..NOBODY
};
const UNPROVEN_AGENT: Access = Access {
    agent: true,
    unproven: true,
    ..NOBODY
};
const ADMIN_OR_AGENT: Access = Access { agent: true, ..ADMIN };
const ANYONE: Access = Access {
    anyone: true,
    ..NOBODY
};
const DOWNSTREAM: Access = Access {
    downstream: true,
    ..NOBODY
};
const LOCAL: Access = Access {
    local: true,
    ..NOBODY
};

/// Where a call comes in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Listener {
    /// The local socket.
    Local,
    /// TLS over TCP.
    Tcp,
}

/// To whom the method with this path is open; `None` if `listener` does not have it.
pub(super) fn access(path: &str, listener: Listener) -> Option<Access> {
    let access = of_any_listener(path)?;
    // As in SPIRE, what is for local processes alone is served to them alone: elsewhere it is unknown, not denied.
    (listener == Listener::Local || access != LOCAL).then_some(access)
}

/// How much of a request is taken. What is open to anyone takes little before it knows who asks.
pub(super) fn intake(path: &str) -> Intake {
    match of_any_listener(path) {
        Some(access) if access.anyone && path.ends_with("/AttestAgent") => Intake::InSteps,
        Some(access) if access.anyone => Intake::Little,
        _ => Intake::Whole,
    }
}

fn of_any_listener(path: &str) -> Option<Access> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    match service {
        "grpc.health.v1.Health" => health(method),
        "plastron.admin.v1.Admin" => (method == "Backup").then_some(LOCAL),
        "plastron.agent.v1.AgentSession" => (method == "Session").then_some(UNPROVEN_AGENT),
        "plastron.host.v1.Hosts" => hosts(method),
        "plastron.policy.v1.Policies" => policies(method),
        "plastron.revocation.v1.Revocation" => (method == "ListCrls").then_some(ANYONE),
        "spire.api.server.agent.v1.Agent" => agent(method),
        "spire.api.server.bundle.v1.Bundle" => bundle(method),
        "spire.api.server.debug.v1.Debug" => (method == "GetInfo").then_some(LOCAL),
        "spire.api.server.entry.v1.Entry" => entry(method),
        "spire.api.server.localauthority.v1.LocalAuthority" => local_authority(method),
        "spire.api.server.logger.v1.Logger" => logger(method),
        "spire.api.server.svid.v1.SVID" => svid(method),
        _ => None,
    }
}

fn agent(method: &str) -> Option<Access> {
    match method {
        "AttestAgent" => Some(ANYONE),
        "BanAgent" | "CountAgents" | "CreateJoinToken" | "DeleteAgent" | "GetAgent" | "ListAgents" => {
            Some(ADMIN)
        }
        "PostStatus" => Some(AGENT),
        // Whose host proves itself is told to do so.
        "RenewAgent" => Some(UNPROVEN_AGENT),
        _ => None,
    }
}

fn bundle(method: &str) -> Option<Access> {
    match method {
        "AppendBundle"
        | "BatchCreateFederatedBundle"
        | "BatchDeleteFederatedBundle"
        | "BatchSetFederatedBundle"
        | "BatchUpdateFederatedBundle"
        | "CountBundles"
        | "ListFederatedBundles" => Some(ADMIN),
        "GetBundle" => Some(ANYONE),
        "GetFederatedBundle" => Some(ADMIN_OR_AGENT),
        "PublishJWTAuthority" | "PublishWITAuthority" => Some(DOWNSTREAM),
        _ => None,
    }
}

fn entry(method: &str) -> Option<Access> {
    match method {
        "BatchCreateEntry" | "BatchDeleteEntry" | "BatchUpdateEntry" | "CountEntries" | "GetEntry"
        | "ListEntries" => Some(ADMIN),
        "GetAuthorizedEntries" | "SyncAuthorizedEntries" => Some(AGENT),
        _ => None,
    }
}

fn health(method: &str) -> Option<Access> {
    matches!(method, "Check" | "List" | "Watch").then_some(LOCAL)
}

fn hosts(method: &str) -> Option<Access> {
    matches!(
        method,
        "AddEndorsementKey"
            | "ApproveHost"
            | "GetHost"
            | "ImportHosts"
            | "ListHosts"
            | "ReleaseHost"
            | "RemoveEndorsementKey"
            | "RemoveHost"
            | "ReplaceTpm"
    )
    .then_some(ADMIN)
}

fn policies(method: &str) -> Option<Access> {
    matches!(
        method,
        "ApplyPolicy"
            | "AssignPolicies"
            | "GetPolicy"
            | "LearnPolicy"
            | "TestPolicy"
            | "ListPolicies"
            | "PromotePolicy"
            | "RetirePolicy"
            | "StagePolicy"
    )
    .then_some(ADMIN)
}

/// WIT authorities are listed for their callers; nobody's server has them yet.
fn local_authority(method: &str) -> Option<Access> {
    let is_upstream = matches!(
        method,
        "RevokeX509UpstreamAuthority" | "TaintX509UpstreamAuthority"
    );
    let is_there = |kind: &str| {
        let order = method
            .strip_suffix("Authority")
            .and_then(|rest| rest.strip_suffix(kind));
        matches!(order, Some("Activate" | "Prepare" | "Revoke" | "Taint"))
            || method
                .strip_prefix("Get")
                .and_then(|rest| rest.strip_suffix("AuthorityState"))
                == Some(kind)
    };
    (is_upstream || ["JWT", "WIT", "X509"].into_iter().any(is_there)).then_some(ADMIN)
}

fn logger(method: &str) -> Option<Access> {
    matches!(method, "GetLogger" | "ResetLogLevel" | "SetLogLevel").then_some(LOCAL)
}

fn svid(method: &str) -> Option<Access> {
    match method {
        "BatchNewWITSVID" | "BatchNewX509SVID" | "NewJWTSVID" => Some(AGENT),
        "MintJWTSVID" | "MintWITSVID" | "MintX509SVID" => Some(ADMIN),
        "NewDownstreamX509CA" => Some(DOWNSTREAM),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
