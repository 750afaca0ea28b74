//! Which methods there are, on which listener, and to whom they are open. What is not here does not exist.

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

/// To whom the method with this path is open; `None` if there is none.
pub(super) fn access(path: &str) -> Option<Access> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    match service {
        "grpc.health.v1.Health" => health(method),
        "plastron.agent.v1.AgentSession" => (method == "Session").then_some(UNPROVEN_AGENT),
        "plastron.host.v1.Hosts" => hosts(method),
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
        "ApproveHost" | "GetHost" | "ImportHosts" | "ListHosts" | "RemoveHost"
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
mod tests {
    use super::*;

    fn check(service: &str, methods: &[&str], expected: Option<Access>) {
        for method in methods {
            let path = format!("/spire.api.server.{service}/{method}");
            assert_eq!(access(&path), expected, "{path}");
        }
    }

    #[test]
    fn methods_are_open_to_whom_they_are_in_spire() {
        let orders = [
            "ActivateJWTAuthority",
            "PrepareX509Authority",
            "TaintX509Authority",
        ];
        let authority = "localauthority.v1.LocalAuthority";
        check(authority, &orders, Some(ADMIN));
        check(
            authority,
            &["GetX509AuthorityState", "GetWITAuthorityState"],
            Some(ADMIN),
        );
        check(authority, &["RevokeX509UpstreamAuthority"], Some(ADMIN));
        let none = [
            "GetAuthorityState",
            "PrepareAuthority",
            "RotateX509Authority",
            "GetX509Authority",
        ];
        check(authority, &none, None);
        check("svid.v1.SVID", &["MintJWTSVID"], Some(ADMIN));
        check("svid.v1.SVID", &["NewJWTSVID"], Some(AGENT));
        check("svid.v1.SVID", &["NewDownstreamX509CA"], Some(DOWNSTREAM));
        check("bundle.v1.Bundle", &["PublishJWTAuthority"], Some(DOWNSTREAM));
        check("bundle.v1.Bundle", &["GetFederatedBundle"], Some(ADMIN_OR_AGENT));
        check(
            "bundle.v1.Bundle",
            &["AppendBundle", "ListFederatedBundles"],
            Some(ADMIN),
        );
        check(
            "logger.v1.Logger",
            &["GetLogger", "SetLogLevel", "ResetLogLevel"],
            Some(LOCAL),
        );
        check("debug.v1.Debug", &["GetInfo"], Some(LOCAL));
    }
}
