//! Configuration files: TOML, overridden from the command line, refused with file, line and the nearest right
//! name. `config check` and `run` load the same way.

mod error;
mod expand;
mod overrides;

use std::{env, fs, path::Path};

use serde::de::DeserializeOwned;

pub use error::ConfigError;
use error::Source;
pub use expand::expand;

/// Longest configuration file in bytes.
const MAX_LEN: u64 = 1024 * 1024;

/// How a configuration is to be read.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `table.key=value` pairs that win over the file; values are TOML, or plain text.
    pub set: Vec<String>,
    /// Replace `$NAME` and `${NAME}` in the file by environment variables.
    pub expand_env: bool,
}

/// Loads a `T` from `path`.
///
/// # Errors
///
/// The file can't be read, is not TOML, or does not describe a `T`; the error says where and what to do.
pub fn load<T: DeserializeOwned>(path: &Path, options: &Options) -> Result<T, ConfigError> {
    let text = read(path)?;
    let text = if options.expand_env {
        expand(path, &text, &|name| env::var(name).ok())?
    } else {
        text
    };
    parse(path, &text, &options.set)
}

/// As [`load`], from a text.
///
/// # Errors
///
/// As [`load`].
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str, set: &[String]) -> Result<T, ConfigError> {
    let source = Source { path, text, set };
    let mut table: toml::Table = toml::from_str(text).map_err(|error| source.syntax(&error))?;
    overrides::apply(&mut table, set)?;
    serde_path_to_error::deserialize(table).map_err(|error| source.meaning(error))
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: path.into(),
        source,
    };
    if fs::metadata(path).map_err(failed)?.len() > MAX_LEN {
        return Err(ConfigError::TooLong {
            path: path.into(),
            max: MAX_LEN,
        });
    }
    fs::read_to_string(path).map_err(failed)
}

#[cfg(test)]
mod tests;
