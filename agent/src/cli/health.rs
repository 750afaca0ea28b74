//! `healthcheck`.

use clap::Args;
use proto::grpc::health::v1::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{CommandError, Common, Output, line};

/// Asks a running agent whether it can serve; exits with 1 if not.
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
        match self.common.output {
            Output::Json => {
                let json = edge::json::print("grpc.health.v1.HealthCheckResponse", &response)?;
                line(&edge::json::pretty(&json)?);
            }
            Output::Pretty => line("Agent is healthy."),
        }
        Ok(())
    }
}
