use proto::spire::api::{
    server::bundle::v1::{
        AppendBundleRequest, BatchCreateFederatedBundleRequest, CountBundlesRequest,
        GetFederatedBundleRequest, ListFederatedBundlesRequest, PublishJwtAuthorityRequest,
        bundle_client::BundleClient,
    },
    types::{JwtKey, X509Certificate},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, PublicKeyData};
use tonic::Code;

use crate::server::start;

fn root(is_ca: IsCa) -> X509Certificate {
    let mut params = CertificateParams::default();
    params.is_ca = is_ca;
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    X509Certificate {
        asn1: certificate.der().to_vec(),
        tainted: false,
    }
}

fn key(key_id: &str) -> JwtKey {
    JwtKey {
        public_key: KeyPair::generate().unwrap().subject_public_key_info(),
        key_id: key_id.into(),
        expires_at: 0,
        tainted: false,
    }
}

#[tokio::test]
async fn authorities_of_others_are_appended_once() {
    let server = start("").await;
    let mut client = BundleClient::new(server.client.clone());
    let request = AppendBundleRequest {
        x509_authorities: vec![root(IsCa::Ca(BasicConstraints::Unconstrained))],
        jwt_authorities: vec![key("theirs")],
        ..AppendBundleRequest::default()
    };
    let appended = client.append_bundle(request.clone()).await.unwrap().into_inner();
    assert_eq!(appended.x509_authorities[1..], request.x509_authorities);
    assert_eq!(appended.jwt_authorities[1..], request.jwt_authorities);
    let again = client.append_bundle(request).await.unwrap().into_inner();
    assert_eq!(again, appended);
}

#[tokio::test]
async fn what_is_no_authority_is_refused() {
    let server = start("").await;
    let mut client = BundleClient::new(server.client.clone());
    let before = server.bundle().await;
    let mut check = async |x509: Vec<X509Certificate>, jwt: Vec<JwtKey>, expected| {
        let request = AppendBundleRequest {
            x509_authorities: x509,
            jwt_authorities: jwt,
            ..AppendBundleRequest::default()
        };
        let refused = client.append_bundle(request).await.unwrap_err();
        assert_eq!(refused.code(), expected, "{refused}");
    };
    check(vec![], vec![], Code::InvalidArgument).await;
    check(vec![root(IsCa::NoCa)], vec![], Code::InvalidArgument).await;
    let mut followed = root(IsCa::Ca(BasicConstraints::Unconstrained));
    followed.asn1.push(0);
    check(vec![followed], vec![], Code::InvalidArgument).await;
    check(vec![], vec![key("")], Code::InvalidArgument).await;
    check(vec![], vec![key("a"), key("a")], Code::InvalidArgument).await;
    let ours = before.jwt_authorities[0].key_id.clone();
    check(vec![], vec![key(&ours)], Code::InvalidArgument).await;
    let many = (0..256).map(|number| key(&number.to_string()));
    check(vec![], many.collect(), Code::ResourceExhausted).await;
    assert_eq!(server.bundle().await, before);
}

#[tokio::test]
async fn there_is_one_bundle_and_no_federation() {
    let server = start("").await;
    let mut client = BundleClient::new(server.client.clone());
    let count = client.count_bundles(CountBundlesRequest {}).await.unwrap();
    assert_eq!(count.into_inner().count, 1);
    let listed = client.list_federated_bundles(ListFederatedBundlesRequest::default());
    assert!(listed.await.unwrap().into_inner().bundles.is_empty());
    for (trust_domain, expected) in [
        ("example.org", Code::InvalidArgument),
        ("", Code::InvalidArgument),
        ("other.org", Code::NotFound),
    ] {
        let request = GetFederatedBundleRequest {
            trust_domain: trust_domain.into(),
            output_mask: None,
        };
        let refused = client.get_federated_bundle(request).await.unwrap_err();
        assert_eq!(refused.code(), expected, "{trust_domain}");
    }
    let created = client.batch_create_federated_bundle(BatchCreateFederatedBundleRequest::default());
    assert_eq!(created.await.unwrap_err().code(), Code::Unimplemented);
    // Only downstream servers may ask at all.
    let published = client.publish_jwt_authority(PublishJwtAuthorityRequest::default());
    assert_eq!(published.await.unwrap_err().code(), Code::PermissionDenied);
}
