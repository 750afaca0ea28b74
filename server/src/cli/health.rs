//! `healthcheck`.

use clap::Args;
use proto::grpc::health::v1::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{CommandError, Common};

/// Asks a running server whether it can serve; exits with 1 if not.
#[derive(Args, Debug)]
pub(super) struct Healthcheck {
    #[command(flatten)]
    common: Common,
}

impl Healthcheck {
    pub(super) async fn execute(self) -> Result<(), CommandError> {
        let response = self
            .common
            .call(async |client| {
                Ok(HealthClient::new(client)
                    .check(HealthCheckRequest::default())
                    .await?)
            })
            .await?
            .into_inner();
        if response.status() != ServingStatus::Serving {
            return Err(CommandError::NotHealthy);
        }
        let name = "grpc.health.v1.HealthCheckResponse";
        self.common
            .output
            .print(name, &response, || "Server is healthy.".into())?;
        Ok(())
    }
}
