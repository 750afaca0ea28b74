//! The server's side.

use plugin_api::{Attested, Claim, Context, NodeAttestor, Refusal, Step};
use serde::Deserialize;

use crate::NAME;

/// `[plugins.node-join-token]`: no settings.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// Accepts tokens that exist, have not ended and were not used.
#[derive(Clone, Copy, Debug, Default)]
pub struct JoinTokenAttestor;

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
enum NotAccepted {
    #[error("join token expired")]
    Expired,
    #[error("join token is not text")]
    Malformed,
    #[error("join token does not exist or has already been used")]
    Unknown,
}

impl NodeAttestor for JoinTokenAttestor {
    fn name(&self) -> &'static str {
        NAME
    }

    fn binds_connection(&self) -> bool {
        false
    }

    fn start(&self, payload: &[u8], context: &Context<'_>) -> Result<Step, Refusal> {
        let refuse = |code, reason: NotAccepted| Refusal::invalid(code, reason);
        let token = std::str::from_utf8(payload)
            .map_err(|_| refuse("join_token_malformed", NotAccepted::Malformed))?;
        let known = context.records.join_token(token);
        let known = known.ok_or_else(|| refuse("join_token_unknown", NotAccepted::Unknown))?;
        if known.expires_at <= context.now {
            return Err(refuse("join_token_expired", NotAccepted::Expired));
        }
        Ok(Step::Done(Attested {
            suffix: token.into(),
            selectors: Vec::new(),
            can_reattest: false,
            claims: vec![Claim::JoinToken(token.into())],
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use attest::{
        Name,
        ek::{CertificateId, EkHash},
    };
    use plugin_api::{Host, HostPolicies, JoinToken, Records};
    use svid::{Timestamp, TrustDomain};

    use super::*;

    struct OneToken;

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
            (token == "good").then(|| JoinToken {
                expires_at: Timestamp::from_unix(100),
            })
        }
    }

    fn check(payload: &[u8], now: i64, expected: Result<&str, &str>) {
        let context = Context {
            now: Timestamp::from_unix(now),
            trust_domain: &TrustDomain::parse("td").unwrap(),
            records: &OneToken,
            exporter: None,
            csr: &[],
            nonce: [0; 32],
        };
        let outcome = JoinTokenAttestor.start(payload, &context);
        let outcome = match &outcome {
            Ok(Step::Done(attested)) => Ok(attested.suffix.as_str()),
            Ok(step) => panic!("{step:?}"),
            Err(refusal) => Err(refusal.code),
        };
        assert_eq!(outcome, expected);
    }

    #[test]
    fn accepts_a_known_token_until_it_ends() {
        check(b"good", 99, Ok("good"));
        check(b"good", 100, Err("join_token_expired"));
        check(b"other", 0, Err("join_token_unknown"));
        check(&[0xff], 0, Err("join_token_malformed"));
        check(b"", 0, Err("join_token_unknown"));
    }
}
