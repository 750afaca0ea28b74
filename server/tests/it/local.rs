//! What is for the local socket alone.

use proto::spire::api::{
    server::{
        debug::v1::{GetInfoRequest, debug_client::DebugClient},
        logger::v1::{
            GetLoggerRequest, ResetLogLevelRequest, SetLogLevelRequest, logger_client::LoggerClient,
        },
    },
    types::LogLevel,
};
use tonic::Code;

use crate::server::start;

#[tokio::test]
async fn the_log_level_is_set_and_reset() {
    let server = start("").await;
    let mut client = LoggerClient::new(server.client.clone());
    let set = |level: LogLevel| SetLogLevelRequest {
        new_level: level.into(),
    };
    let changed = client
        .set_log_level(set(LogLevel::Debug))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(changed.current_level(), LogLevel::Debug);
    assert_eq!(changed.launch_level(), LogLevel::Error);
    let shown = client.get_logger(GetLoggerRequest {}).await.unwrap().into_inner();
    assert_eq!(shown, changed);
    let refused = client
        .set_log_level(set(LogLevel::Unspecified))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let reset = client.reset_log_level(ResetLogLevelRequest {}).await.unwrap();
    assert_eq!(reset.into_inner().current_level(), LogLevel::Error);
}

#[tokio::test]
async fn a_server_knows_itself() {
    let server = start("").await;
    let mut client = DebugClient::new(server.client.clone());
    let about = client.get_info(GetInfoRequest {}).await.unwrap().into_inner();
    let paths: Vec<_> = about
        .svid_chain
        .iter()
        .map(|cert| cert.id.as_ref().unwrap().path.as_str())
        .collect();
    assert_eq!(paths, ["/spire/server", ""]);
    assert!(about.svid_chain[0].expires_at <= about.svid_chain[1].expires_at);
    assert!(about.svid_chain[0].subject.contains("Plastron"));
    assert_eq!(
        (
            about.agents_count,
            about.entries_count,
            about.federated_bundles_count
        ),
        (0, 0, 0)
    );
}
