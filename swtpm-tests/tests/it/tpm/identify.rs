//! Which keys a TPM is known by.

use attest::wire::{Curve, PublicKey, Scheme, Symmetric};
use x509_parser::certificate::X509Certificate;
use x509_parser::{prelude::FromDer, public_key, x509::X509Version};

use super::*;

/// What kind of key it is: algorithm, attributes.
fn kind(ek: &TpmEk) -> (&'static str, u32) {
    let key = public(&ek.public);
    let algorithm = match &key.key {
        PublicKey::Ecc(ecc) if ecc.curve == Curve::P384 => "P-384",
        PublicKey::Ecc(_) => "P-256",
        PublicKey::Rsa(_) => "RSA-2048",
    };
    (algorithm, key.attributes)
}

fn kinds(identity: &TpmIdentity) -> Vec<(&'static str, u32)> {
    identity.endorsement_keys.iter().map(kind).collect()
}

const LOW: u32 = 0x0003_00B2;
const HIGH: u32 = 0x0003_00F2;

/// The certificate is that of the key, and of our CA.
fn assert_certified(ek: &TpmEk) {
    let certificate = ek.certificate.as_ref().unwrap();
    let (_, certificate) = X509Certificate::from_der(certificate).unwrap();
    assert_eq!(certificate.version(), X509Version::V3);
    let issuer = swtpm_tests::ca_certificates().remove(1);
    let (_, issuer) = X509Certificate::from_der(&issuer).unwrap();
    assert_eq!(certificate.issuer(), issuer.subject());
    match (certificate.public_key().parsed().unwrap(), public(&ek.public).key) {
        (public_key::PublicKey::EC(point), PublicKey::Ecc(key)) => {
            assert_eq!(point.data(), [&[4], &*key.x, &*key.y].concat());
        }
        (public_key::PublicKey::RSA(certified), PublicKey::Rsa(key)) => {
            assert!(certified.modulus.ends_with(&key.modulus));
        }
        (certified, key) => panic!("{certified:?} is not {key:?}"),
    }
}

#[test]
fn finds_the_keys_that_have_certificates() {
    let tpm = any_tpm();
    let (_, identity) = identified(tpm.tcti());
    assert_eq!(
        kinds(&identity),
        [("P-384", HIGH), ("P-256", LOW), ("RSA-2048", LOW)]
    );
    identity.endorsement_keys.iter().for_each(assert_certified);
    assert_nothing_loaded(&tpm);
}

#[test]
fn finds_persistent_keys_without_certificates() {
    let tpm = bare_tpm();
    persist_high_range(&tpm, "ecc256:aes128cfb", "0x81010014");
    persist_high_range(&tpm, "rsa2048:aes128cfb", "0x81010012");
    tpm.tool(&["tpm2_createek", "-G", "ecc", "-c", "0x81010002"]);
    let identity = identified(tpm.tcti()).1;
    // The last one is made: hosts without certificates are enrolled by its hash.
    let expected = [
        ("P-256", HIGH),
        ("P-256", LOW),
        ("RSA-2048", HIGH),
        ("RSA-2048", LOW),
    ];
    assert_eq!(kinds(&identity), expected);
    let certified = |ek: &TpmEk| ek.certificate.is_some();
    assert!(!identity.endorsement_keys.iter().any(certified));
}

#[test]
fn makes_keys_of_the_high_range_for_their_certificates() {
    let tpm = bare_tpm();
    for (algorithm, handle, index) in [
        ("ecc256:aes128cfb", "0x81010014", 0x01C0_0014),
        ("rsa2048:aes128cfb", "0x81010012", 0x01C0_0012),
    ] {
        let key = persist_high_range(&tpm, algorithm, handle);
        tpm.certify(&public(&key), index);
        tpm.tool(&["tpm2_evictcontrol", "-C", "o", "-c", handle]);
    }
    let (_, identity) = identified(tpm.tcti());
    assert_eq!(kinds(&identity), [("P-256", HIGH), ("RSA-2048", HIGH)]);
    identity.endorsement_keys.iter().for_each(assert_certified);
}

/// Makes a key of the profile's high range persistent, and returns its TPMT_PUBLIC.
pub(super) fn persist_high_range(tpm: &Swtpm, algorithm: &str, handle: &str) -> Vec<u8> {
    let attributes =
        "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|adminwithpolicy|restricted|decrypt";
    let policy = tpm.write_file("policy", &bytes(POLICY_B));
    persist_primary(
        tpm,
        handle,
        "e",
        &["-G", algorithm, "-a", attributes, "-L", &policy],
    )
}

