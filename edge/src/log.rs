//! Logging: structured lines on standard error, where systemd's journal picks them up.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
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
pub struct Handle {
    filter: reload::Handle<EnvFilter, Registry>,
    launch: Level,
    current: Arc<watch::Sender<Level>>,
}

impl Handle {
    /// How much is logged now.
    #[must_use]
    pub fn level(&self) -> Level {
        *self.current.borrow()
    }

    /// How much was logged at the start.
    #[must_use]
    pub fn launch_level(&self) -> Level {
        self.launch
    }

    /// Logs at `level` from now on.
    pub fn set(&self, level: Level) {
        self.reload(filter(level), level);
    }

    /// Logs as at the start from now on.
    pub fn reset(&self) {
        self.reload(at_launch(self.launch), self.launch);
    }

    fn reload(&self, filter: EnvFilter, level: Level) {
        // Fails only where the subscriber is gone, and then nothing is logged anyway.
        let _gone = self.filter.reload(filter);
        self.current.send_replace(level);
    }
}

/// Starts logging. `RUST_LOG` overrides `level` where it is set. A second call in one process changes nothing.
#[must_use]
pub fn init(level: Level, format: Format) -> Handle {
    let (filter, handle) = reload::Layer::new(at_launch(level));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false);
    let layer = match format {
        Format::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
        Format::Text => lines.with_ansi(false).boxed(),
    };
    let _already = tracing_subscriber::registry().with(filter).with(layer).try_init();
    Handle {
        filter: handle,
        launch: level,
        current: Arc::new(watch::Sender::new(level)),
    }
}

fn at_launch(level: Level) -> EnvFilter {
    match std::env::var("RUST_LOG") {
        Ok(directives) => EnvFilter::builder().parse_lossy(directives),
        Err(_) => filter(level),
    }
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
