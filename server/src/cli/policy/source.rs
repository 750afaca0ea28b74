//! Where a policy is: in a file, or on the server.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    str::FromStr,
};

use attest::policy::Policy;
use proto::plastron::policy::v1 as wire;

use super::{CommandError, read_policy, served};

/// A policy that is named.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Source {
    /// A file.
    File(PathBuf),
    /// A generation on the server, by the beginning of its identifier; empty for the newest.
    Server { name: String, generation: String },
}

/// A policy that was found.
pub(super) struct Found {
    pub(super) policy: Policy,
    /// As it is written.
    pub(super) text: String,
    /// What the server has under its name.
    pub(super) stored: Option<wire::Policy>,
}

impl FromStr for Source {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let Some(stored) = text.strip_prefix("server:") else {
            return Ok(Self::File(text.into()));
        };
        let (name, generation) = stored.split_once('@').unwrap_or((stored, ""));
        Ok(Self::Server {
            name: name.into(),
            generation: generation.to_ascii_lowercase(),
        })
    }
}

impl Source {
    /// Reads it, of the server behind `socket` where it is there.
    pub(super) fn read(&self, socket: &Path) -> Result<Found, CommandError> {
        match self {
            Self::File(path) => {
                let policy = read_policy(path)?;
                Ok(Found {
                    text: policy.canonical(),
                    policy,
                    stored: None,
                })
            }
            Self::Server { name, generation } => {
                let stored = served::get(socket, name)?;
                let meant = stored
                    .generations
                    .iter()
                    .filter(|known| known.id.starts_with(generation));
                let newest = meant.max_by_key(|known| known.version).ok_or_else(|| {
                    CommandError::Input(format!(
                        "the server has no such generation of policy {name} in use"
                    ))
                })?;
                let policy = Policy::parse(newest.text.as_bytes())
                    .map_err(|error| CommandError::Input(format!("the server's policy {name}: {error}")))?;
                Ok(Found {
                    text: newest.text.clone(),
                    policy,
                    stored: Some(stored),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_a_file_unless_it_is_said_to_be_the_servers() {
        let server = |name: &str, generation: &str| Source::Server {
            name: name.into(),
            generation: generation.into(),
        };
        let check = |text: &str, expected: Source| assert_eq!(text.parse(), Ok(expected), "{text}");
        check("rack-7.toml", Source::File("rack-7.toml".into()));
        check("./server:x", Source::File("./server:x".into()));
        check("server:rack-7", server("rack-7", ""));
        check("server:rack-7@1F0a", server("rack-7", "1f0a"));
    }
}
