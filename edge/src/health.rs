//! The health listener: `/live`, `/ready` and `/metrics` over plain HTTP, for load balancers, supervisors and
//! Prometheus; and files that everybody may have.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::Path,
    http::{StatusCode, header::CONTENT_TYPE},
    routing::get,
};
use bytes::Bytes;
use serde::Deserialize;
use tokio::{net::TcpListener, sync::watch};

use crate::metrics::Registry;

/// `health_checks` in a configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether to listen at all.
    pub listener_enabled: bool,
    /// Address to listen on.
    pub bind_address: std::net::IpAddr,
    /// Port to listen on.
    pub bind_port: u16,
    /// Path that answers 200 while the process runs.
    pub live_path: String,
    /// Path that answers 200 while it can serve, else 503.
    pub ready_path: String,
    /// Path that answers with metrics.
    pub metrics_path: String,
}

/// Files that everybody may have, in one folder.
#[derive(Clone)]
pub struct Files {
    /// Path of the folder.
    pub path: String,
    /// The media type of all of them.
    pub media_type: &'static str,
    /// The file of a name.
    pub find: Find,
}

/// Finds a file by its name.
pub type Find = Arc<dyn Fn(&str) -> Option<Bytes> + Send + Sync>;

/// Paths that can't be served.
#[derive(Debug, thiserror::Error)]
#[error(
    "live_path, ready_path and metrics_path of health_checks must differ, begin with `/`, and have only letters, digits, `/`, `-`, `_` and `.`"
)]
pub struct BadPaths;

impl Default for Config {
    fn default() -> Self {
        Self {
            listener_enabled: false,
            bind_address: std::net::Ipv4Addr::LOCALHOST.into(),
            bind_port: 80,
            live_path: "/live".into(),
            ready_path: "/ready".into(),
            metrics_path: "/metrics".into(),
        }
    }
}

impl Config {
    /// Checks what a file can't show.
    ///
    /// # Errors
    ///
    /// A path can't be served.
    pub fn check(&self) -> Result<(), BadPaths> {
        let Self {
            live_path,
            ready_path,
            metrics_path,
            ..
        } = self;
        let are_good = [live_path, ready_path, metrics_path]
            .into_iter()
            .all(|path| is_plain(path));
        if are_good && live_path != ready_path && live_path != metrics_path && ready_path != metrics_path {
            Ok(())
        } else {
            Err(BadPaths)
        }
    }
}

/// Whether `path` can be served: it begins with `/`, and has only letters, digits, `/`, `-`, `_` and `.`.
#[must_use]
pub fn is_plain(path: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-_.".contains(c);
    path.starts_with('/') && path.chars().all(is_plain)
}

/// Binds the listener.
///
/// # Errors
///
/// The address is in use or not permitted.
pub async fn bind(config: &Config) -> std::io::Result<TcpListener> {
    TcpListener::bind(SocketAddr::new(config.bind_address, config.bind_port)).await
}

/// Serves until the process ends; `files`, too, if there are any.
///
/// # Errors
///
/// The listener broke.
pub async fn serve(
    listener: TcpListener,
    config: &Config,
    ready: watch::Receiver<bool>,
    metrics: Arc<Registry>,
    files: Option<Files>,
) -> std::io::Result<()> {
    let readiness = move || {
        let ready = *ready.borrow();
        async move {
            if ready {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    };
    let shown = move || {
        let metrics = Arc::clone(&metrics);
        async move { ([(CONTENT_TYPE, TEXT_FORMAT)], metrics.render()) }
    };
    let router = Router::new()
        .route(&config.live_path, get(|| async { StatusCode::OK }))
        .route(&config.ready_path, get(readiness))
        .route(&config.metrics_path, get(shown));
    let router = match files {
        Some(files) => router.merge(folder(files)),
        None => router,
    };
    axum::serve(listener, router).await
}

fn folder(files: Files) -> Router {
    let path = format!("{}/{{name}}", files.path);
    let file = move |Path(name): Path<String>| {
        let found = (files.find)(&name).ok_or(StatusCode::NOT_FOUND);
        async move { found.map(|file| ([(CONTENT_TYPE, files.media_type)], file)) }
    };
    Router::new().route(&path, get(file))
}

const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;

    fn check(metrics_path: &str, is_good: bool) {
        let config = Config {
            metrics_path: metrics_path.into(),
            ..Config::default()
        };
        assert_eq!(config.check().is_ok(), is_good, "{metrics_path}");
    }

    #[test]
    fn paths_differ_and_are_plain() {
        check("/metrics", true);
        check("/a-b/c_d.e", true);
        check("/live", false);
        check("", false);
        check("metrics", false);
        check("/{any}", false);
    }
}
