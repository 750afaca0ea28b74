use std::{convert::Infallible, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rcgen::{KeyPair, PublicKeyData, SigningKey};

use super::{jws::Compact, *};
use crate::{Bundle, JwtAuthority, SpiffeId, Timestamp, TrustDomain, x509::PublicKey};

const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);
const KEY_ID: &str = "k1";

struct Issuer {
    pair: KeyPair,
    key: PublicKey,
}

fn issuer(algorithm: &'static rcgen::SignatureAlgorithm) -> Issuer {
    let pair = KeyPair::generate_for(algorithm).unwrap();
    let key = PublicKey::from_spki(&pair.subject_public_key_info()).unwrap();
    Issuer { pair, key }
}

fn p256() -> Issuer {
    issuer(&rcgen::PKCS_ECDSA_P256_SHA256)
}

fn claims() -> Claims {
    Claims {
        id: SpiffeId::parse("spiffe://example.org/web").unwrap(),
        audience: Audience::new(vec!["db".into(), "cache".into(), "db".into()]).unwrap(),
        issued_at: NOW,
        expires_at: NOW.plus(Duration::from_secs(300)),
        issuer: Some("https://issuer.example.org".into()),
        token_id: None,
    }
}

impl Issuer {
    fn sign(&self, claims: &Claims) -> String {
        let signing = |message: &[u8]| Ok::<_, rcgen::Error>(self.pair.sign(message).unwrap());
        sign(claims, KEY_ID, &self.key, signing).unwrap()
    }

    /// A token of these very parts.
    fn sign_raw(&self, header: &str, payload: &str) -> String {
        let encode = |part: &str| BASE64_URL_SAFE_NO_PAD.encode(part);
        let message = format!("{}.{}", encode(header), encode(payload));
        let key_pair = aws_lc_rs::signature::EcdsaKeyPair::from_pkcs8(
            &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            &self.pair.serialize_der(),
        );
        let random = aws_lc_rs::rand::SystemRandom::new();
        let signature = key_pair.unwrap().sign(&random, message.as_bytes()).unwrap();
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    fn bundle(&self) -> Bundle {
        let mut bundle = Bundle::empty(TrustDomain::parse("example.org").unwrap());
        bundle.jwt_authorities.push(JwtAuthority {
            key_id: KEY_ID.into(),
            public_key: self.key.to_spki(),
            expires_at: None,
            tainted: false,
        });
        bundle
    }

    fn verify(&self, token: &str, audience: &str, now: Timestamp) -> Result<VerifiedJwt, Refused> {
        verify(token, audience, |_| Some(self.bundle()), now)
    }
}

#[test]
fn what_is_signed_verifies_for_every_kind_of_key() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ECDSA_P521_SHA512,
        &rcgen::PKCS_RSA_SHA256,
    ] {
        let issuer = issuer(algorithm);
        let token = issuer.sign(&claims());
        let verified = issuer.verify(&token, "cache", NOW).unwrap();
        assert_eq!(verified.svid().id, claims().id);
        assert_eq!(verified.svid().audience, ["db", "cache"]);
        assert_eq!(
            verified.svid().claims["iss"].as_str(),
            Some("https://issuer.example.org")
        );
    }
}

/// Short numbers are padded: among so many signatures, some have one.
#[test]
fn signatures_have_a_fixed_length() {
    let issuer = p256();
    for _ in 0..600 {
        let token = issuer.sign(&claims());
        let (_, signature) = token.rsplit_once('.').unwrap();
        assert_eq!(signature.len(), 86);
        issuer.verify(&token, "db", NOW).unwrap();
    }
}

