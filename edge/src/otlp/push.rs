//! The connection to a collector.

use std::{io, time::Duration};

use http::uri::PathAndQuery;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use tokio::{
    net::TcpStream,
    time::{MissedTickBehavior, interval, timeout},
};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;
use tracing::{info, warn};

use super::{
    Config, Endpoint, Service,
    message::{Span, request},
};
use crate::{
    Chain, Clock,
    grpc::{Client, ConnectError},
    metrics::Registry,
};

const EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
/// How long a collector may take, to be reached and to answer.
const WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
enum PushError {
    #[error("cannot connect to the collector")]
    Connect(#[source] io::Error),
    #[error(transparent)]
    Http2(#[from] ConnectError),
    #[error("the collector takes longer than {} s", WITHIN.as_secs())]
    Late,
    #[error("the connection to the collector ended")]
    Gone,
    #[error("the collector refused the metrics")]
    Refused(#[source] Status),
}

pub(super) async fn run(config: &Config, service: Service, metrics: &Registry, clock: Clock) {
    let from = nanos(clock);
    let mut turns = interval(config.interval);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reached = None;
    loop {
        turns.tick().await;
        let span = Span {
            from,
            to: nanos(clock),
        };
        let told = timeout(WITHIN, tell(&config.endpoint, request(metrics, service, span))).await;
        let told = told.unwrap_or(Err(PushError::Late));
        // Said when it changes: a collector that is away all night fills no log.
        if reached != Some(told.is_ok()) {
            match &told {
                Ok(()) => info!(endpoint = %config.endpoint, "Metrics reach the collector"),
                Err(error) => {
                    warn!(endpoint = %config.endpoint, error = %Chain(error), "Metrics do not reach the collector; each turn tries again");
                }
            }
        }
        reached = Some(told.is_ok());
    }
}

/// Tells a collector over a connection of its own: turns are a minute apart.
async fn tell(to: &Endpoint, request: ExportMetricsServiceRequest) -> Result<(), PushError> {
    let stream = TcpStream::connect((to.host.as_str(), to.port)).await;
    let (client, drive) = Client::start(stream.map_err(PushError::Connect)?).await?;
    tokio::select! {
        told = export(client, request) => told,
        () = drive => Err(PushError::Gone),
    }
}

async fn export(client: Client, request: ExportMetricsServiceRequest) -> Result<(), PushError> {
    let mut client = tonic::client::Grpc::new(client);
    client.ready().await.map_err(|_| PushError::Gone)?;
    let codec = ProstCodec::<ExportMetricsServiceRequest, ExportMetricsServiceResponse>::default();
    let path = PathAndQuery::from_static(EXPORT);
    let answer = client.unary(Request::new(request), path, codec).await;
    answer.map(|_| ()).map_err(PushError::Refused)
}

fn nanos(clock: Clock) -> u64 {
    u64::try_from(clock.now_nanos()).unwrap_or_default()
}
