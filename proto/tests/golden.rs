//! Our types and those of SPIRE's Go SDK make the same bytes of the same message.
//!
//! `testdata/golden.jsonl` has each message of SPIRE's server APIs, filled: as JSON, and as the bytes that the SDK makes
//! of that. `swtpm-tests/clients/go/golden` writes the file, and says how; no Go is needed here.

use std::collections::BTreeSet;

use prost::{DecodeError, Message};
use prost_reflect::{DynamicMessage, MessageDescriptor};
use proto::{DESCRIPTORS, spire::api};

/// What is newer than the SDK that the file was made with: nothing compares it. An update of the SDK shortens the list.
const NEWER: &[&str] = &[
    "spire.api.server.agent.v1.PostStatusRequest.agent_version",
    "spire.api.server.svid.v1.MintWITSVIDRequest.signing_algorithm",
    "spire.api.server.svid.v1.NewWITSVIDParams.signing_algorithm",
    "spire.api.types.Agent.agent_version",
    "spire.api.types.AgentMask.agent_version",
    "spire.api.types.Entry.AdditionalAttributes",
    "spire.api.types.Entry.AdditionalAttributes.disable_x509_svid_prefetch",
    "spire.api.types.Entry.AdditionalAttributes.jwt_svid_include_jti",
    "spire.api.types.Entry.additional_attributes",
    "spire.api.types.EntryMask.additional_attributes",
];

/// A line of the file.
struct Golden {
    descriptor: MessageDescriptor,
    json: serde_json::Value,
    wire: Vec<u8>,
}

fn golden() -> Vec<Golden> {
    let lines = include_str!("../testdata/golden.jsonl").lines();
    let read = |line| {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        let name = line["message"].as_str().unwrap();
        Golden {
            descriptor: DESCRIPTORS
                .get_message_by_name(name)
                .unwrap_or_else(|| panic!("we have no {name}")),
            wire: hex::decode(line["wire"].as_str().unwrap()).unwrap(),
            json: line["json"].take(),
        }
    };
    lines.map(read).collect()
}

#[test]
fn our_types_make_the_bytes_that_the_sdk_makes() {
    let types = types();
    for Golden {
        descriptor,
        json,
        wire,
    } in golden()
    {
        let name = descriptor.full_name().to_owned();
        let (_, recode) = types.iter().find(|(known, _)| *known == name).expect(&name);
        let expected = hex::encode(in_order(&descriptor, &wire));
        let from_json = DynamicMessage::deserialize(descriptor, json).expect(&name);
        let ours = recode(&from_json.encode_to_vec()).expect(&name);
        assert_eq!(hex::encode(ours), expected, "{name}");
        // Nothing of it is unknown to us, or it would be lost.
        let ours = recode(&wire).expect(&name);
        assert_eq!(hex::encode(ours), expected, "{name}");
    }
}

/// Go writes the members of a oneof after the other fields; the order says nothing, and ours is that of the numbers.
fn in_order(descriptor: &MessageDescriptor, wire: &[u8]) -> Vec<u8> {
    let in_order = DynamicMessage::decode(descriptor.clone(), wire)
        .unwrap()
        .encode_to_vec();
    if !descriptor.full_name().contains("FederationRelationship") {
        assert_eq!(
            hex::encode(&in_order),
            hex::encode(wire),
            "{}",
            descriptor.full_name()
        );
    }
    in_order
}

#[test]
fn every_field_of_every_message_is_compared() {
    let compared: BTreeSet<_> = golden().iter().flat_map(fields).collect();
    let ours = DESCRIPTORS.all_messages().filter(is_of_spire);
    let ours: BTreeSet<_> = ours
        .flat_map(|message| {
            let fields: Vec<_> = message
                .fields()
                .map(|field| field.full_name().to_owned())
                .collect();
            fields.into_iter().chain([message.full_name().to_owned()])
        })
        .collect();
    let not_compared: Vec<_> = ours.difference(&compared).collect();
    assert_eq!(not_compared, NEWER);
}

fn is_of_spire(message: &MessageDescriptor) -> bool {
    let package = message.parent_file().package_name().to_owned();
    package.starts_with("spire.api.server.") || package == "spire.api.types"
}

/// The message and the fields that are set in it.
fn fields(golden: &Golden) -> Vec<String> {
    let Golden { descriptor, wire, .. } = golden;
    let message = DynamicMessage::decode(descriptor.clone(), wire.as_slice()).unwrap();
    let fields = message.fields().map(|(field, _)| field.full_name().to_owned());
    [descriptor.full_name().to_owned()]
        .into_iter()
        .chain(fields)
        .collect()
}

