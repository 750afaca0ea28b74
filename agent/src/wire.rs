//! Between the server's messages and our types.

use std::time::Duration;

use edge::grpc::Client;
use proto::spire::api::{
    server::agent::v1::{AgentX509svidParams, RenewAgentRequest, agent_client::AgentClient},
    types,
};
use svid::{Bundle, JwtAuthority, Timestamp, TrustDomain, TrustDomainError, X509Authority};
use tokio::time::timeout;
use tonic::{Request, Status};

/// How long the server may take to renew.
const RENEW_WITHIN: Duration = Duration::from_secs(30);

/// A bundle of the server can't be used.
#[derive(Debug, thiserror::Error)]
pub enum UnusableBundle {
    /// A root is no certificate, or something follows it.
    #[error("certificate {0} of the server's bundle is malformed")]
    Certificate(usize),
    /// It holds no root.
    #[error("the server's bundle holds no certificate")]
    Empty,
    /// It is of another trust domain.
    #[error("the server's bundle is of trust domain `{0}`")]
    Foreign(TrustDomain),
    /// The trust domain is malformed.
    #[error("the server's bundle has no usable trust domain")]
    TrustDomain(#[from] TrustDomainError),
}

/// Reads a bundle of `trust_domain`.
///
/// # Errors
///
/// It is of another trust domain, or what it holds can't be used.
pub fn bundle(wire: types::Bundle, trust_domain: &TrustDomain) -> Result<Bundle, UnusableBundle> {
    let named = TrustDomain::parse(&wire.trust_domain)?;
    if named != *trust_domain {
        return Err(UnusableBundle::Foreign(named));
    }
    let roots = wire.x509_authorities.into_iter().enumerate();
    let x509_authorities: Vec<_> = roots
        .map(|(index, root)| authority(root).ok_or(UnusableBundle::Certificate(index + 1)))
        .collect::<Result<_, _>>()?;
    if x509_authorities.is_empty() {
        return Err(UnusableBundle::Empty);
    }
    let jwt = wire.jwt_authorities.into_iter().map(|key| JwtAuthority {
        key_id: key.key_id,
        public_key: key.public_key,
        expires_at: (key.expires_at != 0).then(|| Timestamp::from_unix(key.expires_at)),
        tainted: key.tainted,
    });
    Ok(Bundle {
        trust_domain: named,
        x509_authorities,
        jwt_authorities: jwt.collect(),
        refresh_hint: u64::try_from(wire.refresh_hint)
            .ok()
            .filter(|hint| *hint > 0)
            .map(Duration::from_secs),
        sequence: wire.sequence_number,
    })
}

fn authority(wire: types::X509Certificate) -> Option<X509Authority> {
    let parsed = X509Authority::parse(wire.asn1.into())?;
    Some(X509Authority {
        tainted: wire.tainted,
        ..parsed
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
    request.set_timeout(RENEW_WITHIN);
    let mut client = AgentClient::new(client);
    let response = timeout(RENEW_WITHIN, client.renew_agent(request)).await;
    let response = response
        .map_err(|_| Status::deadline_exceeded("no answer from the server within 30 s"))??
        .into_inner();
    Ok(response.svid.map(|svid| svid.cert_chain).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let root = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        root.der().to_vec()
    }

    fn check(trust_domain: &str, roots: Vec<Vec<u8>>, expected: Result<usize, &str>) {
        let roots = roots
            .into_iter()
            .map(|asn1| types::X509Certificate { asn1, tainted: true });
        let wire = types::Bundle {
            trust_domain: trust_domain.into(),
            x509_authorities: roots.collect(),
            ..types::Bundle::default()
        };
        match (bundle(wire, &TrustDomain::parse("td").unwrap()), expected) {
            (Ok(bundle), Ok(count)) => {
                assert_eq!(bundle.x509_authorities.len(), count);
                assert!(bundle.x509_authorities.iter().all(|root| root.tainted));
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (parsed, expected) => panic!("{parsed:?} is not {expected:?}"),
        }
    }

    #[test]
    fn bundles_are_of_our_trust_domain_and_hold_certificates() {
        check("td", vec![root(), root()], Ok(2));
        check("other", vec![root()], Err("of trust domain `other`"));
        check("", vec![root()], Err("no usable trust domain"));
        check("td", vec![], Err("holds no certificate"));
        check("td", vec![root(), b"none".to_vec()], Err("certificate 2 of"));
        check("td", vec![[root(), vec![0]].concat()], Err("certificate 1 of"));
    }
}
