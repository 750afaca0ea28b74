//! How much evidence one source may have looked at.

use proto::plastron::attest::v1::Evidence;
use swtpm_tests::alone;
use tonic::Code;

use super::{
    super::overload::FLOOD,
    client::{Host, Said},
    csr,
};

/// Conversations with strangers that one source may have under way.
const STRANGERS: usize = 64;
/// Several times what a source may have at once: a slow machine gives it time to get more.
const OPENINGS: usize = 5000;

#[tokio::test]
async fn strangers_have_a_share_of_their_own_and_take_no_place_of_known_hosts() {
    let mut host = Host::acquainted().await;
    let csr = csr();
    let mut under_way = Vec::new();
    for _ in 0..STRANGERS {
        under_way.push(host.stranger().converse(&csr).await.unwrap());
    }

    let refused = host.stranger().converse(&csr).await.err().unwrap();

    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let mut connection = host.dial().await;
    let evidence = host.evidence(connection.exporter, &csr);
    assert!(matches!(
        connection.attest(evidence, &csr).await,
        Ok(Said::Svid(_))
    ));
    // A conversation that ends makes room for another.
    under_way.pop();
    while host.stranger().converse(&csr).await.is_err() {}
}

#[tokio::test]
async fn who_opens_sessions_with_evidence_too_often_is_told_to_wait() {
    let _alone = alone(FLOOD);
    let mut host = Host::acquainted().await;
    let svid = host.attested().await;
    let mut connection = host.dial_as(&svid).await;
    let evidence = Evidence::default();
    for _ in 0..OPENINGS {
        let refused = connection.open_session(Some(&evidence)).await.unwrap_err();
        if refused.code() == Code::ResourceExhausted {
            assert!(refused.message().contains("; retry in "), "{refused}");
            return;
        }
    }
    panic!("there is no limit");
}
