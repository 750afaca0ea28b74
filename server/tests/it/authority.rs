use proto::spire::api::server::localauthority::v1::{
    ActivateJwtAuthorityRequest, ActivateX509AuthorityRequest, AuthorityState, GetJwtAuthorityStateRequest,
    GetWitAuthorityStateRequest, GetX509AuthorityStateRequest, PrepareJwtAuthorityRequest,
    PrepareX509AuthorityRequest, RevokeJwtAuthorityRequest, RevokeX509AuthorityRequest,
    RevokeX509UpstreamAuthorityRequest, TaintJwtAuthorityRequest, TaintX509AuthorityRequest,
    TaintX509UpstreamAuthorityRequest, local_authority_client::LocalAuthorityClient,
};
use tonic::{Code, Status};

use crate::server::start;

fn id(state: Option<AuthorityState>) -> String {
    state.map(|state| state.authority_id).unwrap_or_default()
}

fn code<T>(answered: Result<T, Status>) -> Code {
    answered.map_or_else(|status| status.code(), |_| Code::Ok)
}

#[tokio::test]
async fn an_x509_authority_is_replaced_by_force() {
    let server = start("").await;
    let mut client = LocalAuthorityClient::new(server.client.clone());
    let taint = |authority_id: &str| TaintX509AuthorityRequest {
        authority_id: authority_id.into(),
    };
    let revoke = |authority_id: &str| RevokeX509AuthorityRequest {
        authority_id: authority_id.into(),
    };
    let activate = |authority_id: &str| ActivateX509AuthorityRequest {
        authority_id: authority_id.into(),
    };

    let state = client.get_x509_authority_state(GetX509AuthorityStateRequest {});
    let state = state.await.unwrap().into_inner();
    assert_eq!((&state.prepared, &state.old), (&None, &None));
    let first = id(state.active);
    assert_eq!(first.len(), 40);
    assert_eq!(
        code(client.taint_x509_authority(taint(&first)).await),
        Code::FailedPrecondition
    );
    assert_eq!(
        code(client.taint_x509_authority(taint("")).await),
        Code::InvalidArgument
    );
    assert_eq!(
        code(client.activate_x509_authority(activate("nobody")).await),
        Code::InvalidArgument
    );

    // The first one that was prepared is never used: another one takes its place.
    let prepare = PrepareX509AuthorityRequest {};
    let unused = client.prepare_x509_authority(prepare).await.unwrap().into_inner();
    let prepared = client.prepare_x509_authority(prepare).await.unwrap().into_inner();
    let (unused, second) = (id(unused.prepared_authority), id(prepared.prepared_authority));
    assert_eq!(
        code(client.activate_x509_authority(activate(&unused)).await),
        Code::InvalidArgument
    );
    assert_eq!(
        code(client.taint_x509_authority(taint(&second)).await),
        Code::FailedPrecondition
    );
    assert_eq!(server.bundle().await.x509_authorities.len(), 2);

    client.activate_x509_authority(activate(&second)).await.unwrap();
    assert_eq!(
        code(client.revoke_x509_authority(revoke(&first)).await),
        Code::FailedPrecondition
    );
    client.taint_x509_authority(taint(&first)).await.unwrap();
    let bundle = server.bundle().await;
    let tainted: Vec<_> = bundle.x509_authorities.iter().map(|root| root.tainted).collect();
    assert_eq!(tainted, [true, false]);
    let state = client.get_x509_authority_state(GetX509AuthorityStateRequest {});
    let state = state.await.unwrap().into_inner();
    assert_eq!(
        (id(state.active), id(state.old), state.prepared),
        (second.clone(), first.clone(), None)
    );

    client.revoke_x509_authority(revoke(&first)).await.unwrap();
    let revoked = server.bundle().await;
    assert_eq!(revoked.x509_authorities.len(), 1);
    assert!(revoked.sequence_number > bundle.sequence_number);
    assert_eq!(
        code(client.revoke_x509_authority(revoke(&first)).await),
        Code::InvalidArgument
    );
    let audit = server.audit();
    for event in [
        "authority_prepared",
        "authority_activated",
        "authority_tainted",
        "authority_revoked",
    ] {
        assert!(audit.contains(event), "{event} is not in the trail");
    }
}

#[tokio::test]
async fn a_jwt_authority_is_replaced_by_force() {
    let server = start("").await;
    let mut client = LocalAuthorityClient::new(server.client.clone());
    let state = client.get_jwt_authority_state(GetJwtAuthorityStateRequest {});
    let first = id(state.await.unwrap().into_inner().active);
    let prepared = client.prepare_jwt_authority(PrepareJwtAuthorityRequest {});
    let second = id(prepared.await.unwrap().into_inner().prepared_authority);
    let activate = ActivateJwtAuthorityRequest {
        authority_id: second.clone(),
    };
    client.activate_jwt_authority(activate).await.unwrap();
    let taint = TaintJwtAuthorityRequest {
        authority_id: first.clone(),
    };
    client.taint_jwt_authority(taint.clone()).await.unwrap();
    assert_eq!(
        code(client.taint_jwt_authority(taint).await),
        Code::FailedPrecondition
    );
    let keys = server.bundle().await.jwt_authorities;
    assert_eq!(
        keys.iter()
            .map(|key| (&key.key_id, key.tainted))
            .collect::<Vec<_>>(),
        [(&first, true), (&second, false)]
    );
    let revoke = RevokeJwtAuthorityRequest { authority_id: first };
    client.revoke_jwt_authority(revoke).await.unwrap();
    let keys = server.bundle().await.jwt_authorities;
    assert_eq!(keys.iter().map(|key| &key.key_id).collect::<Vec<_>>(), [&second]);
}

#[tokio::test]
async fn there_is_no_upstream_authority() {
    let server = start("").await;
    let mut client = LocalAuthorityClient::new(server.client.clone());
    let taint = client.taint_x509_upstream_authority(TaintX509UpstreamAuthorityRequest::default());
    assert_eq!(code(taint.await), Code::FailedPrecondition);
    let revoke = client.revoke_x509_upstream_authority(RevokeX509UpstreamAuthorityRequest::default());
    assert_eq!(code(revoke.await), Code::FailedPrecondition);
    let wit = client.get_wit_authority_state(GetWitAuthorityStateRequest {});
    assert_eq!(code(wit.await), Code::Unimplemented);
}
