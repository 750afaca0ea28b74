use rcgen::{CertificateParams, KeyPair, PublicKeyData};

use super::*;

fn td() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

fn root(algorithm: &'static rcgen::SignatureAlgorithm) -> X509Authority {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let certificate = CertificateParams::default()
        .self_signed(&key)
        .unwrap()
        .der()
        .clone();
    X509Authority {
        certificate,
        tainted: false,
    }
}

fn jwt_key(algorithm: &'static rcgen::SignatureAlgorithm, key_id: &str) -> JwtAuthority {
    let public_key = KeyPair::generate_for(algorithm)
        .unwrap()
        .subject_public_key_info();
    JwtAuthority {
        key_id: key_id.into(),
        public_key,
        expires_at: None,
        tainted: false,
    }
}

fn full() -> Bundle {
    Bundle {
        trust_domain: td(),
        x509_authorities: vec![
            root(&rcgen::PKCS_ECDSA_P256_SHA256),
            root(&rcgen::PKCS_ECDSA_P384_SHA384),
        ],
        jwt_authorities: vec![
            jwt_key(&rcgen::PKCS_ECDSA_P256_SHA256, "one"),
            jwt_key(&rcgen::PKCS_ECDSA_P384_SHA384, "two"),
            jwt_key(&rcgen::PKCS_RSA_SHA256, "three"),
        ],
        refresh_hint: Some(Duration::from_secs(300)),
        sequence: 1 << 40,
    }
}

#[test]
fn a_jwk_set_reads_back_as_the_same_bundle() {
    let bundle = full();
    assert_eq!(
        Bundle::from_jwks(td(), bundle.to_jwks().as_bytes()).unwrap(),
        bundle
    );
}

#[test]
fn x509_keys_have_one_certificate_and_no_kid() {
    let set: Value = serde_json::from_str(&full().to_jwks()).unwrap();
    for key in set["keys"].as_array().unwrap() {
        match key["use"].as_str() {
            Some("x509-svid") => {
                assert_eq!(key["x5c"].as_array().unwrap().len(), 1);
                assert!(key.get("kid").is_none());
            }
            Some("jwt-svid") => assert!(key["kid"].is_string()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_jwt_view_holds_jwt_keys_only() {
    let bundle = full();
    let view = Bundle::from_jwks(td(), bundle.to_jwt_jwks().as_bytes()).unwrap();
    assert_eq!(view.jwt_authorities, bundle.jwt_authorities);
    assert!(view.x509_authorities.is_empty());
}

#[test]
fn keys_of_unknown_use_or_type_are_left_out() {
    let json = r#"{"keys":[{"kty":"EC","use":"vendor"},{"kty":"EC"},{"kty":"oct","use":"jwt-svid","kid":"k"},
                   {"kty":"EC","use":"x509-svid"},{"kty":"EC","use":"x509-svid","x5c":[]}],"more":1}"#;
    assert_eq!(
        Bundle::from_jwks(td(), json.as_bytes()).unwrap(),
        Bundle::empty(td())
    );
    assert_eq!(
        Bundle::from_jwks(td(), br#"{"keys":[]}"#).unwrap(),
        Bundle::empty(td())
    );
}

#[test]
fn malformed_keys_of_a_known_use_refuse_the_bundle() {
    let refused = |json: &str| Bundle::from_jwks(td(), json.as_bytes()).unwrap_err().to_string();
    assert!(refused("{}").contains("not a JWK Set"));
    assert!(refused("[").contains("not a JWK Set"));
    assert!(refused(r#"{"keys":[{"use":"x509-svid","x5c":["AAAA"]}]}"#).contains("key 0"));
    assert!(
        refused(r#"{"keys":[{"use":"jwt-svid","kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}"#)
            .contains("key 0")
    );
    let short = r#"{"keys":[{"use":"jwt-svid","kid":"a","kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}"#;
    assert!(refused(short).contains("key 0"));
}

#[test]
fn excess_is_refused() {
    let many = format!(
        r#"{{"keys":[{}]}}"#,
        vec![r#"{"kty":"EC"}"#; Bundle::MAX_KEYS + 1].join(",")
    );
    assert!(matches!(
        Bundle::from_jwks(td(), many.as_bytes()),
        Err(BundleError::TooLarge)
    ));
    assert!(matches!(
        Bundle::from_jwks(td(), &vec![b' '; Bundle::MAX_LEN + 1]),
        Err(BundleError::TooLarge)
    ));
}

/// What others put into a bundle may not be in a JWK Set, but must not spoil it.
#[test]
fn a_jwk_set_leaves_out_what_it_could_not_read_back() {
    let good = full();
    let mut bundle = good.clone();
    let trailing = [good.x509_authorities[0].certificate.as_ref(), &[0]].concat();
    bundle.x509_authorities.push(X509Authority {
        certificate: trailing.into(),
        tainted: false,
    });
    bundle
        .jwt_authorities
        .push(jwt_key(&rcgen::PKCS_ECDSA_P256_SHA256, ""));
    assert_eq!(
        Bundle::from_jwks(td(), bundle.to_jwks().as_bytes()).unwrap(),
        good
    );
}
