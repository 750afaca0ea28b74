//! Keys that are sealed to PCRs.

use plugin_api::{Sealed, Sealing};
use zeroize::Zeroizing;

use super::*;

/// TPM_CC_Load.
const LOAD: u32 = 0x157;
const SECRET: [u8; 32] = *b"what nobody else is to know, now";

fn pcrs() -> PcrSelection {
    "sha256:0,2,4,7,8,9,14".parse().unwrap()
}

/// What the PCRs hold now.
fn held(handle: &mut Handle) -> Sealing {
    let digest = handle
        .read_pcrs(&pcrs())
        .unwrap()
        .digest(&pcrs(), HashAlg::Sha256);
    Sealing::new(pcrs(), digest.as_bytes().try_into().unwrap()).unwrap()
}

/// Seals to what the PCRs hold now.
fn sealed(handle: &mut Handle) -> Sealed {
    let now = held(handle);
    handle.seal(&Zeroizing::new(SECRET), &now).unwrap()
}

fn check(handle: &mut Handle, sealed: &Sealed, expected: Option<[u8; 32]>) {
    let unsealed = handle.unseal(sealed).unwrap();
    assert_eq!(unsealed.map(|key| *key), expected);
}

#[test]
fn unseals_while_the_pcrs_are_as_they_were() {
    let tpm = any_tpm();
    tpm.extend(4, HashAlg::Sha256, &[1; 32]);
    let mut handle = open(tpm.tcti());
    let sealed = sealed(&mut handle);
    check(&mut handle, &sealed, Some(SECRET));
    // Others may change: they are extended while a host runs.
    tpm.extend(10, HashAlg::Sha256, &[2; 32]);
    tpm.extend(11, HashAlg::Sha256, &[2; 32]);
    check(&mut open(tpm.tcti()), &sealed, Some(SECRET));
    tpm.extend(4, HashAlg::Sha256, &[2; 32]);
    check(&mut handle, &sealed, None);
    assert_nothing_loaded(&tpm);
}

#[test]
fn another_boot_unseals_only_if_it_measures_the_same() {
    let mut tpm = any_tpm();
    tpm.extend(7, HashAlg::Sha256, &[1; 32]);
    let mut handle = open(tpm.tcti());
    let sealed = sealed(&mut handle);
    let mut boot = |measured: u8| {
        tpm.power_off();
        tpm.power_cycle();
        tpm.extend(7, HashAlg::Sha256, &[measured; 32]);
        open(tpm.tcti())
    };
    check(&mut boot(2), &sealed, None);
    check(&mut boot(1), &sealed, Some(SECRET));
}

#[test]
fn no_other_tpm_unseals_nor_this_one_once_it_is_cleared() {
    let (tpm, other) = (any_tpm(), Swtpm::start());
    let mut handle = open(tpm.tcti());
    let sealed = sealed(&mut handle);
    check(&mut open(other.tcti()), &sealed, None);
    tpm.tool(&["tpm2_clear", "-c", "p"]);
    check(&mut open(tpm.tcti()), &sealed, None);
}

#[test]
fn seals_to_what_was_accepted_and_not_to_what_is_now() {
    let tpm = any_tpm();
    let mut handle = open(tpm.tcti());
    let accepted = held(&mut handle);
    tpm.extend(0, HashAlg::Sha256, &[1; 32]);
    let sealed = handle.seal(&Zeroizing::new(SECRET), &accepted).unwrap();
    check(&mut handle, &sealed, None);
}

#[test]
fn what_was_changed_does_not_unseal() {
    let tpm = any_tpm();
    let mut handle = open(tpm.tcti());
    let good = sealed(&mut handle);
    let mut flipped = good.clone();
    *flipped.private.last_mut().unwrap() ^= 1;
    check(&mut handle, &flipped, None);
    let fewer = Sealed {
        pcrs: "sha256:0".parse().unwrap(),
        ..good.clone()
    };
    check(&mut handle, &fewer, None);
    let garbage = Sealed {
        public: vec![1; 9],
        ..good
    };
    check(&mut handle, &garbage, None);
    assert_nothing_loaded(&tpm);
}

#[test]
fn what_names_another_storage_key_is_not_even_loaded() {
    let (tpm, other) = (any_tpm(), Swtpm::start());
    let proxy = Proxy::before(&tpm);
    let mut handle = open(proxy.tcti());
    let good = sealed(&mut handle);
    let elsewhere = sealed(&mut open(other.tcti())).parent;
    assert!(elsewhere.is_some());
    for parent in [elsewhere, None] {
        let renamed = Sealed {
            parent,
            ..good.clone()
        };
        check(&mut handle, &renamed, None);
    }
    assert_eq!(proxy.commands(LOAD).len(), 0);
    check(&mut handle, &good, Some(SECRET));
    assert_eq!(proxy.commands(LOAD).len(), 1);
}

#[test]
fn never_shows_the_secret_on_the_bus() {
    let tpm = any_tpm();
    let proxy = Proxy::before(&tpm);
    let mut handle = open(proxy.tcti());
    let sealed = sealed(&mut handle);
    check(&mut handle, &sealed, Some(SECRET));
    assert!(proxy.saw(&sealed.private));
    assert!(!proxy.saw(&SECRET));
}
