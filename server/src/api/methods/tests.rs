use std::collections::BTreeMap;

use super::*;

/// To whom each method of SPIRE's is open: `A` holders of an admin SVID, `L` processes on the local socket, `G` agents,
/// `D` holders of a downstream SVID, `*` anyone. Those of SPIRE's methods that are not here do not exist yet.
const OPEN: &[(&str, &str)] = &[
    ("grpc.health.v1.Health/Check", "L"),
    ("grpc.health.v1.Health/List", "L"),
    ("grpc.health.v1.Health/Watch", "L"),
    ("spire.api.server.agent.v1.Agent/AttestAgent", "*"),
    ("spire.api.server.agent.v1.Agent/BanAgent", "AL"),
    ("spire.api.server.agent.v1.Agent/CountAgents", "AL"),
    ("spire.api.server.agent.v1.Agent/CreateJoinToken", "AL"),
    ("spire.api.server.agent.v1.Agent/DeleteAgent", "AL"),
    ("spire.api.server.agent.v1.Agent/GetAgent", "AL"),
    ("spire.api.server.agent.v1.Agent/ListAgents", "AL"),
    ("spire.api.server.agent.v1.Agent/PostStatus", "G"),
    ("spire.api.server.agent.v1.Agent/RenewAgent", "G"),
    ("spire.api.server.bundle.v1.Bundle/AppendBundle", "AL"),
    (
        "spire.api.server.bundle.v1.Bundle/BatchCreateFederatedBundle",
        "AL",
    ),
    (
        "spire.api.server.bundle.v1.Bundle/BatchDeleteFederatedBundle",
        "AL",
    ),
    ("spire.api.server.bundle.v1.Bundle/BatchSetFederatedBundle", "AL"),
    (
        "spire.api.server.bundle.v1.Bundle/BatchUpdateFederatedBundle",
        "AL",
    ),
    ("spire.api.server.bundle.v1.Bundle/CountBundles", "AL"),
    ("spire.api.server.bundle.v1.Bundle/GetBundle", "*"),
    ("spire.api.server.bundle.v1.Bundle/GetFederatedBundle", "ALG"),
    ("spire.api.server.bundle.v1.Bundle/ListFederatedBundles", "AL"),
    ("spire.api.server.bundle.v1.Bundle/PublishJWTAuthority", "D"),
    ("spire.api.server.bundle.v1.Bundle/PublishWITAuthority", "D"),
    ("spire.api.server.debug.v1.Debug/GetInfo", "L"),
    ("spire.api.server.entry.v1.Entry/BatchCreateEntry", "AL"),
    ("spire.api.server.entry.v1.Entry/BatchDeleteEntry", "AL"),
    ("spire.api.server.entry.v1.Entry/BatchUpdateEntry", "AL"),
    ("spire.api.server.entry.v1.Entry/CountEntries", "AL"),
    ("spire.api.server.entry.v1.Entry/GetAuthorizedEntries", "G"),
    ("spire.api.server.entry.v1.Entry/GetEntry", "AL"),
    ("spire.api.server.entry.v1.Entry/ListEntries", "AL"),
    ("spire.api.server.entry.v1.Entry/SyncAuthorizedEntries", "G"),
    (
        "spire.api.server.localauthority.v1.LocalAuthority/ActivateJWTAuthority",
        "AL",
    ),
    (
        "spire.api.server.localauthority.v1.LocalAuthority/ActivateWITAuthority",
        "AL",
    ),
    (
        "spire.api.server.localauthority.v1.LocalAuthority/ActivateX509Authority",
        "AL",
    ),
    (
        "spire.api.server.localauthority.v1.LocalAuthority/GetJWTAuthorityState",
        "AL",
    ),
    (
        "spire.api.server.localauthority.v1.LocalAuthority/GetWITAuthorityState",
        "AL",
    ),
    (
        "spire.api.server.localauthority.v1.LocalAuthority/GetX509AuthorityState",
        "AL",
    ),
    (
        "spire.api.server.localauthority.v1.LocalAuthority/PrepareJWTAuthority",
        "AL",
    ),
    (
        "spire.api.server.localauthority.v1.LocalAuthority/PrepareWITAuthority",
        "AL",
    ),
    (
        "spire.api.server.localauthority.v1.LocalAuthority/PrepareX509Authority",
        "AL",
    ),
    (
        "spire.api.server.localauthority.v1.LocalAuthority/RevokeJWTAuthority",
        "AL",
    ),
    (
        "spire.api.server.localauthority.v1.LocalAuthority/RevokeWITAuthority",
        "AL",
    ),
    (
        "spire.api.server.localauthority.v1.LocalAuthority/RevokeX509Authority",
        "AL",
    ),
    (
        "spire.api.server.localauthority.v1.LocalAuthority/RevokeX509UpstreamAuthority",
        "AL",
    ),
    (
        "spire.api.server.localauthority.v1.LocalAuthority/TaintJWTAuthority",
        "AL",
    ),
    (
        "spire.api.server.localauthority.v1.LocalAuthority/TaintWITAuthority",
        "AL",
    ),
    (
        "spire.api.server.localauthority.v1.LocalAuthority/TaintX509Authority",
        "AL",
    ),
    (
        "spire.api.server.localauthority.v1.LocalAuthority/TaintX509UpstreamAuthority",
        "AL",
    ),
    ("spire.api.server.logger.v1.Logger/GetLogger", "L"),
    ("spire.api.server.logger.v1.Logger/ResetLogLevel", "L"),
    ("spire.api.server.logger.v1.Logger/SetLogLevel", "L"),
    ("spire.api.server.svid.v1.SVID/BatchNewWITSVID", "G"),
    ("spire.api.server.svid.v1.SVID/BatchNewX509SVID", "G"),
    ("spire.api.server.svid.v1.SVID/MintJWTSVID", "AL"),
    ("spire.api.server.svid.v1.SVID/MintWITSVID", "AL"),
    ("spire.api.server.svid.v1.SVID/MintX509SVID", "AL"),
    ("spire.api.server.svid.v1.SVID/NewDownstreamX509CA", "D"),
    ("spire.api.server.svid.v1.SVID/NewJWTSVID", "G"),
];

