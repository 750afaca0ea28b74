//! What can be wrong with a TPM, and what is said about it.

use std::{error::Error, fs, path::PathBuf, thread, time::Duration};

use attest::wire::Attest;

use super::*;

/// The whole message, with causes.
fn text(error: &TpmError) -> String {
    let mut causes = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    causes.join(": ")
}

fn secret_file(tpm: &Swtpm, content: &str) -> Option<SecretFile> {
    let path = tpm.state_dir().join("secret");
    fs::write(&path, content).unwrap();
    Some(SecretFile::new(path))
}

#[test]
fn says_that_a_hierarchy_is_disabled() {
    let tpm = any_tpm();
    let (mut handle, _) = identified(tpm.tcti());
    tpm.tool(&["tpm2_hierarchycontrol", "-C", "p", "ehEnable", "clear"]);
    let is_disabled = |error| matches!(error, TpmError::HierarchyDisabled("endorsement"));
    assert!(is_disabled(quote(&mut handle).unwrap_err()));
    assert!(is_disabled(handle.identify(&trust_domain()).unwrap_err()));
    assert!(is_disabled(
        open(tpm.tcti()).identify(&trust_domain()).unwrap_err()
    ));
}

#[test]
fn works_with_the_owner_hierarchy_disabled() {
    let tpm = any_tpm();
    tpm.tool(&["tpm2_hierarchycontrol", "-C", "p", "shEnable", "clear"]);
    let (mut handle, _) = identified(tpm.tcti());
    quote(&mut handle).unwrap();
}

#[test]
fn takes_the_endorsement_password_from_a_file() {
    let tpm = any_tpm();
    tpm.tool(&["tpm2_changeauth", "-c", "e", "correct horse"]);
    let identify = |endorsement_auth| {
        let config = Config {
            endorsement_auth,
            ..config(tpm.tcti())
        };
        tpm::open(config).unwrap().identify(&trust_domain())
    };
    for wrong in [None, secret_file(&tpm, "wrong")] {
        let error = identify(wrong).unwrap_err();
        assert!(matches!(
            error,
            TpmError::Auth {
                hierarchy: "endorsement",
                setting: "endorsement_auth"
            }
        ));
    }
    let config = Config {
        endorsement_auth: secret_file(&tpm, "correct horse\n"),
        ..config(tpm.tcti())
    };
    let mut handle = tpm::open(config).unwrap();
    let identity = handle.identify(&trust_domain()).unwrap();
    quote(&mut handle).unwrap();
    for ek in &identity.endorsement_keys {
        let (issued, activation) = challenge(ek, &name(&identity.attestation_key));
        issued.verify(&handle.activate(&activation).unwrap()).unwrap();
    }
}

#[test]
fn takes_the_owner_password_from_a_file() {
    let tpm = any_tpm();
    tpm.tool(&["tpm2_changeauth", "-c", "o", "secret"]);
    let (mut handle, identity) = identified(tpm.tcti());
    quote(&mut handle).unwrap();
    let persistent = || tpm.tool(&["tpm2_getcap", "handles-persistent"]);
    assert!(!persistent().contains("0x8101A000"));
    let config = Config {
        owner_auth: secret_file(&tpm, "secret"),
        ..config(tpm.tcti())
    };
    assert_eq!(
        tpm::open(config).unwrap().identify(&trust_domain()).unwrap(),
        identity
    );
    assert!(persistent().contains("0x8101A000"));
}

