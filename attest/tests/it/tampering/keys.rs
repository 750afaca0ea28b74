//! Endorsement keys, attestation keys, and the credential that binds them. Its answer is with
//! `attest/src/credential/tests.rs`, where there is a TPM with an RSA key as well.

use attest::{
    AttestationKey, Name, Reject,
    credential::{IssuedCredential, KeyBinding},
    ek::{EkHash, EndorsementKey},
    wire::Public,
};
use plugin_api::{Activation, TpmDevice};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, SignatureAlgorithm};
use swtpm_tests::{SoftwareTpm, tampered};

use super::every_byte_counts;
use crate::tpm::Area;

/// A credential that was issued to a TPM, and what it recovered.
fn recovered(tpm: &mut SoftwareTpm) -> (IssuedCredential, Vec<u8>) {
    let ek = Public::parse(&tpm.endorsement_key()).unwrap();
    let (issued, blob) = IssuedCredential::issue(&ek, &name_of(&tpm.ak_area)).unwrap();
    let activation = Activation {
        endorsement_key: ek.name(),
        credential_blob: blob.credential_blob,
        secret: blob.secret,
    };
    let secret = tpm.activate(&activation).unwrap();
    (issued, secret.to_vec())
}

fn name_of(area: &Area) -> Name {
    AttestationKey::parse(&area.marshal()).unwrap().name().clone()
}

fn activated(ak: &[u8], binding: &KeyBinding) -> Result<Name, Reject> {
    let ak = AttestationKey::parse(ak)?.activated(binding)?;
    Ok(ak.key().name().clone())
}

#[test]
fn every_byte_of_an_attestation_key_counts() {
    let mut tpm = SoftwareTpm::default();
    let (issued, secret) = recovered(&mut tpm);
    let binding = issued.verify(&secret).unwrap();
    every_byte_counts(&tpm.ak_area.marshal(), |ak| activated(ak, &binding));
}

/// What is sent to the TPM: it gives nothing back for any other.
#[test]
fn every_byte_of_a_credential_counts_for_the_tpm() {
    let mut tpm = SoftwareTpm::default();
    let ek = Public::parse(&tpm.endorsement_key()).unwrap();
    let (_, blob) = IssuedCredential::issue(&ek, &name_of(&tpm.ak_area)).unwrap();
    let good = Activation {
        endorsement_key: ek.name(),
        credential_blob: blob.credential_blob,
        secret: blob.secret,
    };
    assert!(tpm.activate(&good).is_ok());
    for changed in tampered(&good.credential_blob) {
        let activation = Activation {
            credential_blob: changed.bytes.clone(),
            ..good.clone()
        };
        assert!(tpm.activate(&activation).is_err(), "{changed:?}");
    }
}

/// The public area as its TPM shows it, for the hash that an operator enrolled.
fn check_endorsement_key(algorithm: &'static SignatureAlgorithm) {
    let (area, hash) = loop {
        let area = Area::endorsement(&KeyPair::generate_for(algorithm).unwrap()).marshal();
        let key = EndorsementKey::parse(&area).unwrap();
        // Some TPMs leave out the zeros that a coordinate begins with: then the key is the same, and the area is not.
        if !begins_with_zero(key.public()) {
            break (area, key.hash());
        }
    };
    let appraise = |area: &[u8]| -> Result<EkHash, Reject> {
        let verified = EndorsementKey::parse(area)?.vouched(&hash)?;
        Ok(verified.key().hash())
    };
    every_byte_counts(&area, appraise);
}

fn begins_with_zero(public: &Public) -> bool {
    match &public.key {
        attest::wire::PublicKey::Ecc(key) => key.x[0] == 0 || key.y[0] == 0,
        attest::wire::PublicKey::Rsa(key) => key.modulus[0] == 0,
    }
}

#[test]
fn every_byte_of_an_endorsement_key_counts() {
    check_endorsement_key(&PKCS_ECDSA_P256_SHA256);
    check_endorsement_key(&PKCS_RSA_SHA256);
}