#[test]
fn a_token_says_no_more_than_it_should() {
    let token = p256().sign(&Claims {
        audience: Audience::new(vec!["db".into()]).unwrap(),
        issuer: None,
        ..claims()
    });
    let parts: Vec<_> = token
        .split('.')
        .map(|part| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap())
        .collect();
    assert_eq!(parts[0], br#"{"alg":"ES256","kid":"k1","typ":"JWT"}"#);
    let payload = r#"{"aud":"db","exp":1800000300,"iat":1800000000,"sub":"spiffe://example.org/web"}"#;
    assert_eq!(parts[1], payload.as_bytes());
}

#[test]
fn ed25519_signs_no_tokens() {
    let key = issuer(&rcgen::PKCS_ED25519).key;
    let signed = sign(&claims(), KEY_ID, &key, |_| Ok::<_, Infallible>(Vec::new()));
    assert!(matches!(signed, Err(MintError::Key)));
}

#[test]
fn a_key_that_makes_no_signature_is_noticed() {
    for bytes in [&b""[..], b"\x30\x03\x02\x01\x01", &[0x30, 6, 2, 1, 1, 2, 1, 1, 0]] {
        let signed = sign(&claims(), KEY_ID, &p256().key, |_| {
            Ok::<_, Infallible>(bytes.to_vec())
        });
        assert!(matches!(signed, Err(MintError::Signature)), "{bytes:?}");
    }
}

#[test]
fn tokens_are_refused_for_the_right_reason() {
    let issuer = p256();
    let token = issuer.sign(&claims());
    let later = NOW.plus(Duration::from_secs(300));
    assert!(matches!(
        issuer.verify(&token, "web", NOW),
        Err(Refused::Audience)
    ));
    assert!(matches!(
        issuer.verify(&token, "db", later),
        Err(Refused::Ended { .. })
    ));
    let other = p256();
    assert!(matches!(other.verify(&token, "db", NOW), Err(Refused::Signature)));
    let nothing = |_: &TrustDomain| None::<Bundle>;
    assert!(matches!(
        verify(&token, "db", nothing, NOW),
        Err(Refused::UnknownTrustDomain(_))
    ));
    let empty = |domain: &TrustDomain| Some(Bundle::empty(domain.clone()));
    assert!(matches!(
        verify(&token, "db", empty, NOW),
        Err(Refused::UnknownKey(_))
    ));
    let changed = token.clone() + "A";
    assert!(issuer.verify(&changed, "db", NOW).is_err());
}

const HEADER: &str = r#"{"alg":"ES256","kid":"k1","typ":"JWT"}"#;
const PAYLOAD: &str = r#"{"sub":"spiffe://example.org/web","aud":["db"],"exp":1800000300}"#;

fn check(header: &str, payload: &str, expected: Option<&str>) {
    let issuer = p256();
    let verified = issuer.verify(&issuer.sign_raw(header, payload), "db", NOW);
    let found = verified.as_ref().err().map(|refused| match refused {
        Refused::Token(TokenError::Jws(error)) => error.to_string(),
        Refused::Token(error) => error.to_string(),
        refused => refused.to_string(),
    });
    match (found, expected) {
        (None, None) => {}
        (Some(found), Some(expected)) if found.contains(expected) => {}
        (found, expected) => panic!("{header} {payload}: {found:?} is not {expected:?}"),
    }
}

#[test]
fn headers_are_held_to_the_standard() {
    check(HEADER, PAYLOAD, None);
    check(r#"{"alg":"ES256","kid":"k1"}"#, PAYLOAD, None);
    check(r#"{"alg":"ES256","kid":"k1","typ":"JOSE"}"#, PAYLOAD, None);
    let other_type = Some("of another type");
    check(
        r#"{"alg":"ES256","kid":"k1","typ":"wit+jwt"}"#,
        PAYLOAD,
        other_type,
    );
    for algorithm in ["none", "HS256", "EdDSA", "es256", ""] {
        let header = format!(r#"{{"alg":"{algorithm}","kid":"k1"}}"#);
        check(&header, PAYLOAD, Some("do not use"));
    }
    check(r#"{"alg":"ES384","kid":"k1"}"#, PAYLOAD, Some("does not verify"));
    check(r#"{"alg":"RS256","kid":"k1"}"#, PAYLOAD, Some("does not verify"));
    check(r#"{"alg":"ES256"}"#, PAYLOAD, Some("no `kid`"));
    check(r#"{"alg":"ES256","kid":""}"#, PAYLOAD, Some("no `kid`"));
    check(
        r#"{"alg":"ES256","kid":"k2"}"#,
        PAYLOAD,
        Some("no JWT authority `k2`"),
    );
    let critical = r#"{"alg":"ES256","kid":"k1","crit":["b64"],"b64":false}"#;
    check(critical, PAYLOAD, Some("critical"));
    check(
        r#"{"alg":"none","alg":"ES256","kid":"k1"}"#,
        PAYLOAD,
        Some("malformed"),
    );
    check("[]", PAYLOAD, Some("malformed"));
}

#[test]
fn claims_are_held_to_the_standard() {
    let with = |claims: &str| format!(r#"{{"sub":"spiffe://example.org/web",{claims}}}"#);
    check(HEADER, &with(r#""aud":"db","exp":1800000000.5"#), Some("ended"));
    check(HEADER, &with(r#""aud":"db","exp":1800000001.5"#), None);
    check(
        HEADER,
        &with(r#""aud":"db","exp":1800000300,"more":{"a":1}"#),
        None,
    );
    check(HEADER, &with(r#""aud":"db","exp":1e300"#), Some("`exp`"));
    check(HEADER, &with(r#""aud":"db","exp":"1800000300""#), Some("`exp`"));
    check(HEADER, &with(r#""aud":"db""#), Some("`exp`"));
    check(HEADER, &with(r#""exp":1800000300"#), Some("no audience"));
    check(HEADER, &with(r#""aud":[],"exp":1800000300"#), Some("no audience"));
    check(
        HEADER,
        &with(r#""aud":["db",1],"exp":1800000300"#),
        Some("no audience"),
    );
    let early = with(r#""aud":"db","exp":1800000300,"nbf":1800000061"#);
    check(HEADER, &early, Some("begins at"));
    check(HEADER, &early.replace("061", "060"), None);
    check(HEADER, r#"{"aud":"db","exp":1800000300}"#, Some("no subject"));
    check(
        HEADER,
        r#"{"aud":"db","exp":1800000300,"sub":"web"}"#,
        Some("no SPIFFE ID"),
    );
    check(HEADER, "1", Some("claims"));
}

#[test]
fn only_the_compact_form_is_read() {
    let token = p256().sign(&claims());
    for text in [
        "",
        ".",
        "..",
        "a.b.c",
        &format!("{token}="),
        &format!("{token}.e30"),
        &token.replace('.', ""),
        r#"{"payload":"e30"}"#,
    ] {
        assert!(JwtSvid::parse(text).is_err(), "{text}");
    }
    let long = "a".repeat(MAX_LEN + 1);
    assert!(matches!(
        JwtSvid::parse(&long),
        Err(TokenError::Jws(JwsError::TooLong))
    ));
}

#[test]
fn audiences_have_limits() {
    let check = |names: Vec<String>, expected: Option<AudienceError>| {
        assert_eq!(Audience::new(names).err(), expected);
    };
    check(vec!["a".into()], None);
    check(Vec::new(), Some(AudienceError::Missing));
    check(vec!["a".into(), String::new()], Some(AudienceError::Empty));
    check(vec!["a\n".into()], Some(AudienceError::Character("a\n".into())));
    let many = (0..=Audience::MAX).map(|number| number.to_string());
    check(many.collect(), Some(AudienceError::TooLarge));
    let long = "a".repeat(Audience::MAX_LEN + 1);
    check(vec![long], Some(AudienceError::TooLarge));
}

#[test]
fn the_largest_token_that_is_made_is_read() {
    let issuer = issuer(&rcgen::PKCS_RSA_SHA256);
    let token = issuer.sign(&Claims {
        id: SpiffeId::parse(&format!("spiffe://example.org/{}", "a".repeat(2000))).unwrap(),
        audience: Audience::new(vec!["\"".repeat(Audience::MAX_LEN)]).unwrap(),
        ..claims()
    });
    JwtSvid::parse(&token).unwrap();
}

fn number(text: &str) -> Option<Vec<u8>> {
    Some(BASE64_URL_SAFE_NO_PAD.decode(text).unwrap())
}

/// RFC 7515, appendix A.2.
#[test]
fn the_example_of_rs256_verifies() {
    let modulus = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
    let token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    let key = PublicKey::from_modulus(number(modulus), number("AQAB")).unwrap();
    check_example(token, &key);
}

/// RFC 7515, appendix A.3.
#[test]
fn the_example_of_es256_verifies() {
    let x = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    let y = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
    let token = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let key = PublicKey::from_point("P-256", number(x), number(y)).unwrap();
    check_example(token, &key);
}

fn check_example(token: &str, key: &PublicKey) {
    let parsed = Compact::parse(token).unwrap();
    assert_eq!(parsed.verify(key), Some(()));
    assert!(parsed.payload.starts_with(br#"{"iss":"joe","#));
    let (message, signature) = token.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    let other = payload.replacen("eyJpc3Mi", "eyJpc3Mj", 1);
    let forged = format!("{header}.{other}.{signature}");
    assert_eq!(Compact::parse(&forged).unwrap().verify(key), None);
}
