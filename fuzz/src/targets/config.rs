//! Configuration files. Settings from the command line are the operator's own: the last line is taken for one.

use std::path::Path;

use edge::config::{ConfigError, expand, parse};
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

/// A file with variables, of which those that begin with `A` have values. Whatever they are, lines stay lines, so that
/// errors name the right one; and nothing else changes.
pub fn expanded(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let value = |name: &str| name.starts_with('A').then(|| "$value".to_owned());
    match expand(Path::new("server.toml"), text, &value) {
        Ok(expanded) => {
            assert_eq!(expanded.lines().count(), text.lines().count());
            assert!(text.contains('$') || expanded == text);
        }
        Err(ConfigError::Variable { line, name, .. }) => {
            let named = text.split('\n').nth(line - 1);
            assert!(named.is_some_and(|line| line.contains(&name)), "{line}: {name}");
        }
        Err(error) => panic!("{error}"),
    }
}