/// Ours.
const OURS: &[(&str, &str)] = &[
    ("plastron.admin.v1.Admin/Backup", "L"),
    ("plastron.agent.v1.AgentSession/Session", "G"),
    ("plastron.host.v1.Hosts/AddEndorsementKey", "AL"),
    ("plastron.host.v1.Hosts/ApproveHost", "AL"),
    ("plastron.host.v1.Hosts/GetHost", "AL"),
    ("plastron.host.v1.Hosts/ImportHosts", "AL"),
    ("plastron.host.v1.Hosts/ListHosts", "AL"),
    ("plastron.host.v1.Hosts/ReleaseHost", "AL"),
    ("plastron.host.v1.Hosts/RemoveEndorsementKey", "AL"),
    ("plastron.host.v1.Hosts/RemoveHost", "AL"),
    ("plastron.host.v1.Hosts/ReplaceTpm", "AL"),
    ("plastron.policy.v1.Policies/ApplyPolicy", "AL"),
    ("plastron.policy.v1.Policies/AssignPolicies", "AL"),
    ("plastron.policy.v1.Policies/GetPolicy", "AL"),
    ("plastron.policy.v1.Policies/LearnPolicy", "AL"),
    ("plastron.policy.v1.Policies/ListPolicies", "AL"),
    ("plastron.policy.v1.Policies/PromotePolicy", "AL"),
    ("plastron.policy.v1.Policies/RetirePolicy", "AL"),
    ("plastron.policy.v1.Policies/StagePolicy", "AL"),
    ("plastron.policy.v1.Policies/TestPolicy", "AL"),
    ("plastron.revocation.v1.Revocation/ListCrls", "*"),
];

fn letters(access: Access) -> String {
    let Access {
        admin,
        agent,
        anyone,
        downstream,
        local,
        unproven: _,
    } = access;
    let classes = [
        (admin, 'A'),
        (local, 'L'),
        (agent, 'G'),
        (downstream, 'D'),
        (anyone, '*'),
    ];
    classes
        .iter()
        .filter(|(open, _)| *open)
        .map(|(_, letter)| letter)
        .collect()
}

#[test]
fn each_method_is_open_to_those_whom_the_table_names() {
    let services = proto::DESCRIPTORS.services();
    let methods = services.flat_map(|service| service.methods().collect::<Vec<_>>());
    let paths = methods.map(|method| format!("{}/{}", method.parent_service().full_name(), method.name()));
    let found: BTreeMap<_, _> = paths
        .filter_map(|path| {
            let access = access(&format!("/{path}"), Listener::Local)?;
            Some((path, letters(access)))
        })
        .collect();
    let named = OPEN.iter().chain(OURS);
    let named = named.map(|(path, open)| ((*path).to_owned(), (*open).to_owned()));
    assert_eq!(found, named.collect());
}

#[test]
fn what_is_for_local_processes_alone_is_not_there_over_tcp() {
    for (path, open) in OPEN.iter().chain(OURS) {
        let access = access(&format!("/{path}"), Listener::Tcp);
        let expected = (*open != "L").then(|| (*open).to_owned());
        assert_eq!(access.map(letters), expected, "{path}");
    }
}

#[test]
fn agents_come_unproven_only_to_where_they_prove_their_host() {
    let unproven = OPEN.iter().chain(OURS).map(|(path, _)| *path);
    let unproven = unproven
        .filter(|path| access(&format!("/{path}"), Listener::Tcp).is_some_and(|access| access.unproven));
    let expected = [
        "spire.api.server.agent.v1.Agent/RenewAgent",
        "plastron.agent.v1.AgentSession/Session",
    ];
    assert_eq!(unproven.collect::<Vec<_>>(), expected);
}

#[test]
fn what_is_no_method_is_open_to_nobody() {
    for path in [
        "",
        "/",
        "spire.api.server.svid.v1.SVID/MintX509SVID",
        "//MintX509SVID",
        "/spire.api.server.svid.v1.SVID/mintx509svid",
        "/spire.api.server.svid.v1.SVID/MintX509SVID/",
        "/spire.api.server.svid.v2.SVID/MintX509SVID",
    ] {
        assert_eq!(access(path, Listener::Local), None, "{path}");
    }
}

#[test]
fn what_is_open_to_anyone_takes_little_of_a_request() {
    let intakes = [
        ("/plastron.revocation.v1.Revocation/ListCrls", Intake::Little),
        ("/spire.api.server.bundle.v1.Bundle/GetBundle", Intake::Little),
        ("/spire.api.server.bundle.v1.Bundle/AppendBundle", Intake::Whole),
        ("/spire.api.server.agent.v1.Agent/AttestAgent", Intake::InSteps),
        ("/plastron.agent.v1.AgentSession/Session", Intake::Whole),
    ];
    for (path, expected) in intakes {
        assert_eq!(intake(path), expected, "{path}");
    }
}
