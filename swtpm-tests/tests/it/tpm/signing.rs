//! Keys that sign for the host: that they are in the TPM alone, and what they cost.

use attest::{AttestationKey, Binding, Certification, EvidenceKind, Reject, VerifiedAk, wire::PublicKey};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use plugin_api::TpmKey;

use super::*;

const CREATE_PRIMARY: u32 = 0x131;
const CERTIFY: u32 = 0x148;
const SIGN: u32 = 0x15d;
const CONTEXT_LOAD: u32 = 0x161;
const CONTEXT_SAVE: u32 = 0x162;
const FLUSH_CONTEXT: u32 = 0x165;
const GET_RANDOM: u32 = 0x17b;

const ABOUT: Binding<'static> = Binding {
    kind: EvidenceKind::Certify,
    exporter: &[1; 32],
    nonce: &[0; 32],
    csr: b"csr",
    hello: &[2; 32],
};

/// As anybody checks it who has the public key.
fn assert_signs(handle: &mut Handle, key: &TpmKey) {
    let signature = handle.sign(key, b"message").unwrap();
    let PublicKey::Ecc(point) = public(&key.public).key else {
        panic!("not ECC")
    };
    let attest::wire::Signature::Ecdsa { r, s, .. } = attest::wire::Signature::parse(&signature).unwrap()
    else {
        panic!("not ECDSA")
    };
    let padded = |number: &[u8]| [&vec![0; 32 - number.len()], number].concat();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point.point())
        .verify(b"message", &[padded(&r), padded(&s)].concat())
        .unwrap();
}

fn known(identity: &TpmIdentity) -> VerifiedAk {
    let ak = AttestationKey::parse(&identity.attestation_key).unwrap();
    ak.remembered(&public(&identity.attestation_key)).unwrap()
}

/// As a server checks that a key is in the TPM.
fn certified(handle: &mut Handle, identity: &TpmIdentity, key: &TpmKey) -> Result<(), Reject> {
    let certified = handle.certify(key, &ABOUT.extra_data()).unwrap();
    let certification = Certification::parse(&certified.attest, &certified.signature).unwrap();
    let shown = certification.verify(&known(identity), &ABOUT, public(&key.public))?;
    shown.check_request(&public(&key.public).to_spki())
}

#[test]
fn a_key_signs_and_is_certified_to_be_in_the_tpm() {
    let tpm = any_tpm();
    let (mut handle, identity) = identified(tpm.tcti());
    let key = handle.create_key().unwrap();
    assert_signs(&mut handle, &key);
    assert_eq!(certified(&mut handle, &identity, &key), Ok(()));
    assert_nothing_loaded(&tpm);
}

#[test]
fn takes_one_signature_each_and_leaves_nothing_in_the_tpm() {
    let tpm = any_tpm();
    let proxy = Proxy::before(&tpm);
    let (mut handle, _) = identified(proxy.tcti());
    proxy.take_commands();
    let key = handle.create_key().unwrap();
    let made = [GET_RANDOM, CREATE_PRIMARY, CONTEXT_SAVE, FLUSH_CONTEXT];
    assert_eq!(proxy.take_commands(), made);
    handle.sign(&key, b"message").unwrap();
    assert_eq!(proxy.take_commands(), [CONTEXT_LOAD, SIGN, FLUSH_CONTEXT]);
    handle.certify(&key, &[7; 32]).unwrap();
    assert_eq!(proxy.take_commands(), [CONTEXT_LOAD, CERTIFY, FLUSH_CONTEXT]);
    assert_nothing_loaded(&tpm);
}

/// A TPM has three slots.
#[test]
fn there_may_be_any_number_of_keys_each_another() {
    let tpm = any_tpm();
    let (mut handle, identity) = identified(tpm.tcti());
    let keys: Vec<_> = (0..5).map(|_| handle.create_key().unwrap()).collect();
    for key in &keys {
        assert_signs(&mut handle, key);
        assert_eq!(certified(&mut handle, &identity, key), Ok(()));
    }
    let mut names: Vec<_> = keys.iter().map(|key| name(&key.public).to_string()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 5);
    assert_nothing_loaded(&tpm);
}

#[test]
fn works_in_lockout() {
    let tpm = any_tpm();
    let (mut handle, identity) = identified(tpm.tcti());
    let made_before = handle.create_key().unwrap();
    tpm.lock_out();
    let key = handle.create_key().unwrap();
    for key in [&made_before, &key] {
        assert_signs(&mut handle, key);
        assert_eq!(certified(&mut handle, &identity, key), Ok(()));
    }
    assert_nothing_loaded(&tpm);
}

#[test]
fn works_without_a_kept_attestation_key() {
    let tpm = any_tpm();
    tpm.tool(&["tpm2_changeauth", "-c", "o", "secret"]);
    let (mut handle, identity) = identified(tpm.tcti());
    let key = handle.create_key().unwrap();
    assert_signs(&mut handle, &key);
    assert_eq!(certified(&mut handle, &identity, &key), Ok(()));
    assert_nothing_loaded(&tpm);
}

#[test]
fn another_key_is_not_certified_in_its_place() {
    let tpm = any_tpm();
    let (mut handle, identity) = identified(tpm.tcti());
    let (key, other) = (handle.create_key().unwrap(), handle.create_key().unwrap());
    let passed_off = TpmKey {
        public: other.public,
        ..key
    };
    let refused = Err(Reject::CertifiedName);
    assert_eq!(certified(&mut handle, &identity, &passed_off), refused);
}

#[test]
fn a_key_outlives_the_connection_to_its_tpm() {
    let tpm = any_tpm();
    let proxy = Proxy::before(&tpm);
    let (mut handle, _) = identified(proxy.tcti());
    let key = handle.create_key().unwrap();
    proxy.cut();
    handle.sign(&key, b"message").unwrap_err();
    proxy.switch_to(&tpm);
    assert_signs(&mut handle, &key);
}

#[test]
fn a_key_is_of_no_use_after_a_reset_and_to_no_other_tpm() {
    let mut tpm = any_tpm();
    let (mut handle, _) = identified(tpm.tcti());
    let key = handle.create_key().unwrap();
    let refuses = |handle: &mut Handle, key: &TpmKey| {
        let error = handle.sign(key, b"message").unwrap_err();
        assert!(matches!(error, TpmError::KeyGone(_)), "{error:?}");
    };
    let other = Swtpm::start();
    refuses(&mut open(other.tcti()), &key);
    let no_context = TpmKey {
        context: vec![1; 3],
        ..key.clone()
    };
    let malformed = handle.sign(&no_context, b"message").unwrap_err();
    assert!(
        matches!(
            malformed,
            TpmError::Command {
                command: "TPM2_ContextLoad",
                ..
            }
        ),
        "{malformed:?}"
    );
    tpm.power_off();
    handle.sign(&key, b"message").unwrap_err();
    tpm.power_cycle();
    refuses(&mut handle, &key);
    let next = handle.create_key().unwrap();
    assert_signs(&mut handle, &next);
    assert_nothing_loaded(&tpm);
}
