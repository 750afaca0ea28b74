//! The Bundle service.

use proto::spire::api::{
    server::bundle::v1::{GetBundleRequest, bundle_server::Bundle},
    types,
};
use tonic::{Request, Response, Status, async_trait};

use super::gate;
use crate::{authorize::Presented, convert, registry::Registry, sessions::Sessions};

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
}
