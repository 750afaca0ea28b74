//! The Debug service: what a running server knows of itself.

use edge::{Clock, tls::Certificate};
use proto::spire::api::{
    server::debug::v1::{GetInfoRequest, GetInfoResponse, debug_server, get_info_response::Cert},
    types::Spiffeid,
};
use svid::{SpiffeId, Timestamp};
use tonic::{Request, Response, Status, async_trait};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use super::page;
use crate::registry::{Registry, Snapshot};

pub(super) struct DebugService {
    pub(super) registry: Registry,
    pub(super) certificate: Certificate,
    pub(super) clock: Clock,
    pub(super) started: Timestamp,
}

#[async_trait]
impl debug_server::Debug for DebugService {
    async fn get_info(&self, _request: Request<GetInfoRequest>) -> Result<Response<GetInfoResponse>, Status> {
        let snapshot = self.registry.snapshot();
        let uptime = self.clock.now().since(self.started).as_secs();
        Ok(Response::new(GetInfoResponse {
            svid_chain: self.chain(&snapshot),
            uptime: i32::try_from(uptime).unwrap_or(i32::MAX),
            agents_count: page::count(snapshot.agents.len()),
            entries_count: page::count(snapshot.entries.len()),
            federated_bundles_count: 0,
        }))
    }
}

impl DebugService {
    /// The server's own certificate and those above it, the root too.
    fn chain(&self, snapshot: &Snapshot) -> Vec<Cert> {
        let shown = self.certificate.borrow().clone();
        let chain: Vec<_> = shown
            .iter()
            .flat_map(|shown| shown.cert.iter().cloned())
            .collect();
        let signed_by = svid::signed_by(&chain).map(hex::encode);
        let mut roots = snapshot.authorities.x509.iter();
        let root = roots.find(|root| Some(&root.authority_id) == signed_by.as_ref());
        let all = chain.iter().chain(root.map(|root| &root.material));
        all.filter_map(|certificate| cert(certificate)).collect()
    }
}

fn cert(der: &[u8]) -> Option<Cert> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let id = names.and_then(|names| {
        names.value.general_names.iter().find_map(|name| match name {
            GeneralName::URI(uri) => SpiffeId::parse(uri).ok(),
            _ => None,
        })
    });
    Some(Cert {
        id: id.map(|id| Spiffeid {
            trust_domain: id.trust_domain().to_string(),
            path: id.path().into(),
        }),
        expires_at: certificate.validity().not_after.timestamp(),
        subject: certificate.subject().to_string(),
    })
}
