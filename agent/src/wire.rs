//! Between the server's messages and our types.

use std::time::Duration;

use edge::grpc::Client;
use proto::spire::api::{
    server::agent::v1::{AgentX509svidParams, RenewAgentRequest, agent_client::AgentClient},
    types,
};
use svid::{Bundle, JwtAuthority, Timestamp, TrustDomain, TrustDomainError, X509Authority};
use tonic::{Request, Status};

/// Reads a bundle.
///
/// # Errors
///
/// Its trust domain is malformed.
pub fn bundle(wire: types::Bundle) -> Result<Bundle, TrustDomainError> {
    let x509 = wire.x509_authorities.into_iter().map(|root| X509Authority {
        certificate: root.asn1.into(),
        tainted: root.tainted,
    });
    let jwt = wire.jwt_authorities.into_iter().map(|key| JwtAuthority {
        key_id: key.key_id,
        public_key: key.public_key,
        expires_at: (key.expires_at != 0).then(|| Timestamp::from_unix(key.expires_at)),
        tainted: key.tainted,
    });
    Ok(Bundle {
        trust_domain: TrustDomain::parse(&wire.trust_domain)?,
        x509_authorities: x509.collect(),
        jwt_authorities: jwt.collect(),
        refresh_hint: u64::try_from(wire.refresh_hint)
            .ok()
            .filter(|hint| *hint > 0)
            .map(Duration::from_secs),
        sequence: wire.sequence_number,
    })
}

/// Renews the agent's SVID by RenewAgent; answers with its chain, leaf first.
///
/// # Errors
///
/// The server refused.
pub async fn renew(client: Client, csr: Vec<u8>) -> Result<Vec<Vec<u8>>, Status> {
    let mut request = Request::new(RenewAgentRequest {
        params: Some(AgentX509svidParams { csr }),
    });
    request.set_timeout(Duration::from_secs(30));
    let response = AgentClient::new(client).renew_agent(request).await?.into_inner();
    Ok(response.svid.map(|svid| svid.cert_chain).unwrap_or_default())
}
