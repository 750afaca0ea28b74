//! Configuration files. Settings from the command line are the operator's own: the last line is taken for one.

use std::path::Path;

use edge::config::{ConfigError, parse};
use serde::de::DeserializeOwned;

/// `server.toml`.
pub fn server(bytes: &[u8]) {
    if let Some(config) = read::<server::config::Config>("server.toml", bytes) {
        let _unworkable = config.check().map_err(|error| error.to_string());
    }
}

/// `agent.toml`.
pub fn agent(bytes: &[u8]) {
    if let Some(config) = read::<agent::config::Config>("agent.toml", bytes) {
        let _unworkable = config.check().map_err(|error| error.to_string());
    }
}

/// Reads a configuration. Every refusal says where, or which override.
fn read<T: DeserializeOwned>(file: &str, bytes: &[u8]) -> Option<T> {
    let text = str::from_utf8(bytes).ok()?;
    let (text, set) = match text.rsplit_once("\n--set ") {
        Some((text, assignment)) => (text, vec![assignment.to_owned()]),
        None => (text, vec![]),
    };
    let parsed = parse(Path::new(file), text, &set);
    if let Err(ConfigError::Meaning { place, .. } | ConfigError::Syntax { place, .. }) = &parsed {
        assert!(place.starts_with(file) || place.starts_with("--set"), "{place}");
    }
    parsed.ok()
}
