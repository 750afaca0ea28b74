//! The payload of a host that attests by join token.

use std::sync::Arc;

use attest::{
    Name,
    ek::{CertificateId, EkHash},
};
use node_join_token::JoinTokenAttestor;
use plugin_api::{Context, Host, HostPolicies, JoinToken, NodeAttestor, Records, Step};
use svid::Timestamp;

use super::example_org;

/// Knows one token, and no host.
pub(super) struct OneToken;

const TOKEN: &str = "4f5a3ac3-9d4b-4a3f-8a4e-0c3f1b6f8f10";

impl Records for OneToken {
    fn host_of_ak(&self, _name: &Name) -> Option<Arc<Host>> {
        None
    }

    fn host_of_ek(&self, _hash: &EkHash) -> Option<Arc<Host>> {
        None
    }

    fn host_of_certificate(&self, _id: &CertificateId) -> Option<Arc<Host>> {
        None
    }

    fn policies_of(&self, _host: &Host) -> HostPolicies {
        HostPolicies::default()
    }

    fn join_token(&self, token: &str) -> Option<JoinToken> {
        (token == TOKEN).then_some(JoinToken {
            expires_at: Timestamp::from_unix(1),
        })
    }
}

/// Only the token itself attests.
pub fn run(bytes: &[u8]) {
    let context = Context {
        now: Timestamp::from_unix(0),
        trust_domain: &example_org(),
        records: &OneToken,
        exporter: None,
        csr: &[],
        nonce: [0; 32],
    };
    let outcome = JoinTokenAttestor.start(bytes, &context);
    let attested = matches!(outcome, Ok(Step::Done(_)));
    assert_eq!(attested, bytes == TOKEN.as_bytes());
}
