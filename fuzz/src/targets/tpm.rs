//! The first message of a host that attests by TPM, as the attestor takes it.

use node_tpm::{Config, EventLogs, TpmAttestor};
use plugin_api::{Context, NodeAttestor, Step};
use svid::Timestamp;

use super::{example_org, join_token::OneToken};

/// A host that nobody enrolled is challenged at most, and opens no session: nobody has shown where its keys are.
pub fn run(bytes: &[u8]) {
    let config = Config {
        event_log: EventLogs::Optional,
        ..Config::default()
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
    let outcome = attestor.start(bytes, &context);
    assert!(
        matches!(outcome, Err(_) | Ok(Step::Challenge { .. })),
        "{outcome:?}"
    );
    let outcome = attestor.resume(bytes, "/spire/agent/tpm/any", &context);
    assert!(outcome.is_err(), "{outcome:?}");
}
