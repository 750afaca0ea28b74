//! The health listener: `/live` and `/ready` over plain HTTP, for load balancers and supervisors.

use std::net::SocketAddr;

use axum::{Router, http::StatusCode, routing::get};
use serde::Deserialize;
use tokio::{net::TcpListener, sync::watch};

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
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listener_enabled: false,
            bind_address: std::net::Ipv4Addr::LOCALHOST.into(),
            bind_port: 80,
            live_path: "/live".into(),
            ready_path: "/ready".into(),
        }
    }
}

/// Binds the listener.
///
/// # Errors
///
/// The address is in use or not permitted.
pub async fn bind(config: &Config) -> std::io::Result<TcpListener> {
    TcpListener::bind(SocketAddr::new(config.bind_address, config.bind_port)).await
}

/// Serves until the process ends.
///
/// # Errors
///
/// The listener broke.
pub async fn serve(
    listener: TcpListener,
    config: &Config,
    ready: watch::Receiver<bool>,
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
    let router = Router::new()
        .route(&config.live_path, get(|| async { StatusCode::OK }))
        .route(&config.ready_path, get(readiness));
    axum::serve(listener, router).await
}
