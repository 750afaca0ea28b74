//! Proof that a TPM holds both keys.

use super::*;

/// Every endorsement key of the TPM recovers a credential for its attestation key.
fn assert_activates(tpm: &Swtpm, handle: &mut Handle, identity: &TpmIdentity) {
    let ak = name(&identity.attestation_key);
    for ek in &identity.endorsement_keys {
        let (issued, activation) = challenge(ek, &ak);
        let recovered = handle.activate(&activation).unwrap();
        let binding = issued.verify(&recovered).unwrap();
        assert_eq!(binding.attestation_key(), &ak);
    }
    assert_nothing_loaded(tpm);
}

#[test]
fn works_with_every_kind_of_endorsement_key() {
    let tpm = any_tpm();
    let (mut handle, identity) = identified(tpm.tcti());
    assert_eq!(identity.endorsement_keys.len(), 3);
    assert_activates(&tpm, &mut handle, &identity);
}

#[test]
fn works_with_high_range_keys_of_every_kind() {
    let tpm = bare_tpm();
    super::identify::persist_high_range(&tpm, "ecc256:aes128cfb", "0x81010014");
    super::identify::persist_high_range(&tpm, "rsa2048:aes128cfb", "0x81010012");
    let (mut handle, identity) = identified(tpm.tcti());
    assert_eq!(identity.endorsement_keys.len(), 3);
    assert_activates(&tpm, &mut handle, &identity);
}

#[test]
fn works_in_lockout() {
    let tpm = any_tpm();
    let (mut handle, identity) = identified(tpm.tcti());
    tpm.lock_out();
    assert_activates(&tpm, &mut handle, &identity);
}

#[test]
fn works_after_a_clear() {
    let tpm = any_tpm();
    let (mut handle, identity) = identified(tpm.tcti());
    tpm.tool(&["tpm2_clear", "-c", "p"]);
    assert_activates(&tpm, &mut handle, &identity);
}

#[test]
fn works_without_a_kept_attestation_key() {
    let tpm = any_tpm();
    tpm.tool(&["tpm2_changeauth", "-c", "o", "secret"]);
    let (mut handle, identity) = identified(tpm.tcti());
    assert_activates(&tpm, &mut handle, &identity);
}

/// The policy can't be met, but the key's own password is empty.
#[test]
fn works_with_high_range_keys_by_their_own_password() {
    let tpm = any_tpm();
    let (mut handle, mut identity) = identified(tpm.tcti());
    tpm.tool(&["tpm2_changeauth", "-c", "e", "secret"]);
    let low = identity.endorsement_keys.split_off(1);
    assert_activates(&tpm, &mut handle, &identity);
    let (_, activation) = challenge(&low[0], &name(&identity.attestation_key));
    assert!(matches!(
        handle.activate(&activation),
        Err(TpmError::Auth {
            hierarchy: "endorsement",
            ..
        })
    ));
    assert_nothing_loaded(&tpm);
}

#[test]
fn refuses_credentials_for_other_keys() {
    let tpm = any_tpm();
    let (mut handle, identity) = identified(tpm.tcti());
    let ak = name(&identity.attestation_key);
    for ek in &identity.endorsement_keys {
        let (_, for_another_ak) = challenge(ek, &name(&ek.public));
        let (_, mut garbled) = challenge(ek, &ak);
        garbled.secret.reverse();
        let (_, mut cut) = challenge(ek, &ak);
        cut.credential_blob.truncate(20);
        let (_, mut long) = challenge(ek, &ak);
        long.secret.resize(5000, 0);
        for activation in [&for_another_ak, &garbled, &cut, &long] {
            let refused = handle.activate(activation);
            assert!(matches!(refused, Err(TpmError::Credential)), "{refused:?}");
        }
    }
    assert_activates(&tpm, &mut handle, &identity);
}

#[test]
fn never_shows_the_secret_on_the_bus() {
    let tpm = any_tpm();
    let proxy = Proxy::before(&tpm);
    let (mut handle, identity) = identified(proxy.tcti());
    for ek in &identity.endorsement_keys {
        let (_, activation) = challenge(ek, &name(&identity.attestation_key));
        let secret = handle.activate(&activation).unwrap();
        assert!(proxy.saw(&activation.credential_blob));
        assert!(!proxy.saw(&secret));
    }
    // What is encrypted with an unsalted session, the bus can decrypt.
    let sessions = proxy.commands(START_AUTH_SESSION);
    assert_eq!(sessions.len(), identity.endorsement_keys.len());
    assert!(sessions.iter().all(|command| command[10..14] != RH_NULL));
}

/// TPM_CC_StartAuthSession.
const START_AUTH_SESSION: u32 = 0x176;
/// TPM_RH_NULL: no key to salt to.
const RH_NULL: [u8; 4] = [0x40, 0, 0, 7];

fn assert_interposer_suspected(handle: &mut Handle, activation: &Activation) {
    let refused = handle.activate(activation);
    assert!(
        matches!(refused, Err(TpmError::InterposerSuspected)),
        "{refused:?}"
    );
}

#[test]
fn suspects_an_interposer_if_no_key_is_that_on_record() {
    let (tpm, other) = (any_tpm(), Swtpm::start());
    let (mut handle, identity) = identified(tpm.tcti());
    let (_, foreign) = identified(other.tcti());
    let (_, activation) = challenge(&foreign.endorsement_keys[0], &name(&identity.attestation_key));
    assert_interposer_suspected(&mut handle, &activation);
}

#[test]
fn suspects_an_interposer_if_the_key_is_exchanged() {
    let (tpm, other) = (any_tpm(), Swtpm::start());
    let proxy = Proxy::before(&tpm);
    let (mut handle, identity) = identified(proxy.tcti());
    for ek in &identity.endorsement_keys {
        let (_, activation) = challenge(ek, &name(&identity.attestation_key));
        proxy.switch_to(&other);
        proxy.take_commands();
        assert_interposer_suspected(&mut handle, &activation);
        assert!(!proxy.take_commands().contains(&ACTIVATE_CREDENTIAL));
        proxy.switch_to(&tpm);
    }
}

#[test]
fn suspects_an_interposer_if_the_answer_is_changed() {
    let kinds = identified(any_tpm().tcti()).1.endorsement_keys.len();
    for kind in 0..kinds {
        let tpm = any_tpm();
        let proxy = Proxy::before(&tpm);
        let (mut handle, identity) = identified(proxy.tcti());
        proxy.corrupt(ACTIVATE_CREDENTIAL);
        let ek = &identity.endorsement_keys[kind];
        let (_, activation) = challenge(ek, &name(&identity.attestation_key));
        assert_interposer_suspected(&mut handle, &activation);
        quote(&mut handle).unwrap();
    }
}
