//! The LocalAuthority service: rotation by force.

use proto::spire::api::server::localauthority::v1::{
    ActivateJwtAuthorityRequest, ActivateJwtAuthorityResponse, ActivateX509AuthorityRequest,
    ActivateX509AuthorityResponse, AuthorityState as State, GetJwtAuthorityStateRequest,
    GetJwtAuthorityStateResponse, GetX509AuthorityStateRequest, GetX509AuthorityStateResponse,
    PrepareJwtAuthorityRequest, PrepareJwtAuthorityResponse, PrepareX509AuthorityRequest,
    PrepareX509AuthorityResponse, RevokeJwtAuthorityRequest, RevokeJwtAuthorityResponse,
    RevokeX509AuthorityRequest, RevokeX509AuthorityResponse, RevokeX509UpstreamAuthorityRequest,
    RevokeX509UpstreamAuthorityResponse, TaintJwtAuthorityRequest, TaintJwtAuthorityResponse,
    TaintX509AuthorityRequest, TaintX509AuthorityResponse, TaintX509UpstreamAuthorityRequest,
    TaintX509UpstreamAuthorityResponse, local_authority_server::LocalAuthority,
};
use tonic::{Request, Response, Status, async_trait};

use super::{gate, status};
use crate::{
    ca::{Authority, AuthorityKind, AuthorityState, Order, Ordered, Orders},
    registry::Registry,
};

pub(super) struct AuthorityService {
    pub(super) registry: Registry,
    pub(super) orders: Orders,
    pub(super) has_upstream: bool,
}

use AuthorityKind::{Jwt, X509};

#[async_trait]
impl LocalAuthority for AuthorityService {
    async fn get_jwt_authority_state(
        &self,
        _request: Request<GetJwtAuthorityStateRequest>,
    ) -> Result<Response<GetJwtAuthorityStateResponse>, Status> {
        let [active, prepared, old] = states(&self.registry.snapshot().authorities.jwt)?;
        Ok(Response::new(GetJwtAuthorityStateResponse {
            active,
            prepared,
            old,
        }))
    }

    async fn prepare_jwt_authority(
        &self,
        request: Request<PrepareJwtAuthorityRequest>,
    ) -> Result<Response<PrepareJwtAuthorityResponse>, Status> {
        let prepared_authority = Some(self.order(&request, Jwt, Order::Prepare).await?);
        Ok(Response::new(PrepareJwtAuthorityResponse { prepared_authority }))
    }

    async fn activate_jwt_authority(
        &self,
        request: Request<ActivateJwtAuthorityRequest>,
    ) -> Result<Response<ActivateJwtAuthorityResponse>, Status> {
        let order = Order::Activate(request.get_ref().authority_id.clone());
        let activated_authority = Some(self.order(&request, Jwt, order).await?);
        Ok(Response::new(ActivateJwtAuthorityResponse {
            activated_authority,
        }))
    }

    async fn taint_jwt_authority(
        &self,
        request: Request<TaintJwtAuthorityRequest>,
    ) -> Result<Response<TaintJwtAuthorityResponse>, Status> {
        let order = Order::Taint(request.get_ref().authority_id.clone());
        let tainted_authority = Some(self.order(&request, Jwt, order).await?);
        Ok(Response::new(TaintJwtAuthorityResponse { tainted_authority }))
    }

    async fn revoke_jwt_authority(
        &self,
        request: Request<RevokeJwtAuthorityRequest>,
    ) -> Result<Response<RevokeJwtAuthorityResponse>, Status> {
        let order = Order::Revoke(request.get_ref().authority_id.clone());
        let revoked_authority = Some(self.order(&request, Jwt, order).await?);
        Ok(Response::new(RevokeJwtAuthorityResponse { revoked_authority }))
    }

    async fn get_x509_authority_state(
        &self,
        _request: Request<GetX509AuthorityStateRequest>,
    ) -> Result<Response<GetX509AuthorityStateResponse>, Status> {
        let [active, prepared, old] = states(&self.registry.snapshot().authorities.x509)?;
        Ok(Response::new(GetX509AuthorityStateResponse {
            active,
            prepared,
            old,
        }))
    }

    async fn prepare_x509_authority(
        &self,
        request: Request<PrepareX509AuthorityRequest>,
    ) -> Result<Response<PrepareX509AuthorityResponse>, Status> {
        let prepared_authority = Some(self.order(&request, X509, Order::Prepare).await?);
        Ok(Response::new(PrepareX509AuthorityResponse { prepared_authority }))
    }