#[test]
fn says_which_password_file_is_missing() {
    let tpm = any_tpm();
    let config = Config {
        owner_auth: Some(SecretFile::new("/nowhere/password")),
        ..config(tpm.tcti())
    };
    let error = tpm::open(config).unwrap_err();
    let TpmError::Secret {
        setting, ref path, ..
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(
        (setting, path),
        ("owner_auth", &PathBuf::from("/nowhere/password"))
    );
}

#[test]
fn says_that_the_tpm_has_no_room_to_load_a_key() {
    let tpm = any_tpm();
    let (mut handle, _) = identified(tpm.tcti());
    for _ in 0..3 {
        tpm.tool_unflushed(&["tpm2_createprimary", "-C", "o", "-G", "ecc"]);
    }
    let error = open(tpm.tcti()).identify(&trust_domain()).unwrap_err();
    assert!(matches!(error, TpmError::NoMemory), "{error:?}");
    let error = quote(&mut handle).unwrap_err();
    assert!(
        matches!(error, TpmError::NoMemory),
        "persistent keys take a slot too: {error:?}"
    );
    tpm.tool(&["tpm2_flushcontext", "--transient-object"]);
    handle.identify(&trust_domain()).unwrap();
}

#[test]
fn says_that_there_is_no_tpm() {
    for tcti in [
        "device:/dev/no-such-tpm",
        "swtpm:host=127.0.0.1,port=9",
        "swtpm:path=/run/swtpm.sock",
        "nonsense",
    ] {
        let error = tpm::open(config(tcti.into())).unwrap_err();
        assert!(
            matches!(&error, TpmError::Open { tcti: said, .. } if said == tcti),
            "{error:?}"
        );
    }
}

#[test]
fn wants_to_identify_first() {
    let tpm = any_tpm();
    let error = quote(&mut open(tpm.tcti())).unwrap_err();
    assert_eq!(
        text(&error),
        "TPM command TPM2_Quote failed: there is no attestation key yet; identify first"
    );
}

#[test]
fn recovers_when_the_tpm_is_back() {
    let tpm = any_tpm();
    let proxy = Proxy::before(&tpm);
    let (mut handle, identity) = identified(proxy.tcti());
    proxy.cut();
    let expected =
        "TPM command TPM2_Quote failed: the TPM no longer answers; it is opened again for the next request";
    let gone = text(&quote(&mut handle).unwrap_err());
    assert!(gone.starts_with(expected), "{gone}");
    quote(&mut handle).unwrap_err();
    proxy.switch_to(&tpm);
    quote(&mut handle).unwrap();
    assert_eq!(handle.identify(&trust_domain()).unwrap(), identity);
}

#[test]
fn a_tpm_that_hangs_is_not_waited_for_and_goes_on() {
    let tpm = any_tpm();
    let config = Config {
        answer_within: Duration::from_secs(3),
        ..config(tpm.tcti())
    };
    let mut handle = tpm::open(config).unwrap();
    let identity = handle.identify(&trust_domain()).unwrap();
    quote(&mut handle).unwrap();
    tpm.hang();
    let expected = format!("TPM `{}` did not answer `quote` within 3s;", tpm.tcti());
    for _ in 0..3 {
        let said = text(&quote(&mut handle).unwrap_err());
        assert!(said.starts_with(&expected), "{said}");
        // Nor is it opened anew, which would hang as well.
        let said = text(&handle.open().unwrap_err());
        assert!(said.starts_with(&expected), "{said}");
    }
    tpm.go_on();
    while quote(&mut handle).is_err() {
        thread::yield_now();
    }
    assert_eq!(handle.identify(&trust_domain()).unwrap(), identity);
}

#[test]
fn survives_a_power_cut() {
    let mut tpm = any_tpm();
    let (mut handle, identity) = identified(tpm.tcti());
    tpm.power_off();
    quote(&mut handle).unwrap_err();
    tpm.power_cycle();
    quote(&mut handle).unwrap();
    assert_eq!(handle.identify(&trust_domain()).unwrap(), identity);
}

#[test]
fn notices_another_tpm() {
    let (tpm, other) = (any_tpm(), Swtpm::start());
    let proxy = Proxy::before(&tpm);
    let (mut handle, identity) = identified(proxy.tcti());
    proxy.switch_to(&other);
    let error = quote(&mut handle).unwrap_err();
    assert!(
        text(&error).contains("attestation key is another one than before"),
        "{}",
        text(&error)
    );
    let now = handle.identify(&trust_domain()).unwrap();
    assert_ne!(now, identity);
    assert_eq!(now, identified(other.tcti()).1);
    quote(&mut handle).unwrap();
}

#[test]
fn serves_clones_of_a_handle() {
    let tpm = any_tpm();
    let (handle, identity) = identified(tpm.tcti());
    let mut clone = handle.clone();
    drop(handle);
    quote(&mut clone).unwrap();
    // What a clone identifies for is its own business.
    let mut other = clone.clone();
    let domain = TrustDomain::parse("other.example").unwrap();
    other.identify(&domain).unwrap();
    let signer = |handle: &mut Handle| {
        let quote = quote(handle).unwrap();
        Attest::parse(&quote.attest).unwrap().qualified_signer
    };
    let expected = name(&identity.attestation_key)
        .qualified_under_endorsement()
        .unwrap();
    assert_eq!(&*signer(&mut clone), expected.as_bytes());
    assert_ne!(signer(&mut other), signer(&mut clone));
}