/// Makes a primary key persistent, and returns its TPMT_PUBLIC.
fn persist_primary(tpm: &Swtpm, handle: &str, hierarchy: &str, template: &[&str]) -> Vec<u8> {
    let (key, public) = (tpm.write_file("key", &[]), tpm.write_file("public", &[]));
    let create = ["tpm2_createprimary", "-C", hierarchy, "-g", "sha256", "-c", &key];
    tpm.tool(&[&create, template].concat());
    tpm.tool(&["tpm2_evictcontrol", "-C", "o", "-c", &key, handle]);
    tpm.tool(&["tpm2_readpublic", "-c", handle, "-f", "tss", "-o", &public]);
    std::fs::read(&public).unwrap()[2..].to_vec()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

/// What authorizes keys of the low range: the endorsement hierarchy's password.
const POLICY_A: &str = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";
/// What authorizes keys of the high range: that, or a policy in NV memory.
const POLICY_B: &str = "ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0";

#[test]
fn makes_the_default_key_where_there_is_none() {
    let tpm = bare_tpm();
    let (mut handle, first) = identified(tpm.tcti());
    assert_eq!(kinds(&first), [("RSA-2048", LOW)]);
    assert_eq!(first.endorsement_keys[0].certificate, None);
    assert!(
        persistent(&tpm).contains("0x81010001"),
        "it takes seconds to make"
    );
    assert_eq!(first.endorsement_keys[0].public, tpm.create_ek("rsa"));
    assert_eq!(handle.identify(&trust_domain()).unwrap(), first);
    assert_eq!(identified(tpm.tcti()).1, first);
    assert_nothing_loaded(&tpm);
}

#[test]
fn takes_no_key_of_the_owner_for_an_endorsement_key() {
    let tpm = bare_tpm();
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|adminwithpolicy|restricted|decrypt";
    let policy = tpm.write_file("policy", &bytes(POLICY_A));
    let template = ["-G", "ecc256:aes128cfb", "-a", attributes, "-L", &policy];
    persist_primary(&tpm, "0x81010002", "o", &template);
    assert_eq!(kinds(&identified(tpm.tcti()).1), [("RSA-2048", LOW)]);
}

#[test]
fn keeps_no_endorsement_key_if_told_so() {
    let tpm = bare_tpm();
    let mut handle = tpm::open(Config {
        persist_endorsement_key: false,
        ..config(tpm.tcti())
    })
    .unwrap();
    handle.identify(&trust_domain()).unwrap();
    assert_eq!(persistent(&tpm), "- 0x8101A000\n");
}

fn persistent(tpm: &Swtpm) -> String {
    tpm.tool(&["tpm2_getcap", "handles-persistent"])
}

#[test]
fn makes_the_attestation_key_as_specified() {
    let tpm = any_tpm();
    let (_, identity) = identified(tpm.tcti());
    let ak = public(&identity.attestation_key);
    assert_eq!(ak.name_alg, HashAlg::Sha256);
    assert_eq!(ak.attributes, 0x0005_0472);
    assert!(ak.auth_policy.is_empty());
    let PublicKey::Ecc(key) = ak.key else {
        panic!("not ECC")
    };
    assert_eq!(
        (key.curve, key.scheme, key.symmetric),
        (Curve::P256, Scheme::Ecdsa(HashAlg::Sha256), Symmetric::Null)
    );
}

#[test]
fn makes_one_attestation_key_for_each_trust_domain() {
    let mut tpm = any_tpm();
    let (mut handle, first) = identified(tpm.tcti());
    let other = TrustDomain::parse("other.example").unwrap();
    let second = handle.identify(&other).unwrap();
    assert_ne!(second.attestation_key, first.attestation_key);
    assert_eq!(second.endorsement_keys, first.endorsement_keys);
    assert_eq!(handle.identify(&trust_domain()).unwrap(), first);
    tpm.power_cycle();
    let (mut handle, again) = identified(tpm.tcti());
    assert_eq!(again, first);
    assert_eq!(handle.identify(&other).unwrap(), second);
    assert_eq!(
        persistent(&tpm),
        "- 0x81010001\n- 0x81010016\n- 0x8101A000\n- 0x8101A001\n"
    );
}

#[test]
fn leaves_other_peoples_keys_alone() {
    let tpm = any_tpm();
    tpm.tool(&["tpm2_createek", "-G", "ecc", "-c", "0x8101A000"]);
    let (mut handle, identity) = identified(tpm.tcti());
    assert_eq!(handle.identify(&trust_domain()).unwrap(), identity);
    assert_eq!(
        persistent(&tpm),
        "- 0x81010001\n- 0x81010016\n- 0x8101A000\n- 0x8101A001\n"
    );
}

#[test]
fn has_the_same_keys_after_a_clear() {
    let tpm = any_tpm();
    let (mut handle, before) = identified(tpm.tcti());
    tpm.tool(&["tpm2_clear", "-c", "p"]);
    assert_eq!(persistent(&tpm), "");
    assert_eq!(handle.identify(&trust_domain()).unwrap(), before);
    tpm.tool(&["tpm2_clear", "-c", "p"]);
    // By certificate, from the templates.
    assert_eq!(identified(tpm.tcti()).1, before);
    assert_nothing_loaded(&tpm);
}

#[test]
fn is_another_tpm_after_a_change_of_its_seed() {
    let tpm = bare_tpm();
    let (mut handle, before) = identified(tpm.tcti());
    tpm.tool(&["tpm2_changeeps"]);
    let after = handle.identify(&trust_domain()).unwrap();
    assert_ne!(after.attestation_key, before.attestation_key);
    assert_ne!(after.endorsement_keys, before.endorsement_keys);
}

/// A TPM with a certificate for a P-256 key of the profile's low range, whose template has this `unique`.
fn vendor_tpm(x: &[u8; 32], y: &[u8; 32]) -> (Swtpm, Vec<u8>) {
    let tpm = bare_tpm();
    // As tpm2-tools take it: two TPM2B as libtss2 lays them out, with room for 128 bytes each.
    let unique = tpm.write_file("unique", &[&[32, 0], &x[..], &[0; 96], &[32, 0], y].concat());
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|adminwithpolicy|restricted|decrypt";
    let policy = tpm.write_file("policy", &bytes(POLICY_A));
    let algorithm = ["-G", "ecc256:aes128cfb", "-a", attributes, "-L", &policy];
    let key = persist_primary(
        &tpm,
        "0x81010020",
        "e",
        &[&algorithm[..], &["-u", &unique]].concat(),
    );
    tpm.tool(&["tpm2_evictcontrol", "-C", "o", "-c", "0x81010020"]);
    tpm.certify(&public(&key), 0x01C0_000A);
    (tpm, key)
}

const NONCE: [u8; 20] = [0xA5; 20];

fn padded_nonce() -> [u8; 32] {
    std::array::from_fn(|at| NONCE.get(at).copied().unwrap_or(0))
}

#[test]
fn uses_the_vendors_nonce() {
    let (tpm, key) = vendor_tpm(&padded_nonce(), &[0; 32]);
    tpm.write_nv(0x01C0_000B, &NONCE);
    assert_eq!(identified(tpm.tcti()).1.endorsement_keys[0].public, key);
}

#[test]
fn uses_the_vendors_template() {
    // The profile's L-2 (§B.3.4), but for the end of `unique`.
    let template = [
        &[0, 0x23, 0, 0x0B, 0, 3, 0, 0xB2, 0, 32][..],
        &bytes(POLICY_A),
        &[0, 6, 0, 128, 0, 0x43, 0, 0x10, 0, 3, 0, 0x10],
        &[0, 32],
        &[0; 32],
        &[0, 32],
        &[1; 32],
    ]
    .concat();
    let (tpm, key) = vendor_tpm(&[0; 32], &[1; 32]);
    tpm.write_nv(0x01C0_000C, &template);
    assert_eq!(identified(tpm.tcti()).1.endorsement_keys[0].public, key);
    let (tpm, key) = vendor_tpm(&padded_nonce(), &[1; 32]);
    tpm.write_nv(0x01C0_000B, &NONCE);
    tpm.write_nv(0x01C0_000C, &template);
    assert_eq!(identified(tpm.tcti()).1.endorsement_keys[0].public, key);
}

#[test]
fn reads_the_chain_from_nv() {
    let tpm = Swtpm::start();
    let chain = swtpm_tests::ca_certificates();
    let all = chain.concat();
    let (first, second) = all.split_at(1000);
    tpm.write_nv(0x01C0_0100, first);
    tpm.write_nv(0x01C0_0101, second);
    let (_, identity) = identified(tpm.tcti());
    for ek in &identity.endorsement_keys {
        assert_eq!(ek.chain, chain);
    }
}