/// Reads a message and writes it again, by its generated type.
type Recode = fn(&[u8]) -> Result<Vec<u8>, DecodeError>;

fn recode<T: Message + Default>(wire: &[u8]) -> Result<Vec<u8>, DecodeError> {
    T::decode(wire).map(|message| message.encode_to_vec())
}

/// The generated types of a package by the names of their messages.
macro_rules! types {
    ($package:literal, $module:path, $($name:literal => $($path:ident)::+),+ $(,)?) => {{
        use $module as package;
        let types: Vec<(String, Recode)> = vec![
            $((concat!($package, ".", $name).to_owned(), recode::<package::$($path)::+>)),+
        ];
        types
    }};
}

/// Every message of SPIRE's server APIs.
fn types() -> Vec<(String, Recode)> {
    [
        types!(
            "spire.api.server.agent.v1",
            api::server::agent::v1,
            "AgentX509SVIDParams" => AgentX509svidParams,
            "AttestAgentRequest" => AttestAgentRequest,
            "AttestAgentRequest.Params" => attest_agent_request::Params,
            "AttestAgentResponse" => AttestAgentResponse,
            "AttestAgentResponse.Result" => attest_agent_response::Result,
            "BanAgentRequest" => BanAgentRequest,
            "CountAgentsRequest" => CountAgentsRequest,
            "CountAgentsRequest.Filter" => count_agents_request::Filter,
            "CountAgentsResponse" => CountAgentsResponse,
            "CreateJoinTokenRequest" => CreateJoinTokenRequest,
            "DeleteAgentRequest" => DeleteAgentRequest,
            "GetAgentRequest" => GetAgentRequest,
            "ListAgentsRequest" => ListAgentsRequest,
            "ListAgentsRequest.Filter" => list_agents_request::Filter,
            "ListAgentsResponse" => ListAgentsResponse,
            "PostStatusRequest" => PostStatusRequest,
            "PostStatusResponse" => PostStatusResponse,
            "RenewAgentRequest" => RenewAgentRequest,
            "RenewAgentResponse" => RenewAgentResponse,
        ),
        types!(
            "spire.api.server.bundle.v1",
            api::server::bundle::v1,
            "AppendBundleRequest" => AppendBundleRequest,
            "BatchCreateFederatedBundleRequest" => BatchCreateFederatedBundleRequest,
            "BatchCreateFederatedBundleResponse" => BatchCreateFederatedBundleResponse,
            "BatchCreateFederatedBundleResponse.Result" => batch_create_federated_bundle_response::Result,
            "BatchDeleteFederatedBundleRequest" => BatchDeleteFederatedBundleRequest,
            "BatchDeleteFederatedBundleResponse" => BatchDeleteFederatedBundleResponse,
            "BatchDeleteFederatedBundleResponse.Result" => batch_delete_federated_bundle_response::Result,
            "BatchSetFederatedBundleRequest" => BatchSetFederatedBundleRequest,
            "BatchSetFederatedBundleResponse" => BatchSetFederatedBundleResponse,
            "BatchSetFederatedBundleResponse.Result" => batch_set_federated_bundle_response::Result,
            "BatchUpdateFederatedBundleRequest" => BatchUpdateFederatedBundleRequest,
            "BatchUpdateFederatedBundleResponse" => BatchUpdateFederatedBundleResponse,
            "BatchUpdateFederatedBundleResponse.Result" => batch_update_federated_bundle_response::Result,
            "CountBundlesRequest" => CountBundlesRequest,
            "CountBundlesResponse" => CountBundlesResponse,
            "GetBundleRequest" => GetBundleRequest,
            "GetFederatedBundleRequest" => GetFederatedBundleRequest,
            "ListFederatedBundlesRequest" => ListFederatedBundlesRequest,
            "ListFederatedBundlesResponse" => ListFederatedBundlesResponse,
            "PublishJWTAuthorityRequest" => PublishJwtAuthorityRequest,
            "PublishJWTAuthorityResponse" => PublishJwtAuthorityResponse,
            "PublishWITAuthorityRequest" => PublishWitAuthorityRequest,
            "PublishWITAuthorityResponse" => PublishWitAuthorityResponse,
        ),
        types!(
            "spire.api.server.debug.v1",
            api::server::debug::v1,
            "GetInfoRequest" => GetInfoRequest,
            "GetInfoResponse" => GetInfoResponse,
            "GetInfoResponse.Cert" => get_info_response::Cert,
        ),
        types!(
            "spire.api.server.entry.v1",
            api::server::entry::v1,
            "BatchCreateEntryRequest" => BatchCreateEntryRequest,
            "BatchCreateEntryResponse" => BatchCreateEntryResponse,
            "BatchCreateEntryResponse.Result" => batch_create_entry_response::Result,
            "BatchDeleteEntryRequest" => BatchDeleteEntryRequest,
            "BatchDeleteEntryResponse" => BatchDeleteEntryResponse,
            "BatchDeleteEntryResponse.Result" => batch_delete_entry_response::Result,
            "BatchUpdateEntryRequest" => BatchUpdateEntryRequest,
            "BatchUpdateEntryResponse" => BatchUpdateEntryResponse,
            "BatchUpdateEntryResponse.Result" => batch_update_entry_response::Result,
            "CountEntriesRequest" => CountEntriesRequest,
            "CountEntriesRequest.Filter" => count_entries_request::Filter,
            "CountEntriesResponse" => CountEntriesResponse,
            "EntryRevision" => EntryRevision,
            "GetAuthorizedEntriesRequest" => GetAuthorizedEntriesRequest,
            "GetAuthorizedEntriesResponse" => GetAuthorizedEntriesResponse,
            "GetEntryRequest" => GetEntryRequest,
            "ListEntriesRequest" => ListEntriesRequest,
            "ListEntriesRequest.Filter" => list_entries_request::Filter,
            "ListEntriesResponse" => ListEntriesResponse,
            "SyncAuthorizedEntriesRequest" => SyncAuthorizedEntriesRequest,
            "SyncAuthorizedEntriesResponse" => SyncAuthorizedEntriesResponse,
        ),
        types!(
            "spire.api.server.localauthority.v1",
            api::server::localauthority::v1,
            "ActivateJWTAuthorityRequest" => ActivateJwtAuthorityRequest,
            "ActivateJWTAuthorityResponse" => ActivateJwtAuthorityResponse,
            "ActivateWITAuthorityRequest" => ActivateWitAuthorityRequest,
            "ActivateWITAuthorityResponse" => ActivateWitAuthorityResponse,
            "ActivateX509AuthorityRequest" => ActivateX509AuthorityRequest,
            "ActivateX509AuthorityResponse" => ActivateX509AuthorityResponse,
            "AuthorityState" => AuthorityState,
            "GetJWTAuthorityStateRequest" => GetJwtAuthorityStateRequest,
            "GetJWTAuthorityStateResponse" => GetJwtAuthorityStateResponse,
            "GetWITAuthorityStateRequest" => GetWitAuthorityStateRequest,
            "GetWITAuthorityStateResponse" => GetWitAuthorityStateResponse,
            "GetX509AuthorityStateRequest" => GetX509AuthorityStateRequest,
            "GetX509AuthorityStateResponse" => GetX509AuthorityStateResponse,
            "PrepareJWTAuthorityRequest" => PrepareJwtAuthorityRequest,
            "PrepareJWTAuthorityResponse" => PrepareJwtAuthorityResponse,
            "PrepareWITAuthorityRequest" => PrepareWitAuthorityRequest,
            "PrepareWITAuthorityResponse" => PrepareWitAuthorityResponse,
            "PrepareX509AuthorityRequest" => PrepareX509AuthorityRequest,
            "PrepareX509AuthorityResponse" => PrepareX509AuthorityResponse,
            "RevokeJWTAuthorityRequest" => RevokeJwtAuthorityRequest,
            "RevokeJWTAuthorityResponse" => RevokeJwtAuthorityResponse,
            "RevokeWITAuthorityRequest" => RevokeWitAuthorityRequest,
            "RevokeWITAuthorityResponse" => RevokeWitAuthorityResponse,
            "RevokeX509AuthorityRequest" => RevokeX509AuthorityRequest,
            "RevokeX509AuthorityResponse" => RevokeX509AuthorityResponse,
            "RevokeX509UpstreamAuthorityRequest" => RevokeX509UpstreamAuthorityRequest,
            "RevokeX509UpstreamAuthorityResponse" => RevokeX509UpstreamAuthorityResponse,
            "TaintJWTAuthorityRequest" => TaintJwtAuthorityRequest,
            "TaintJWTAuthorityResponse" => TaintJwtAuthorityResponse,
            "TaintWITAuthorityRequest" => TaintWitAuthorityRequest,
            "TaintWITAuthorityResponse" => TaintWitAuthorityResponse,
            "TaintX509AuthorityRequest" => TaintX509AuthorityRequest,
            "TaintX509AuthorityResponse" => TaintX509AuthorityResponse,
            "TaintX509UpstreamAuthorityRequest" => TaintX509UpstreamAuthorityRequest,
            "TaintX509UpstreamAuthorityResponse" => TaintX509UpstreamAuthorityResponse,
        ),
        types!(
            "spire.api.server.logger.v1",
            api::server::logger::v1,
            "GetLoggerRequest" => GetLoggerRequest,
            "ResetLogLevelRequest" => ResetLogLevelRequest,
            "SetLogLevelRequest" => SetLogLevelRequest,
        ),
        types!(
            "spire.api.server.svid.v1",
            api::server::svid::v1,
            "BatchNewWITSVIDRequest" => BatchNewWitsvidRequest,
            "BatchNewWITSVIDResponse" => BatchNewWitsvidResponse,
            "BatchNewWITSVIDResponse.Result" => batch_new_witsvid_response::Result,
            "BatchNewX509SVIDRequest" => BatchNewX509svidRequest,
            "BatchNewX509SVIDResponse" => BatchNewX509svidResponse,
            "BatchNewX509SVIDResponse.Result" => batch_new_x509svid_response::Result,
            "MintJWTSVIDRequest" => MintJwtsvidRequest,
            "MintJWTSVIDResponse" => MintJwtsvidResponse,
            "MintWITSVIDRequest" => MintWitsvidRequest,
            "MintWITSVIDResponse" => MintWitsvidResponse,
            "MintX509SVIDRequest" => MintX509svidRequest,
            "MintX509SVIDResponse" => MintX509svidResponse,
            "NewDownstreamX509CARequest" => NewDownstreamX509caRequest,
            "NewDownstreamX509CAResponse" => NewDownstreamX509caResponse,
            "NewJWTSVIDRequest" => NewJwtsvidRequest,
            "NewJWTSVIDResponse" => NewJwtsvidResponse,
            "NewWITSVIDParams" => NewWitsvidParams,
            "NewX509SVIDParams" => NewX509svidParams,
        ),
        types!(
            "spire.api.server.trustdomain.v1",
            api::server::trustdomain::v1,
            "BatchCreateFederationRelationshipRequest" => BatchCreateFederationRelationshipRequest,
            "BatchCreateFederationRelationshipResponse" => BatchCreateFederationRelationshipResponse,
            "BatchCreateFederationRelationshipResponse.Result" => batch_create_federation_relationship_response::Result,
            "BatchDeleteFederationRelationshipRequest" => BatchDeleteFederationRelationshipRequest,
            "BatchDeleteFederationRelationshipResponse" => BatchDeleteFederationRelationshipResponse,
            "BatchDeleteFederationRelationshipResponse.Result" => batch_delete_federation_relationship_response::Result,
            "BatchUpdateFederationRelationshipRequest" => BatchUpdateFederationRelationshipRequest,
            "BatchUpdateFederationRelationshipResponse" => BatchUpdateFederationRelationshipResponse,
            "BatchUpdateFederationRelationshipResponse.Result" => batch_update_federation_relationship_response::Result,
            "GetFederationRelationshipRequest" => GetFederationRelationshipRequest,
            "ListFederationRelationshipsRequest" => ListFederationRelationshipsRequest,
            "ListFederationRelationshipsResponse" => ListFederationRelationshipsResponse,
            "RefreshBundleRequest" => RefreshBundleRequest,
        ),
        types!(
            "spire.api.types",
            api::types,
            "Agent" => Agent,
            "AgentMask" => AgentMask,
            "AttestationData" => AttestationData,
            "Bundle" => Bundle,
            "BundleMask" => BundleMask,
            "Entry" => Entry,
            "EntryMask" => EntryMask,
            "FederatesWithMatch" => FederatesWithMatch,
            "FederationRelationship" => FederationRelationship,
            "FederationRelationshipMask" => FederationRelationshipMask,
            "HTTPSSPIFFEProfile" => HttpsspiffeProfile,
            "HTTPSWebProfile" => HttpsWebProfile,
            "JWTKey" => JwtKey,
            "JWTSVID" => Jwtsvid,
            "JoinToken" => JoinToken,
            "Logger" => Logger,
            "PermissionDeniedDetails" => PermissionDeniedDetails,
            "SPIFFEID" => Spiffeid,
            "Selector" => Selector,
            "SelectorMatch" => SelectorMatch,
            "Status" => Status,
            "WITKey" => WitKey,
            "WITSVID" => Witsvid,
            "X509Certificate" => X509Certificate,
            "X509SVID" => X509svid,
        ),
    ]
    .concat()
}
