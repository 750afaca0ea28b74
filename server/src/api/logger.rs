//! The Logger service: how much a running server logs.

use edge::log::{Handle, Level};
use proto::spire::api::{
    server::logger::v1::{GetLoggerRequest, ResetLogLevelRequest, SetLogLevelRequest, logger_server},
    types::{LogLevel, Logger},
};
use tonic::{Request, Response, Status, async_trait};
use tracing::warn;

use super::gate;

pub(super) struct LoggerService {
    pub(super) log: Handle,
}

#[async_trait]
impl logger_server::Logger for LoggerService {
    async fn get_logger(&self, _request: Request<GetLoggerRequest>) -> Result<Response<Logger>, Status> {
        Ok(self.state())
    }

    async fn set_log_level(&self, request: Request<SetLogLevelRequest>) -> Result<Response<Logger>, Status> {
        let actor = gate::caller(&request)?;
        let level = level(request.get_ref().new_level)?;
        // Whoever reads the log should know why it changes; so at a level that is nearly always shown.
        warn!(%actor, level = ?level, "Log level set");
        self.log.set(level);
        Ok(self.state())
    }

    async fn reset_log_level(
        &self,
        request: Request<ResetLogLevelRequest>,
    ) -> Result<Response<Logger>, Status> {
        let actor = gate::caller(&request)?;
        self.log.reset();
        warn!(%actor, level = ?self.log.launch_level(), "Log level reset");
        Ok(self.state())
    }
}

impl LoggerService {
    fn state(&self) -> Response<Logger> {
        Response::new(Logger {
            current_level: wire(self.log.level()).into(),
            launch_level: wire(self.log.launch_level()).into(),
        })
    }
}

/// We have no level above `error`: what says less than that says errors.
fn level(wire: i32) -> Result<Level, Status> {
    match LogLevel::try_from(wire) {
        Ok(LogLevel::Panic | LogLevel::Fatal | LogLevel::Error) => Ok(Level::Error),
        Ok(LogLevel::Warn) => Ok(Level::Warn),
        Ok(LogLevel::Info) => Ok(Level::Info),
        Ok(LogLevel::Debug) => Ok(Level::Debug),
        Ok(LogLevel::Trace) => Ok(Level::Trace),
        Ok(LogLevel::Unspecified) => Err(Status::invalid_argument("log level must be given")),
        Err(_) => Err(Status::invalid_argument(format!("{wire} is no log level"))),
    }
}

fn wire(level: Level) -> LogLevel {
    match level {
        Level::Debug => LogLevel::Debug,
        Level::Error => LogLevel::Error,
        Level::Info => LogLevel::Info,
        Level::Trace => LogLevel::Trace,
        Level::Warn => LogLevel::Warn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_the_wire() {
        for named in [
            LogLevel::Error,
            LogLevel::Warn,
            LogLevel::Info,
            LogLevel::Debug,
            LogLevel::Trace,
        ] {
            assert_eq!(wire(level(named.into()).unwrap()), named);
        }
        assert_eq!(level(LogLevel::Panic.into()).unwrap(), Level::Error);
        for none in [0, -1, 8] {
            assert_eq!(level(none).unwrap_err().code(), tonic::Code::InvalidArgument);
        }
    }
}
