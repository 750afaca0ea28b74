//! The parsers of names, keys, certificates and bundles.

use std::{fmt::Display, str::FromStr, sync::LazyLock};

use rustls_pki_types::CertificateDer;
use svid::{
    Bundle, DnsName, Roots, Selector, SpiffeId, Timestamp, TrustDomain, X509Authority,
    jwt::{self, JwtSvid},
    x509::{self, CertificateRequest, PublicKey, X509Svid},
};

use super::example_org;

/// A root that signed nothing of what is in the corpora.
const STRANGER: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../attest/testdata/ek/cas/gstpmroot.crt"
));
/// 2025-01-01.
const NOW: Timestamp = Timestamp::from_unix(1_735_689_600);

/// What prints as it was parsed, or at least parses to the same again.
fn round_trip<T: FromStr + Display + PartialEq>(bytes: &[u8]) -> Option<T> {
    let value: T = str::from_utf8(bytes).ok()?.parse().ok()?;
    let again = value.to_string().parse();
    assert!(
        again.is_ok_and(|again: T| again == value),
        "{value} does not read back"
    );
    Some(value)
}

/// [`SpiffeId::parse`].
pub fn spiffe_id(bytes: &[u8]) {
    let Some(id) = round_trip::<SpiffeId>(bytes) else {
        return;
    };
    assert!(id.to_string().len() <= SpiffeId::MAX_LEN);
    assert!(id.is_member_of(id.trust_domain()));
    assert_eq!(
        SpiffeId::new(id.trust_domain().clone(), id.path()).as_ref(),
        Ok(&id)
    );
    let dots = id.path().split('/').any(|segment| matches!(segment, "." | ".."));
    assert!(!dots, "{id} climbs");
}

/// [`TrustDomain::parse`], and the laxer form of configurations.
pub fn trust_domain(bytes: &[u8]) {
    if let Some(trust_domain) = round_trip::<TrustDomain>(bytes) {
        assert_eq!(trust_domain.as_str().as_bytes(), bytes);
        assert_eq!(
            SpiffeId::parse(&trust_domain.id().to_string()).as_ref(),
            Ok(&trust_domain.id())
        );
    }
    let lax = str::from_utf8(bytes)
        .ok()
        .and_then(|text| TrustDomain::parse_name_or_id(text).ok());
    if let Some(trust_domain) = lax {
        assert_eq!(
            TrustDomain::parse(trust_domain.as_str()).as_ref(),
            Ok(&trust_domain)
        );
    }
}

/// [`Selector`] from text.
pub fn selector(bytes: &[u8]) {
    let Some(selector) = round_trip::<Selector>(bytes) else {
        return;
    };
    assert_eq!(selector.to_string().as_bytes(), bytes);
}

/// [`DnsName`] from text.
pub fn dns_name(bytes: &[u8]) {
    round_trip::<DnsName>(bytes);
}

/// [`PublicKey::from_spki`].
pub fn public_key(bytes: &[u8]) {
    let Ok(key) = PublicKey::from_spki(bytes) else {
        return;
    };
    let again = PublicKey::from_spki(&key.to_spki());
    assert_eq!(again.as_ref(), Ok(&key));
}

/// [`CertificateRequest::verify`].
pub fn certificate_request(bytes: &[u8]) {
    let Ok(request) = CertificateRequest::verify(bytes) else {
        return;
    };
    assert!(bytes.len() <= CertificateRequest::MAX_LEN);
    assert_eq!(
        PublicKey::from_spki(&request.public_key.to_spki()),
        Ok(request.public_key)
    );
    let names: usize = request
        .uris
        .iter()
        .chain(&request.dns_names)
        .map(String::len)
        .sum();
    assert!(names <= bytes.len());
}

/// [`X509Svid::parse`], and [`x509::verify`] with a root that did not sign it.
pub fn x509_svid(bytes: &[u8]) {
    static ROOT: LazyLock<X509Authority> = LazyLock::new(|| X509Authority {
        certificate: STRANGER.into(),
        tainted: false,
    });
    let leaf = CertificateDer::from(bytes);
    let parsed = X509Svid::parse(&leaf);
    let bundle = |trust_domain: &TrustDomain| {
        let mut bundle = Bundle::empty(trust_domain.clone());
        bundle.x509_authorities.push(ROOT.clone());
        Some(bundle)
    };
    let chain = [leaf.clone(), leaf];
    for chain in [chain.get(..1).unwrap_or_default(), &chain] {
        assert!(x509::verify(chain, bundle, NOW).is_err(), "nobody signed it");
    }
    let Ok(svid) = parsed else { return };
    assert!(!svid.id.path().is_empty());
    assert!(svid.serial.as_bytes().len() <= bytes.len());
}

/// [`JwtSvid::parse`], and [`jwt::verify`] with a key of the bundle that its owner may have chosen.
pub fn jwt_svid(bytes: &[u8]) {
    let Ok(token) = str::from_utf8(bytes) else { return };
    let parsed = JwtSvid::parse(token);
    let nobody = |trust_domain: &TrustDomain| Some(Bundle::empty(trust_domain.clone()));
    assert!(
        jwt::verify(token, "aud", nobody, NOW).is_err(),
        "nobody signed it"
    );
    let Ok(svid) = parsed else { return };
    assert!(token.len() <= jwt::MAX_LEN && !svid.audience.is_empty() && !svid.key_id.is_empty());
    assert_eq!(
        svid.claims.get("sub").and_then(|id| id.as_str()?.parse().ok()),
        Some(svid.id)
    );
}

/// [`Bundle::from_jwks`], and printing it.
pub fn bundle_jwks(bytes: &[u8]) {
    if let Ok(bundle) = Bundle::from_jwks(example_org(), bytes) {
        check_bundle(&bundle);
    }
}

/// What a bundle prints is a bundle. Roots whose keys are of kinds that no JWK has are left out there.
pub(super) fn check_bundle(bundle: &Bundle) {
    let parse = |text: String| {
        Bundle::from_jwks(bundle.trust_domain.clone(), text.as_bytes())
            .unwrap_or_else(|error| panic!("{error}: {text}"))
    };
    let printed = parse(bundle.to_jwks());
    assert_eq!(parse(printed.to_jwks()), printed);
    assert_eq!(
        printed.jwt_authorities.len(),
        parse(bundle.to_jwt_jwks()).jwt_authorities.len()
    );
    assert!(printed.x509_authorities.len() <= bundle.x509_authorities.len());
    assert_eq!(
        (printed.sequence, printed.refresh_hint),
        (bundle.sequence, bundle.refresh_hint)
    );
    let _der = bundle.x509_der();
    let _end = bundle.x509_not_after();
    let _roots = Roots::of(bundle);
}
