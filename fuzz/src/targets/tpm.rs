//! The first message of a host that attests by TPM, as the attestor takes it.

use attest::PcrSelection;
use node_tpm::{Config, EventLogs, TpmAttestor};
use plugin_api::{Context, NodeAttestor};
use svid::Timestamp;

use super::{example_org, join_token::OneToken};

/// A host that nobody enrolled gets nothing by its first message, and opens no session.
pub fn run(bytes: &[u8]) {
    let config = Config {
        ek_roots: None,
        accept_expired_ek_certificates: false,
        event_log: EventLogs::Optional,
        pcrs: PcrSelection::standard(),
    };
    let Ok(attestor) = TpmAttestor::new(&config) else {
        panic!("without roots there is nothing to read");
    };
    let context = Context {
        now: Timestamp::from_unix(0),
        trust_domain: &example_org(),
        records: &OneToken,
        exporter: Some([1; 32]),
        csr: &[],
        nonce: [0; 32],
    };
    assert!(
        attestor.start(bytes, &context).is_err(),
        "not bound to this connection"
    );
    assert!(attestor.resume(bytes, "/spire/agent/tpm/any", &context).is_err());
}