    async fn activate_x509_authority(
        &self,
        request: Request<ActivateX509AuthorityRequest>,
    ) -> Result<Response<ActivateX509AuthorityResponse>, Status> {
        let order = Order::Activate(request.get_ref().authority_id.clone());
        let activated_authority = Some(self.order(&request, X509, order).await?);
        Ok(Response::new(ActivateX509AuthorityResponse {
            activated_authority,
        }))
    }

    async fn taint_x509_authority(
        &self,
        request: Request<TaintX509AuthorityRequest>,
    ) -> Result<Response<TaintX509AuthorityResponse>, Status> {
        let order = Order::Taint(request.get_ref().authority_id.clone());
        let tainted_authority = Some(self.order(&request, X509, order).await?);
        Ok(Response::new(TaintX509AuthorityResponse { tainted_authority }))
    }

    async fn revoke_x509_authority(
        &self,
        request: Request<RevokeX509AuthorityRequest>,
    ) -> Result<Response<RevokeX509AuthorityResponse>, Status> {
        let order = Order::Revoke(request.get_ref().authority_id.clone());
        let revoked_authority = Some(self.order(&request, X509, order).await?);
        Ok(Response::new(RevokeX509AuthorityResponse { revoked_authority }))
    }

    async fn taint_x509_upstream_authority(
        &self,
        request: Request<TaintX509UpstreamAuthorityRequest>,
    ) -> Result<Response<TaintX509UpstreamAuthorityResponse>, Status> {
        let id = self.root(&request.get_ref().subject_key_id)?;
        let tainted = self.order(&request, X509, Order::Taint(id)).await?;
        Ok(Response::new(TaintX509UpstreamAuthorityResponse {
            upstream_authority_subject_key_id: tainted.authority_id,
        }))
    }

    async fn revoke_x509_upstream_authority(
        &self,
        request: Request<RevokeX509UpstreamAuthorityRequest>,
    ) -> Result<Response<RevokeX509UpstreamAuthorityResponse>, Status> {
        let id = self.root(&request.get_ref().subject_key_id)?;
        let revoked = self.order(&request, X509, Order::Revoke(id)).await?;
        Ok(Response::new(RevokeX509UpstreamAuthorityResponse {
            upstream_authority_subject_key_id: revoked.authority_id,
        }))
    }
}

impl AuthorityService {
    /// A root of others by that identifier: of an upstream authority, or one that was appended.
    fn root(&self, id: &str) -> Result<String, Status> {
        let snapshot = self.registry.snapshot();
        let mut roots = snapshot.authorities.x509.iter();
        if roots.any(|root| root.state == AuthorityState::Foreign && root.authority_id == id) {
            return Ok(id.to_owned());
        }
        if !self.has_upstream {
            return Err(no_upstream());
        }
        Err(Status::invalid_argument(format!(
            "there is no upstream authority with subject key ID `{id}`; `localauthority x509 show` names those in use"
        )))
    }

    async fn order<T>(
        &self,
        request: &Request<T>,
        kind: AuthorityKind,
        order: Order,
    ) -> Result<State, Status> {
        let actor = gate::caller(request)?.to_string();
        let ordered = self.orders.give(kind, order, actor).await;
        let ordered = ordered.map_err(|error| status::not_ordered(&error))?;
        Ok(wire(&ordered))
    }
}

/// The authority that signs, the one that will, and the last that did.
fn states<M>(authorities: &[Authority<M>]) -> Result<[Option<State>; 3], Status> {
    let last = |state| {
        let mut all = authorities.iter().rev();
        all.find(|authority| authority.state == state)
            .map(|authority| wire(&Ordered::from(authority)))
    };
    let active = last(AuthorityState::Active);
    if active.is_none() {
        return Err(Status::unavailable("server has no signing authority yet"));
    }
    Ok([active, last(AuthorityState::Prepared), last(AuthorityState::Old)])
}

fn wire(ordered: &Ordered) -> State {
    State {
        authority_id: ordered.authority_id.clone(),
        expires_at: ordered.not_after.as_unix(),
        upstream_authority_subject_key_id: ordered.root_id.clone(),
    }
}

fn no_upstream() -> Status {
    Status::failed_precondition(
        "this server has no upstream authority; its authorities are tainted and revoked by their own methods",
    )
}
