//! Endorsement keys: by which template they are made, and what proves them.

use attest::{
    HashAlg, Reject,
    ek::{EkCertificate, EkHash, EndorsementKey, Expiry, TrustedCertificate},
};
use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, PublicKeyData, SignatureAlgorithm};

use crate::{
    fixtures::weak_key,
    tpm::{AES_128_CFB, AES_256_CFB, Area, ECDSA, Key, NULL, SHA1, SHA256, SHA384},
    vendor::{Ca, NOW, element, roots},
};

type Change = fn(&mut Area);

const POLICY_B_SHA256: &str = "ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0";
const POLICY_B_SHA384: &str =
    "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12";

fn check(area: &Area, expected: Result<(), Reject>) {
    let parsed = EndorsementKey::parse(&area.marshal());
    assert_eq!(parsed.map(drop), expected, "{area:x?}");
}

fn check_changed(key: &KeyPair, change: Change, expected: Result<(), Reject>) {
    let mut area = Area::endorsement(key);
    change(&mut area);
    check(&area, expected);
}

fn p256() -> KeyPair {
    KeyPair::generate().unwrap()
}

fn rsa() -> KeyPair {
    KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap()
}

fn high(area: &mut Area) {
    area.attributes = 0x0003_00f2;
    area.policy = hex::decode(POLICY_B_SHA256).unwrap();
}

fn higher(area: &mut Area) {
    area.attributes = 0x0003_00f2;
    area.policy = hex::decode(POLICY_B_SHA384).unwrap();
    area.name_alg = SHA384;
    area.symmetric = AES_256_CFB.into();
}

#[test]
fn keys_of_the_templates_are_accepted() {
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    for key in [p256(), rsa()] {
        check_changed(&key, |_| (), Ok(()));
        check_changed(&key, high, Ok(()));
    }
    check_changed(&p384, higher, Ok(()));
}

#[test]
fn other_keys_are_refused() {
    let refused = Err(Reject::EkTemplate);
    let deviations: [Change; 10] = [
        |area| area.policy.clear(),
        |area| area.policy[0] ^= 1,
        |area| area.policy = hex::decode(POLICY_B_SHA256).unwrap(),
        |area| area.name_alg = SHA1,
        |area| area.name_alg = SHA384,
        |area| area.symmetric = vec![NULL],
        |area| area.symmetric = AES_256_CFB.into(),
        |area| area.scheme = vec![ECDSA, SHA256],
        higher,
        |area| {
            area.key = Key::Rsa {
                exponent: 0,
                modulus: vec![0xff; 128],
            };
        },
    ];
    for key in [p256(), rsa()] {
        for change in deviations {
            check_changed(&key, change, refused);
        }
        for bit in 0..32 {
            let mut area = Area::endorsement(&key);
            area.attributes ^= 1 << bit;
            check(&area, refused);
            high(&mut area);
            area.attributes ^= 1 << bit;
            check(&area, refused);
        }
    }
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    check_changed(&p384, |_| (), refused);
    check_changed(&p384, high, refused);
    let weak_symmetric: Change = |area| {
        higher(area);
        area.symmetric = AES_128_CFB.into();
    };
    check_changed(&p384, weak_symmetric, refused);
}

#[test]
fn keys_that_can_be_computed_are_refused() {
    let off_curve: [Change; 2] = [
        |area| {
            if let Key::Ecc { y, .. } = &mut area.key {
                y[31] ^= 1;
            }
        },
        |area| {
            if let Key::Ecc { x, y, .. } = &mut area.key {
                x.fill(0);
                y.fill(0);
            }
        },
    ];
    let computable: [Change; 4] = [
        |area| set_rsa(area, |exponent, _| *exponent = 3),
        |area| set_rsa(area, |exponent, _| *exponent = 1),
        |area| set_rsa(area, |_, modulus| modulus[255] &= 0xfe),
        |area| set_rsa(area, |_, modulus| modulus[0] = 0x7f),
    ];
    for change in off_curve {
        check_changed(&p256(), change, Err(Reject::EkWeak));
    }
    for change in computable {
        check_changed(&rsa(), change, Err(Reject::EkWeak));
    }
}

/// A modulus as the broken generator made them, and one with a small factor.
#[test]
fn keys_that_can_be_factored_are_refused() {
    let roca = weak_key("roca.pem");
    check_changed(&roca, |_| (), Err(Reject::EkRoca));
    // 255 × 2^2040 + 255: it has its top bit, and is odd.
    check_changed(
        &rsa(),
        |area| {
            set_rsa(area, |_, modulus| {
                modulus.fill(0);
                modulus[0] = 0xff;
                modulus[255] = 0xff;
            });
        },
        Err(Reject::EkWeak),
    );
}

#[test]
fn sound_keys_have_no_fingerprint() {
    for _ in 0..8 {
        check_changed(&rsa(), |_| (), Ok(()));
    }
}

fn set_rsa(area: &mut Area, change: fn(&mut u32, &mut Vec<u8>)) {
    if let Key::Rsa { exponent, modulus } = &mut area.key {
        change(exponent, modulus);
    }
}

#[test]
fn other_bytes_are_no_key() {
    for key in [p256(), rsa()] {
        let public = Area::endorsement(&key).marshal();
        let long = [&public[..], &[0]].concat();
        for bytes in (0..public.len()).map(|len| &public[..len]).chain([&long[..]]) {
            let parsed = EndorsementKey::parse(bytes).map(drop);
            assert!(matches!(parsed, Err(Reject::Malformed(..))), "{parsed:?}");
        }
    }
}

