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

/// Says whether the agent is ready, and whether its TPM answers.
pub(super) struct HealthService {
    pub(super) ready: watch::Receiver<bool>,
    /// `None` where no TPM is used.
    pub(super) tpm_answers: Option<watch::Receiver<bool>>,
    pub(super) course: watch::Receiver<Course>,
}

/// What the TPM is asked about by; the whole agent by the empty name. An agent can serve for a while without its TPM.
pub(crate) const TPM: &str = "tpm";

impl HealthService {
    fn state(&self, request: &HealthCheckRequest) -> Result<&watch::Receiver<bool>, Status> {
        match (request.service.as_str(), &self.tpm_answers) {
            ("", _) => Ok(&self.ready),
            (TPM, Some(answers)) => Ok(answers),
            _ => Err(Status::not_found("unknown service")),
        }
    }
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

#[async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let state = self.state(request.get_ref())?;
        Ok(Response::new(response(*state.borrow())))
    }

    async fn list(
        &self,
        _request: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        let whole = (String::new(), response(*self.ready.borrow()));
        let tpm = self.tpm_answers.as_ref();
        let tpm = tpm.map(|answers| (TPM.into(), response(*answers.borrow())));
        let statuses = std::iter::once(whole).chain(tpm).collect();
        Ok(Response::new(HealthListResponse { statuses }))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<BoxStream<HealthCheckResponse>>, Status> {
        let state = self.state(request.get_ref())?.clone();
        let changes = WatchStream::new(state).map(|is_good| Ok(response(is_good)));
        let mut course = self.course.clone();
        let end = async move { end_of_serving(&mut course).await };
        Ok(Response::new(Box::pin(changes.take_until(Box::pin(end)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(tpm_answers: Option<bool>) -> HealthService {
        HealthService {
            ready: watch::channel(true).1,
            tpm_answers: tpm_answers.map(|answers| watch::channel(answers).1),
            course: watch::channel(Course::Serve).1,
        }
    }

    #[tokio::test]
    async fn an_agent_whose_tpm_hangs_is_ready_and_says_so_of_its_tpm() {
        async fn check(tpm_answers: Option<bool>, service_name: &str, expected: Option<ServingStatus>) {
            let request = HealthCheckRequest {
                service: service_name.into(),
            };
            let said = service(tpm_answers).check(Request::new(request)).await;
            let said = said.ok().map(|response| response.get_ref().status());
            assert_eq!(said, expected, "{service_name} {tpm_answers:?}");
        }
        check(Some(false), "", Some(ServingStatus::Serving)).await;
        check(Some(false), TPM, Some(ServingStatus::NotServing)).await;
        check(Some(true), TPM, Some(ServingStatus::Serving)).await;
        check(None, TPM, None).await;
        check(None, "other", None).await;
        let listed = |tpm_answers| async move {
            let service = service(tpm_answers);
            let listed = service.list(Request::new(HealthListRequest::default()));
            listed.await.unwrap().into_inner().statuses.len()
        };
        assert_eq!((listed(None).await, listed(Some(true)).await), (1, 2));
    }
}
