//! `healthcheck`.

use clap::Args;
use edge::grpc::Client;
use proto::grpc::health::v1::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};

use super::{CommandError, Common, Output, line};
use crate::workload::TPM_SERVICE;

/// It is no failure: there is an identity to serve until it ends.
const TPM_HANGS: &str = "Warning: the TPM does not answer; once its SVID ends, the agent gets no other";

/// Asks a running agent whether it can serve; exits with 1 if not.
#[derive(Args, Debug)]
pub(super) struct Healthcheck {
    #[command(flatten)]
    common: Common,
}

impl Healthcheck {
    pub(super) async fn execute(self) -> Result<(), CommandError> {
        let (response, tpm) = self.common.call(ask).await?;
        if response.status() != ServingStatus::Serving {
            return Err(CommandError::NotHealthy);
        }
        if tpm == Some(ServingStatus::NotServing) {
            eprintln!("{TPM_HANGS}");
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

/// What the agent says of itself, and of its TPM where it uses one.
async fn ask(client: Client) -> Result<(HealthCheckResponse, Option<ServingStatus>), CommandError> {
    let mut health = HealthClient::new(client);
    let whole = health.check(HealthCheckRequest::default()).await?.into_inner();
    let service = TPM_SERVICE.into();
    let tpm = health.check(HealthCheckRequest { service }).await;
    Ok((whole, tpm.ok().map(|response| response.get_ref().status())))
}
