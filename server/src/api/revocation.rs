//! The Revocation service.

use proto::plastron::revocation::v1::{Crl, ListCrlsRequest, ListCrlsResponse, revocation_server};
use tonic::{Request, Response, Status, async_trait};

use crate::registry::Registry;

pub(super) struct RevocationService {
    pub(super) registry: Registry,
}

#[async_trait]
impl revocation_server::Revocation for RevocationService {
    async fn list_crls(
        &self,
        _request: Request<ListCrlsRequest>,
    ) -> Result<Response<ListCrlsResponse>, Status> {
        let snapshot = self.registry.snapshot();
        let crls = snapshot.crls.iter().map(|(authority_id, crl)| Crl {
            authority_id: authority_id.as_ref().into(),
            number: crl.content.number,
            this_update: crl.content.this_update.as_unix(),
            next_update: crl.content.next_update.as_unix(),
            revoked_count: u32::try_from(crl.content.revoked.len()).unwrap_or(u32::MAX),
            der: crl.der.clone(),
        });
        Ok(Response::new(ListCrlsResponse { crls: crls.collect() }))
    }
}
