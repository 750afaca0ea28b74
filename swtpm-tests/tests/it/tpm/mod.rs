//! The `tpm` crate against swtpm.

mod activate;
mod failures;
mod figures;
mod identify;
mod quote;
mod sealing;
mod signing;

use std::time::Duration;

use attest::{HashAlg, Name, PcrSelection, credential::IssuedCredential, wire::Public};
use plugin_api::{Activation, TpmDevice, TpmEk, TpmError, TpmIdentity};
use svid::TrustDomain;
use swtpm_tests::{Options, Proxy, Swtpm};
use tpm::{Config, Handle, SecretFile};

/// TPM_CC_Quote.
const QUOTE: u32 = 0x158;
/// TPM_CC_ActivateCredential.
const ACTIVATE_CREDENTIAL: u32 = 0x147;

fn trust_domain() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

fn config(tcti: String) -> Config {
    Config {
        tcti,
        // However busy the machine is with other tests.
        answer_within: Duration::from_secs(60),
        ..Config::default()
    }
}

fn open(tcti: String) -> Handle {
    tpm::open(config(tcti)).unwrap()
}

/// Opens a TPM, and has it identify itself.
fn identified(tcti: String) -> (Handle, TpmIdentity) {
    let mut handle = open(tcti);
    let identity = handle.identify(&trust_domain()).unwrap();
    (handle, identity)
}

/// A TPM that nobody minds sharing: each test starts from the same state, and so with the same keys.
fn any_tpm() -> Swtpm {
    Swtpm::with(Options {
        name: Some("any"),
        p256_certificate: true,
        ..Options::default()
    })
}

/// A TPM without endorsement keys.
fn bare_tpm() -> Swtpm {
    Swtpm::with(Options {
        certificates: false,
        ..Options::default()
    })
}

fn public(bytes: &[u8]) -> Public {
    Public::parse(bytes).unwrap()
}

fn name(bytes: &[u8]) -> Name {
    public(bytes).name()
}

/// What a server sends to have a key pair proven, and how it checks the answer.
fn challenge(ek: &TpmEk, ak: &Name) -> (IssuedCredential, Activation) {
    let (issued, blob) = IssuedCredential::issue(&public(&ek.public), ak).unwrap();
    let activation = Activation {
        endorsement_key: name(&ek.public),
        credential_blob: blob.credential_blob,
        secret: blob.secret,
    };
    (issued, activation)
}

/// Everything that was loaded is flushed again.
fn assert_nothing_loaded(tpm: &Swtpm) {
    let loaded = ["handles-transient", "handles-loaded-session"]
        .map(|kind| tpm.tool_unflushed(&["tpm2_getcap", kind]))
        .concat();
    assert_eq!(loaded, "");
}

fn quote(handle: &mut Handle) -> Result<plugin_api::RawQuote, TpmError> {
    handle.quote(&[7; 32], &PcrSelection::standard())
}
