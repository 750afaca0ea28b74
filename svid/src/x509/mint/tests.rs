use std::time::Duration;

use rcgen::KeyPair;

use super::*;
use crate::{
    Bundle, TrustDomain, X509Authority,
    x509::{ProfileError, Refused, X509Svid, verify},
};

const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

struct World {
    issuer: Issuer<KeyPair>,
    bundle: Bundle,
}

fn world(trust_domain: &str) -> World {
    let trust_domain = TrustDomain::parse(trust_domain).unwrap();
    let key = KeyPair::generate().unwrap();
    let template = template(trust_domain.id(), &key, TemplateKind::Authority);
    let certificate = template.self_sign(&key).unwrap();
    let mut bundle = Bundle::empty(trust_domain);
    bundle.x509_authorities.push(X509Authority {
        certificate: certificate.clone(),
        tainted: false,
    });
    World {
        issuer: Issuer::from_ca_cert_der(&certificate, key).unwrap(),
        bundle,
    }
}

fn template(id: SpiffeId, key: &KeyPair, kind: TemplateKind) -> Template {
    Template {
        id,
        dns_names: Vec::new(),
        public_key: PublicKey::from_spki(&rcgen::PublicKeyData::subject_public_key_info(key)).unwrap(),
        serial: SerialNumber::from_random([7; 16]),
        not_before: NOW.minus(Duration::from_secs(10)),
        not_after: NOW.plus(Duration::from_secs(3600)),
        subject: Subject {
            organization: "Plastron".into(),
            common_name: None,
        },
        kind,
    }
}

fn leaf(id: &str) -> Template {
    template(
        SpiffeId::parse(id).unwrap(),
        &KeyPair::generate().unwrap(),
        TemplateKind::Leaf,
    )
}

fn check(template: &Template, world: &World, now: Timestamp, expected: Result<&str, Refused>) {
    let certificate = sign(template, &world.issuer).unwrap();
    let verified = verify(
        &[certificate],
        |td| (*td == world.bundle.trust_domain).then_some(&world.bundle),
        now,
    );
    assert_eq!(
        verified.map(|verified| verified.svid().id.to_string()),
        expected.map(Into::into)
    );
}

#[test]
fn what_we_issue_verifies() {
    check(&leaf("spiffe://td/db"), &world("td"), NOW, Ok("spiffe://td/db"));
}

#[test]
fn dns_names_and_common_name_are_carried() {
    let mut template = leaf("spiffe://td/db");
    template.dns_names = vec!["db.example.org".parse().unwrap()];
    template.subject.common_name = Some("db.example.org".into());
    let certificate = sign(&template, &world("td").issuer).unwrap();
    let text = String::from_utf8_lossy(&certificate).into_owned();
    assert_eq!(text.matches("db.example.org").count(), 2);
}

#[test]
fn refuses_outside_of_validity() {
    let template = leaf("spiffe://td/db");
    let world = world("td");
    let (not_before, not_after) = (template.not_before, template.not_after);
    let early = not_before.minus(Duration::from_secs(1));
    let late = not_after.plus(Duration::from_secs(1));
    for (now, expected) in [
        (
            early,
            Refused::NotBegun {
                not_before,
                now: early,
            },
        ),
        (late, Refused::Ended { not_after, now: late }),
    ] {
        let certificate = sign(&template, &world.issuer).unwrap();
        let refused = verify(&[certificate], |_| Some(&world.bundle), now).unwrap_err();
        assert_eq!(refused, expected);
        assert!(refused.to_string().contains("clock"), "{refused}");
    }
}

#[test]
fn refuses_the_root_of_another_trust_domain() {
    let ours = world("td");
    let theirs = world("other");
    // An SVID that names `td`, signed by a root of `other`, while both are known.
    let certificate = sign(&leaf("spiffe://td/db"), &theirs.issuer).unwrap();
    let bundles = [&ours.bundle, &theirs.bundle];
    let find = |td: &TrustDomain| bundles.into_iter().find(|bundle| bundle.trust_domain == *td);
    let refused = verify(std::slice::from_ref(&certificate), find, NOW).unwrap_err();
    assert!(matches!(refused, Refused::Chain(_)), "{refused:?}");
}

#[test]
fn refuses_a_trust_domain_without_bundle() {
    let unknown = TrustDomain::parse("unknown").unwrap();
    check(
        &leaf("spiffe://unknown/db"),
        &world("td"),
        NOW,
        Err(Refused::UnknownTrustDomain(unknown)),
    );
}

#[test]
fn refuses_a_signing_certificate_as_identity() {
    let mut template = leaf("spiffe://td/db");
    template.kind = TemplateKind::Authority;
    check(
        &template,
        &world("td"),
        NOW,
        Err(Refused::Profile(ProfileError::IsCa)),
    );
}

#[test]
fn refuses_an_id_without_path() {
    check(
        &leaf("spiffe://td"),
        &world("td"),
        NOW,
        Err(Refused::Profile(ProfileError::NoPath)),
    );
}

#[test]
fn refuses_an_empty_chain() {
    assert_eq!(verify(&[], |_| None::<&Bundle>, NOW), Err(Refused::Empty));
}

#[test]
fn refuses_two_uris_and_missing_key_usage() {
    let world = world("td");
    let mut two = params(&leaf("spiffe://td/db")).unwrap();
    two.subject_alt_names
        .push(SanType::URI("https://example.org".try_into().unwrap()));
    let mut unusable = params(&leaf("spiffe://td/db")).unwrap();
    unusable.key_usages = vec![KeyUsagePurpose::KeyAgreement];
    let mut signing = params(&leaf("spiffe://td/db")).unwrap();
    signing.key_usages.push(KeyUsagePurpose::CrlSign);
    let key = KeyPair::generate().unwrap();
    let cases = [
        (two, ProfileError::NotOneUri),
        (unusable, ProfileError::LacksDigitalSignature),
        (signing, ProfileError::MaySign),
    ];
    for (params, expected) in cases {
        let certificate = params.signed_by(&key, &world.issuer).unwrap();
        assert_eq!(X509Svid::parse(certificate.der()), Err(expected));
    }
}

#[test]
fn no_flipped_byte_passes_for_the_original() {
    let world = world("td");
    let good = sign(&leaf("spiffe://td/db"), &world.issuer).unwrap();
    for at in 0..good.len() {
        let mut bad = good.to_vec();
        bad[at] ^= 1;
        let chain = [CertificateDer::from(bad)];
        assert!(verify(&chain, |_| Some(&world.bundle), NOW).is_err(), "byte {at}");
    }
}
