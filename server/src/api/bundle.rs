//! The Bundle service, for the own trust domain.

use proto::spire::api::{
    server::bundle::v1::{
        AppendBundleRequest, BatchCreateFederatedBundleRequest, BatchCreateFederatedBundleResponse,
        BatchDeleteFederatedBundleRequest, BatchDeleteFederatedBundleResponse,
        BatchSetFederatedBundleRequest, BatchSetFederatedBundleResponse, BatchUpdateFederatedBundleRequest,
        BatchUpdateFederatedBundleResponse, CountBundlesRequest, CountBundlesResponse, GetBundleRequest,
        GetFederatedBundleRequest, ListFederatedBundlesRequest, ListFederatedBundlesResponse,
        PublishJwtAuthorityRequest, PublishJwtAuthorityResponse, PublishWitAuthorityRequest,
        PublishWitAuthorityResponse, bundle_server::Bundle,
    },
    types,
};
use svid::TrustDomain;
use tonic::{Request, Response, Status, async_trait};

use super::{gate, status};
use crate::{
    authorize::Presented,
    convert,
    registry::{Registry, authority_changes},
    sessions::Sessions,
};

pub(super) struct BundleService {
    pub(super) registry: Registry,
    pub(super) sessions: Sessions,
}

#[async_trait]
impl Bundle for BundleService {
    async fn get_bundle(
        &self,
        request: Request<GetBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        let snapshot = self.registry.snapshot();
        let bundle = snapshot.authorities.bundle(snapshot.trust_domain.clone());
        // An agent without a session learns of new authorities here, and in no other way.
        if let Presented::Svid(svid) = gate::connection(&request)?.presented()
            && snapshot.agents.contains_key(svid.id.path())
        {
            self.sessions.polled(svid.id.shared_path(), bundle.sequence).await;
        }
        let wire = convert::bundle_to_wire(&bundle);
        Ok(Response::new(convert::mask_bundle(
            wire,
            request.into_inner().output_mask.as_ref(),
        )))
    }

    async fn append_bundle(
        &self,
        request: Request<AppendBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        let actor = gate::caller(&request)?.to_string();
        let request = request.into_inner();
        if !request.wit_authorities.is_empty() {
            return Err(status::not_offered("WIT authorities"));
        }
        let theirs = convert::authorities_from_wire(&request.x509_authorities, &request.jwt_authorities);
        let theirs = theirs.map_err(|error| status::invalid("invalid authority", &error))?;
        let appended = self
            .registry
            .change(move |draft| authority_changes::append(draft, theirs, &actor))
            .await;
        let appended = appended.map_err(|error| status::not_changed(&error))?;
        appended.map_err(|error| status::not_appended(&error))?;
        let snapshot = self.registry.snapshot();
        let bundle = snapshot.authorities.bundle(snapshot.trust_domain.clone());
        let wire = convert::bundle_to_wire(&bundle);
        Ok(Response::new(convert::mask_bundle(
            wire,
            request.output_mask.as_ref(),
        )))
    }

    /// There is one: our own.
    async fn count_bundles(
        &self,
        _request: Request<CountBundlesRequest>,
    ) -> Result<Response<CountBundlesResponse>, Status> {
        Ok(Response::new(CountBundlesResponse { count: 1 }))
    }

    async fn list_federated_bundles(
        &self,
        _request: Request<ListFederatedBundlesRequest>,
    ) -> Result<Response<ListFederatedBundlesResponse>, Status> {
        Ok(Response::new(ListFederatedBundlesResponse::default()))
    }

    async fn get_federated_bundle(
        &self,
        request: Request<GetFederatedBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        let named = TrustDomain::parse_name_or_id(&request.get_ref().trust_domain)
            .map_err(|error| status::invalid("trust domain argument is not valid", &error))?;
        if named == self.registry.snapshot().trust_domain {
            return Err(Status::invalid_argument(
                "the server's own bundle is no federated one; GetBundle has it",
            ));
        }
        Err(Status::not_found("bundle not found"))
    }

    async fn batch_create_federated_bundle(
        &self,
        _request: Request<BatchCreateFederatedBundleRequest>,
    ) -> Result<Response<BatchCreateFederatedBundleResponse>, Status> {
        Err(status::not_offered("federation"))
    }

    async fn batch_update_federated_bundle(
        &self,
        _request: Request<BatchUpdateFederatedBundleRequest>,
    ) -> Result<Response<BatchUpdateFederatedBundleResponse>, Status> {
        Err(status::not_offered("federation"))
    }

    async fn batch_set_federated_bundle(
        &self,
        _request: Request<BatchSetFederatedBundleRequest>,
    ) -> Result<Response<BatchSetFederatedBundleResponse>, Status> {
        Err(status::not_offered("federation"))
    }

    async fn batch_delete_federated_bundle(
        &self,
        _request: Request<BatchDeleteFederatedBundleRequest>,
    ) -> Result<Response<BatchDeleteFederatedBundleResponse>, Status> {
        Err(status::not_offered("federation"))
    }

    async fn publish_jwt_authority(
        &self,
        _request: Request<PublishJwtAuthorityRequest>,
    ) -> Result<Response<PublishJwtAuthorityResponse>, Status> {
        Err(status::not_offered("downstream servers"))
    }

    async fn publish_wit_authority(
        &self,
        _request: Request<PublishWitAuthorityRequest>,
    ) -> Result<Response<PublishWitAuthorityResponse>, Status> {
        Err(status::not_offered("WIT authorities"))
    }
}
