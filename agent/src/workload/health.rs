//! The Health service.

use edge::grpc::Course;
use futures::StreamExt;
use proto::grpc::health::v1::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
    health_check_response::ServingStatus, health_server::Health,
};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status, async_trait, codegen::BoxStream};

use super::end_of_serving;

/// Says whether the agent is ready.
pub(super) struct HealthService {
    pub(super) ready: watch::Receiver<bool>,
    pub(super) course: watch::Receiver<Course>,
}

fn response(ready: bool) -> HealthCheckResponse {
    let status = if ready {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    HealthCheckResponse {
        status: status.into(),
    }
}

/// There is one service to ask about: the whole agent.
fn check_name(request: &HealthCheckRequest) -> Result<(), Status> {
    if request.service.is_empty() {
        Ok(())
    } else {
        Err(Status::not_found("unknown service"))
    }
}

#[async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        check_name(request.get_ref())?;
        Ok(Response::new(response(*self.ready.borrow())))
    }

    async fn list(
        &self,
        _request: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        let statuses = [(String::new(), response(*self.ready.borrow()))].into();
        Ok(Response::new(HealthListResponse { statuses }))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<BoxStream<HealthCheckResponse>>, Status> {
        check_name(request.get_ref())?;
        let changes = WatchStream::new(self.ready.clone()).map(|ready| Ok(response(ready)));
        let mut course = self.course.clone();
        let end = async move { end_of_serving(&mut course).await };
        Ok(Response::new(Box::pin(changes.take_until(Box::pin(end)))))
    }
}
