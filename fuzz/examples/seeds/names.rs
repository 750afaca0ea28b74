//! Names, keys, certificates and bundles.

use std::time::Duration;

use rcgen::{
    CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType, SigningKey,
};
use svid::{
    Bundle, JwtAuthority, SpiffeId, Timestamp, TrustDomain, X509Authority,
    jwt::{Algorithm, Audience, Claims},
    x509::PublicKey,
};

use super::seed;

const ALGORITHMS: [(&str, &rcgen::SignatureAlgorithm); 5] = [
    ("p256", &rcgen::PKCS_ECDSA_P256_SHA256),
    ("p384", &rcgen::PKCS_ECDSA_P384_SHA384),
    ("p521", &rcgen::PKCS_ECDSA_P521_SHA512),
    ("ed25519", &rcgen::PKCS_ED25519),
    ("rsa", &rcgen::PKCS_RSA_SHA256),
];

pub(crate) fn write() {
    texts();
    keys();
    svid();
    jwt();
    let bundle = bundle();
    seed("bundle_jwks", "full", bundle.to_jwks());
    seed("bundle_jwks", "jwt", bundle.to_jwt_jwks());
    seed("bundle_jwks", "empty", br#"{"keys":[],"spiffe_sequence":1}"#);
    let odd = r#"{"keys":[{"kty":"oct","use":"jwt-svid","kid":"k"},{"kty":"EC","use":"x509-svid","x5c":[]}],"more":1}"#;
    seed("bundle_jwks", "unknown-keys", odd);
    seed("trust_bundle", "jwks", bundle.to_jwks());
    let pem: String = bundle
        .x509_authorities
        .iter()
        .map(|root| pem_of(&root.certificate))
        .collect();
    seed("trust_bundle", "pem", pem);
}

fn texts() {
    let id = "spiffe://example.org/ns/prod/sa/db_1.a-b";
    seed("spiffe_id", "path", id);
    seed("spiffe_id", "trust-domain", "SPIFFE://example.org");
    seed("spiffe_id", "reserved", "spiffe://td/spire/agent/join_token/x");
    seed("trust_domain", "name", "prod_1.example-x.org");
    seed("trust_domain", "id", id);
    seed("selector", "unix", "unix:uid:1000");
    seed("selector", "path", "unix:path:/usr/bin/ünï");
    seed("dns_name", "plain", "db.example.org");
    seed("dns_name", "wildcard", "*.example.org");
    seed("join_token", "good", "4f5a3ac3-9d4b-4a3f-8a4e-0c3f1b6f8f10");
}

fn keys() {
    for (name, algorithm) in ALGORITHMS {
        let key = KeyPair::generate_for(algorithm).unwrap();
        seed("public_key", name, key.subject_public_key_info());
        let mut params = CertificateParams::default();
        params.subject_alt_names = names();
        seed(
            "certificate_request",
            name,
            params.serialize_request(&key).unwrap().der(),
        );
    }
}

fn names() -> Vec<SanType> {
    vec![
        SanType::URI("spiffe://example.org/db".try_into().unwrap()),
        SanType::DnsName("db.example.org".try_into().unwrap()),
    ]
}

fn jwt() {
    for (name, algorithm) in ALGORITHMS {
        let pair = KeyPair::generate_for(algorithm).unwrap();
        let key = PublicKey::from_spki(&pair.subject_public_key_info()).unwrap();
        if Algorithm::of(&key).is_none() {
            continue;
        }
        let claims = Claims {
            id: SpiffeId::parse("spiffe://example.org/web").unwrap(),
            audience: Audience::new(vec!["aud".into(), name.into()]).unwrap(),
            issued_at: Timestamp::from_unix(1_735_689_600),
            expires_at: Timestamp::from_unix(1_735_689_900),
            issuer: Some("https://issuer.example.org".into()),
            token_id: Some("4f5a3ac3-9d4b-4a3f-8a4e-0c3f1b6f8f10".into()),
        };
        let token = svid::jwt::sign(&claims, "k1", &key, |message| pair.sign(message));
        seed("jwt_svid", name, token.unwrap());
    }
}

fn svid() {
    let issuer =
        CertifiedIssuer::self_signed(CertificateParams::default(), KeyPair::generate().unwrap()).unwrap();
    for (name, algorithm) in ALGORITHMS {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = names();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        seed("x509_svid", name, params.signed_by(&key, &issuer).unwrap().der());
    }
}

/// Two roots and three keys.
pub(crate) fn bundle() -> Bundle {
    let root = |(_, algorithm): &(&str, &'static rcgen::SignatureAlgorithm)| X509Authority {
        certificate: CertificateParams::default()
            .self_signed(&KeyPair::generate_for(algorithm).unwrap())
            .unwrap()
            .der()
            .clone(),
        tainted: false,
    };
    let key = |(name, algorithm): &(&str, &'static rcgen::SignatureAlgorithm)| JwtAuthority {
        key_id: (*name).into(),
        public_key: KeyPair::generate_for(algorithm)
            .unwrap()
            .subject_public_key_info(),
        expires_at: None,
        tainted: false,
    };
    Bundle {
        x509_authorities: ALGORITHMS[..2].iter().map(root).collect(),
        jwt_authorities: [ALGORITHMS[0], ALGORITHMS[1], ALGORITHMS[4]]
            .iter()
            .map(key)
            .collect(),
        refresh_hint: Some(Duration::from_secs(300)),
        sequence: 1 << 40,
        ..Bundle::empty(TrustDomain::parse("example.org").unwrap())
    }
}

fn pem_of(der: &[u8]) -> String {
    pem::encode(&pem::Pem::new("CERTIFICATE", der))
}
