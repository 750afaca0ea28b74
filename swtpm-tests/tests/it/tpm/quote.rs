//! Quotes: what they say, and what they cost.

use attest::{
    PcrSet,
    wire::{Attest, Attested, PublicKey, Signature},
};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use plugin_api::RawQuote;

use super::*;

/// As a verifier does it: the signature by the attestation key, then what it says.
fn verified(identity: &TpmIdentity, quote: &RawQuote) -> Attest {
    let ak = public(&identity.attestation_key);
    let PublicKey::Ecc(key) = &ak.key else {
        panic!("not ECC")
    };
    let Signature::Ecdsa { hash, r, s } = Signature::parse(&quote.signature).unwrap() else {
        panic!("not ECDSA")
    };
    assert_eq!(hash, HashAlg::Sha256);
    let padded = |number: &[u8]| [&vec![0; 32 - number.len()], number].concat();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, [&[4], &*key.x, &*key.y].concat())
        .verify(&quote.attest, &[padded(&r), padded(&s)].concat())
        .unwrap();
    let attest = Attest::parse(&quote.attest).unwrap();
    assert_eq!(attest.magic, Attest::MAGIC);
    let signer = ak.name().qualified_under_endorsement().unwrap();
    assert_eq!(&*attest.qualified_signer, signer.as_bytes());
    attest
}

fn set(indices: impl IntoIterator<Item = u8>) -> PcrSet {
    indices.into_iter().collect()
}

#[test]
fn signs_the_pcrs_in_the_order_asked_for() {
    let tpm = Swtpm::with(Options {
        banks: vec![HashAlg::Sha256, HashAlg::Sha384],
        ..Options::default()
    });
    tpm.extend(4, HashAlg::Sha256, &[1; 32]);
    tpm.extend(7, HashAlg::Sha384, &[2; 48]);
    let (mut handle, identity) = identified(tpm.tcti());
    let banks = [
        (HashAlg::Sha384, set([0, 7])),
        (HashAlg::Sha256, set((0..=9).chain([14]))),
    ];
    for banks in [banks, [banks[1], banks[0]]] {
        let wanted = PcrSelection::new(banks.to_vec()).unwrap();
        let quote = handle.quote(&[9; 32], &wanted).unwrap();
        let attest = verified(&identity, &quote);
        assert_eq!(*attest.extra_data, [9; 32]);
        let Attested::Quote {
            selection,
            pcr_digest,
        } = attest.attested
        else {
            panic!("not a quote")
        };
        assert_eq!(selection, wanted);
        let values = handle.read_pcrs(&wanted).unwrap();
        let expected = values.digest(&wanted, HashAlg::Sha256);
        assert_eq!(&*pcr_digest, expected.as_bytes());
    }
}

#[test]
fn takes_one_command() {
    let tpm = any_tpm();
    let proxy = Proxy::before(&tpm);
    let (mut handle, _) = identified(proxy.tcti());
    proxy.take_commands();
    quote(&mut handle).unwrap();
    assert_eq!(proxy.take_commands(), [QUOTE]);
    quote(&mut handle.clone()).unwrap();
    assert_eq!(proxy.take_commands(), [QUOTE]);
}

#[test]
fn works_in_lockout() {
    let tpm = any_tpm();
    let (mut handle, identity) = identified(tpm.tcti());
    tpm.lock_out();
    verified(&identity, &quote(&mut handle).unwrap());
    let (mut handle, again) = identified(tpm.tcti());
    assert_eq!(again, identity);
    verified(&identity, &quote(&mut handle).unwrap());
}

#[test]
fn makes_the_key_again_after_a_clear() {
    let tpm = any_tpm();
    let proxy = Proxy::before(&tpm);
    let (mut handle, identity) = identified(proxy.tcti());
    tpm.tool(&["tpm2_clear", "-c", "p"]);
    verified(&identity, &quote(&mut handle).unwrap());
    proxy.take_commands();
    verified(&identity, &quote(&mut handle).unwrap());
    assert_eq!(proxy.take_commands(), [QUOTE], "the key was not kept");
}

#[test]
fn notices_another_key_in_place_of_its_own() {
    let tpm = any_tpm();
    let (mut handle, identity) = identified(tpm.tcti());
    tpm.tool(&["tpm2_evictcontrol", "-C", "o", "-c", "0x8101A000"]);
    let other = TrustDomain::parse("other.example").unwrap();
    open(tpm.tcti()).identify(&other).unwrap();
    verified(&identity, &quote(&mut handle).unwrap());
}

#[test]
fn works_without_a_free_handle() {
    let tpm = any_tpm();
    for slot in 0..8 {
        tpm.tool(&["tpm2_createek", "-G", "ecc", "-c", &format!("0x8101A00{slot}")]);
    }
    let proxy = Proxy::before(&tpm);
    let (mut handle, identity) = identified(proxy.tcti());
    proxy.take_commands();
    verified(&identity, &quote(&mut handle).unwrap());
    const CREATE_PRIMARY: u32 = 0x131;
    const FLUSH_CONTEXT: u32 = 0x165;
    assert_eq!(proxy.take_commands(), [CREATE_PRIMARY, QUOTE, FLUSH_CONTEXT]);
    assert_nothing_loaded(&tpm);
}

#[test]
fn works_without_free_memory_for_persistent_keys() {
    let tpm = any_tpm();
    let context = tpm.state_dir().join("key");
    let context = context.to_str().unwrap();
    tpm.tool(&["tpm2_createprimary", "-C", "o", "-G", "rsa", "-c", context]);
    while tpm.try_tool(&["tpm2_evictcontrol", "-C", "o", "-c", context]) {}
    let (mut handle, identity) = identified(tpm.tcti());
    verified(&identity, &quote(&mut handle).unwrap());
    assert_nothing_loaded(&tpm);
}

#[test]
fn reads_all_pcrs_of_the_active_banks() {
    let tpm = any_tpm();
    tpm.extend(23, HashAlg::Sha256, &[3; 32]);
    let banks = vec![(HashAlg::Sha384, set(0..24)), (HashAlg::Sha256, set(0..24))];
    let values = open(tpm.tcti())
        .read_pcrs(&PcrSelection::new(banks).unwrap())
        .unwrap();
    assert!(values.iter().all(|(bank, ..)| bank == HashAlg::Sha256));
    assert_eq!(values.iter().count(), 24);
    assert!(values.get(HashAlg::Sha256, 17).unwrap().is_filled(0xff));
    let extended = HashAlg::Sha256.digest(&[&[0; 32], &[3; 32]]);
    assert_eq!(values.get(HashAlg::Sha256, 23), Some(&extended));
}
