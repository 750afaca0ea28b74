//! Logging: structured lines on standard error, where systemd's journal picks them up.

use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{EnvFilter, Layer, Registry, layer::SubscriberExt, reload, util::SubscriberInitExt};

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Why decisions came out as they did.
    #[serde(alias = "DEBUG")]
    Debug,
    /// Somebody must act.
    #[serde(alias = "ERROR")]
    Error,
    /// Decisions.
    #[default]
    #[serde(alias = "INFO")]
    Info,
    /// Everything.
    #[serde(alias = "TRACE")]
    Trace,
    /// What will be tried again.
    #[serde(alias = "WARN", alias = "warning", alias = "WARNING")]
    Warn,
}

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    #[default]
    Text,
}

/// Changes what is logged while the program runs.
#[derive(Clone, Debug)]
pub struct Handle(reload::Handle<EnvFilter, Registry>);

impl Handle {
    /// Logs at `level` from now on.
    pub fn set(&self, level: Level) {
        // Fails only where the subscriber is gone, and then nothing is logged anyway.
        let _gone = self.0.reload(filter(level));
    }
}

/// Starts logging. `RUST_LOG` overrides `level` where it is set. A second call in one process changes nothing.
#[must_use]
pub fn init(level: Level, format: Format) -> Handle {
    let initial = match std::env::var("RUST_LOG") {
        Ok(directives) => EnvFilter::builder().parse_lossy(directives),
        Err(_) => filter(level),
    };
    let (filter, handle) = reload::Layer::new(initial);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false);
    let layer = match format {
        Format::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
        Format::Text => lines.with_ansi(false).boxed(),
    };
    let _already = tracing_subscriber::registry().with(filter).with(layer).try_init();
    Handle(handle)
}

fn filter(level: Level) -> EnvFilter {
    let level = match level {
        Level::Debug => LevelFilter::DEBUG,
        Level::Error => LevelFilter::ERROR,
        Level::Info => LevelFilter::INFO,
        Level::Trace => LevelFilter::TRACE,
        Level::Warn => LevelFilter::WARN,
    };
    // The protocol stacks below are for their authors: their debug lines would bury ours.
    let quiet = ["h2", "hyper", "hyper_util", "tower", "rustls"];
    let base = EnvFilter::default().add_directive(level.into());
    quiet
        .iter()
        .filter_map(|name| format!("{name}=warn").parse().ok())
        .fold(base, EnvFilter::add_directive)
}
