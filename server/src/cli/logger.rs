//! `logger`.

use clap::{Args, Subcommand, ValueEnum};
use proto::spire::api::{
    server::logger::v1::{
        GetLoggerRequest, ResetLogLevelRequest, SetLogLevelRequest, logger_client::LoggerClient,
    },
    types::{LogLevel, Logger},
};

use super::{CommandError, Common, output::facts};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Shows how much the server logs.
    Get(Get),
    /// Logs as at the start again.
    Reset(Get),
    /// Logs more or less from now on, until the server ends.
    Set(Set),
}

#[derive(Args, Debug)]
pub(super) struct Get {
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
pub(super) struct Set {
    /// How much is logged.
    #[arg(long, value_enum)]
    level: Level,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Command {
    pub(super) async fn execute(self) -> Result<(), CommandError> {
        let (common, logger) = match self {
            Self::Get(Get { common }) => {
                let request = GetLoggerRequest {};
                let logger = common
                    .call(async |client| Ok(LoggerClient::new(client).get_logger(request).await?))
                    .await?;
                (common, logger.into_inner())
            }
            Self::Reset(Get { common }) => {
                let request = ResetLogLevelRequest {};
                let logger = common
                    .call(async |client| Ok(LoggerClient::new(client).reset_log_level(request).await?))
                    .await?;
                (common, logger.into_inner())
            }
            Self::Set(Set { level, common }) => {
                let new_level = level.to_wire().into();
                let request = SetLogLevelRequest { new_level };
                let logger = common
                    .call(async |client| Ok(LoggerClient::new(client).set_log_level(request).await?))
                    .await?;
                (common, logger.into_inner())
            }
        };
        common
            .output
            .print("spire.api.types.Logger", &logger, || pretty(logger))
    }
}

impl Level {
    fn to_wire(self) -> LogLevel {
        match self {
            Self::Error => LogLevel::Error,
            Self::Warn => LogLevel::Warn,
            Self::Info => LogLevel::Info,
            Self::Debug => LogLevel::Debug,
            Self::Trace => LogLevel::Trace,
        }
    }
}

fn pretty(logger: Logger) -> String {
    let name = |level: LogLevel| level.as_str_name().to_lowercase();
    facts(&[
        ("Logger level", name(logger.current_level())),
        ("Logger launch level", name(logger.launch_level())),
    ])
}
