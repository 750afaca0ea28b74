//! A collector that runs here, on OpenTelemetry's own messages.

use std::{
    convert::Infallible,
    future::Ready,
    net::SocketAddr,
    task::{Context, Poll},
};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse},
    metrics::v1::{Metric, metric::Data, number_data_point},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::timeout,
};
use tonic::{Request, Response, Status, body::Body};
use tonic_prost::ProstCodec;
use tower::Service as TowerService;

use super::*;
use crate::{
    grpc::{Course, Limits, serve},
    metrics::Kind,
};

const DEADLINE: Duration = Duration::from_secs(30);
const SERVICE: Service = Service {
    name: "plastron-test",
    version: "1.2.3",
};

/// Hands on what is exported.
#[derive(Clone)]
struct Collector(mpsc::Sender<ExportMetricsServiceRequest>);

impl TowerService<http::Request<Body>> for Collector {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            assert_eq!(
                request.uri().path(),
                "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
            );
            let codec = ProstCodec::<ExportMetricsServiceResponse, ExportMetricsServiceRequest>::default();
            Ok(tonic::server::Grpc::new(codec).unary(this, request).await)
        })
    }
}

impl tonic::server::UnaryService<ExportMetricsServiceRequest> for Collector {
    type Response = ExportMetricsServiceResponse;
    type Future = Ready<Result<Response<Self::Response>, Status>>;

    fn call(&mut self, request: Request<ExportMetricsServiceRequest>) -> Self::Future {
        self.0.try_send(request.into_inner()).unwrap();
        std::future::ready(Ok(Response::new(ExportMetricsServiceResponse::default())))
    }
}

/// Takes one connection after the other.
async fn collect(listener: TcpListener, collector: Collector) {
    let (_course, course) = watch::channel(Course::Serve);
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let connection = Arc::new(());
        serve(
            stream,
            collector.clone(),
            connection,
            Limits::default(),
            course.clone(),
        )
        .await
        .unwrap();
    }
}

fn config(address: SocketAddr) -> Config {
    let config = Config {
        endpoint: endpoint(&format!("http://{address}")).unwrap(),
        interval: LEAST,
    };
    config.check().unwrap();
    config
}

fn metrics() -> Arc<Registry> {
    let mut registry = Registry::default();
    registry.counter("a_total", "As.").add(2);
    registry.add(Kind::Gauge, "b", "Bs.", |samples| {
        samples.float(&[("of", "x")], 1.5);
    });
    registry
        .seconds("c_seconds", "Cs.")
        .observe(Duration::from_millis(3));
    Arc::new(registry)
}

fn find<'a>(pushed: &'a ExportMetricsServiceRequest, name: &str) -> &'a Metric {
    let metrics = &pushed.resource_metrics[0].scope_metrics[0].metrics;
    metrics.iter().find(|metric| metric.name == name).unwrap()
}

#[tokio::test]
async fn what_is_counted_reaches_the_collector_each_turn() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let config = config(listener.local_addr().unwrap());
    let (sender, mut received) = mpsc::channel(8);
    let (first, second) = tokio::select! {
        () = push(config, SERVICE, metrics(), Clock::system()) => unreachable!("it never ends"),
        () = collect(listener, Collector(sender)) => unreachable!("it never ends"),
        pushed = async {
            let first = timeout(DEADLINE, received.recv()).await.unwrap().unwrap();
            (first, timeout(DEADLINE, received.recv()).await.unwrap().unwrap())
        } => pushed,
    };
    let attributes = &first.resource_metrics[0].resource.as_ref().unwrap().attributes;
    assert_eq!(attributes[0].key, "service.name");
    let Some(Data::Sum(sum)) = &find(&first, "a_total").data else {
        panic!("no sum")
    };
    assert!(sum.is_monotonic);
    assert_eq!(sum.data_points[0].value, Some(number_data_point::Value::AsInt(2)));
    let Some(Data::Gauge(gauge)) = &find(&first, "b").data else {
        panic!("no gauge")
    };
    assert_eq!(
        gauge.data_points[0].value,
        Some(number_data_point::Value::AsDouble(1.5))
    );
    assert_eq!(gauge.data_points[0].attributes[0].key, "of");
    let Some(Data::Histogram(histogram)) = &find(&first, "c_seconds").data else {
        panic!("no histogram")
    };
    let point = &histogram.data_points[0];
    assert_eq!(
        (point.count, point.bucket_counts.len()),
        (1, point.explicit_bounds.len() + 1)
    );
    let bucket = point.bucket_counts.iter().position(|count| *count == 1).unwrap();
    assert!((point.explicit_bounds[bucket] - 0.005).abs() < f64::EPSILON);
    assert!(point.time_unix_nano >= point.start_time_unix_nano);
    let Some(Data::Histogram(later)) = &find(&second, "c_seconds").data else {
        panic!("no histogram")
    };
    assert_eq!(
        later.data_points[0].start_time_unix_nano,
        point.start_time_unix_nano
    );
}

#[tokio::test]
async fn a_collector_that_hung_up_is_told_at_the_next_turn() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let config = config(listener.local_addr().unwrap());
    let (sender, mut received) = mpsc::channel(8);
    let collecting = async {
        drop(listener.accept().await.unwrap());
        collect(listener, Collector(sender)).await;
    };
    tokio::select! {
        () = push(config, SERVICE, metrics(), Clock::system()) => unreachable!("it never ends"),
        () = collecting => unreachable!("it never ends"),
        pushed = timeout(DEADLINE, received.recv()) => assert!(pushed.unwrap().is_some()),
    }
}