#[test]
fn the_hash_is_that_of_the_subject_public_key_info() {
    for key in [p256(), rsa()] {
        let expected = HashAlg::Sha256.digest(&[&key.subject_public_key_info()]);
        assert_eq!(parse(&key).hash().to_string(), expected.to_string());
    }
}

/// Some TPMs leave leading zeros of a coordinate out, certificates don't.
#[test]
fn a_short_coordinate_is_of_the_same_key() {
    let short = |key: &KeyPair| key.der_bytes()[1] == 0;
    let key = std::iter::repeat_with(p256).find(short).unwrap();
    let mut area = Area::endorsement(&key);
    if let Key::Ecc { x, .. } = &mut area.key {
        x.remove(0);
    }
    let stripped = EndorsementKey::parse(&area.marshal()).unwrap();
    assert_eq!(stripped.hash(), parse(&key).hash());
    assert!(certify(&key, stripped).is_ok());
}

#[test]
fn a_certificate_proves_its_own_key_alone() {
    for key in [p256(), rsa()] {
        assert_eq!(certify(&key, parse(&key)), Ok(()));
        assert_eq!(certify(&key, parse(&p256())), Err(Reject::EkMismatch));
        assert_eq!(certify(&key, parse(&rsa())), Err(Reject::EkMismatch));
    }
}

/// Old parts' certificates say so; the key is the same, and so is its hash.
#[test]
fn a_key_may_be_marked_for_oaep_alone() {
    let key = OaepKey(rsa());
    let ek = parse(&key.0);
    assert_eq!(certify(&key, ek), Ok(()));
}

/// Some vendors put more zeros before a modulus than its sign needs.
#[test]
fn a_modulus_may_be_padded() {
    let padded = |key: &KeyPair| {
        let (modulus, exponent) = (&key.der_bytes()[8..265], &key.der_bytes()[265..]);
        element(0x30, &[&element(0x02, &[&[0, 0], modulus]), exponent])
    };
    let key = rsa();
    let (padded, other) = (padded(&key), padded(&rsa()));
    let as_certified = |bits| PaddedKey { bits };
    assert_eq!(certify(&as_certified(padded), parse(&key)), Ok(()));
    assert_eq!(
        certify(&as_certified(other), parse(&key)),
        Err(Reject::EkMismatch)
    );
}

struct PaddedKey {
    bits: Vec<u8>,
}

impl PublicKeyData for PaddedKey {
    fn der_bytes(&self) -> &[u8] {
        &self.bits
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_RSA_SHA256
    }
}

#[test]
fn an_operator_vouches_for_one_key() {
    let key = p256();
    let hash = parse(&key).hash();
    let verified = parse(&key).vouched(&hash).unwrap();
    assert_eq!(verified.certificate(), None);
    assert_eq!(verified.key(), &parse(&key));
    assert_eq!(parse(&p256()).vouched(&hash), Err(Reject::EkMismatch));
    assert_eq!(parse(&key).vouched(&EkHash([0; 32])), Err(Reject::EkMismatch));
}

fn parse(key: &KeyPair) -> EndorsementKey {
    EndorsementKey::parse(&Area::endorsement(key).marshal()).unwrap()
}

/// Proves `ek` by a certificate for `key`.
fn certify(key: &impl PublicKeyData, ek: EndorsementKey) -> Result<(), Reject> {
    let root = Ca::root("root", |_| ());
    let leaf = EkCertificate::parse(&root.endorse(key, |_| ())).unwrap();
    let trusted = roots(Expiry::Enforced, &[&root])
        .verify(leaf.clone(), &[], NOW)
        .unwrap();
    let verified = ek.certified(&trusted)?;
    assert_eq!(verified.certificate().map(TrustedCertificate::get), Some(&leaf));
    Ok(())
}

/// An RSA key whose certificate names id-RSAES-OAEP.
struct OaepKey(KeyPair);

impl PublicKeyData for OaepKey {
    fn subject_public_key_info(&self) -> Vec<u8> {
        let oid = [0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 7];
        let bits = element(0x03, &[&[0], self.der_bytes()]);
        element(0x30, &[&element(0x30, &[&oid, &[0x30, 0]]), &bits])
    }

    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        PublicKeyData::algorithm(&self.0)
    }
}

#[test]
fn certificates_of_keys_that_can_be_computed_are_refused() {
    let root = Ca::root("root", |_| ());
    let known = roots(Expiry::Enforced, &[&root]);
    let verify = |key: &KeyPair, change: fn(&mut Vec<u8>)| {
        let mut der = root.endorse(key, |_| ());
        change(&mut der);
        known.verify(EkCertificate::parse(&der)?, &[], NOW).map(drop)
    };
    assert_eq!(verify(&rsa(), |_| ()), Ok(()));
    assert_eq!(verify(&weak_key("roca.pem"), |_| ()), Err(Reject::EkRoca));
    // The exponent 65537 becomes 3; the signature is not looked at yet.
    let small: fn(&mut Vec<u8>) = |der| {
        let at = der.windows(5).position(|bytes| bytes == [2, 3, 1, 0, 1]).unwrap();
        der[at + 2..at + 5].copy_from_slice(&[0, 0, 3]);
    };
    assert_eq!(verify(&rsa(), small), Err(Reject::EkWeak));
    // Other bytes are no point of the curve.
    let off_curve: fn(&mut Vec<u8>) = |der| {
        let at = der.windows(4).position(|bytes| bytes == [3, 0x42, 0, 4]).unwrap();
        der[at + 4..at + 68].fill(1);
    };
    assert_eq!(verify(&p256(), off_curve), Err(Reject::EkWeak));
}
