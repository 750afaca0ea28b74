//! What is wrong with a configuration, and where.

use std::{
    borrow::Cow,
    io,
    path::{Path, PathBuf},
};

use serde_path_to_error::Segment;
use toml::de::{DeTable, DeValue};

/// A configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value is not what it should be.
    #[error("{place}: {reason}")]
    Meaning {
        /// File and line, or the override.
        place: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// An override is no assignment, or goes through something that is no table.
    #[error("--set {assignment}: expected table.key=value")]
    Override {
        /// As given.
        assignment: String,
    },
    /// The file can't be read.
    #[error("cannot read configuration `{}`", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{place}: {reason}")]
    Syntax {
        /// File and line.
        place: String,
        /// What the parser says.
        reason: String,
    },
    /// The file is not a configuration at all.
    #[error("configuration `{}` is longer than {max} bytes", path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
        /// The limit.
        max: u64,
    },
    /// The file names an environment variable that is not set.
    #[error("{}:{line}: environment variable `{name}` is not set", path.display())]
    Variable {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Which variable.
        name: String,
    },
}

/// Where a configuration came from, for error messages.
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
    pub(super) set: &'a [String],
}

impl Source<'_> {
    pub(super) fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        let place = self.line(error.span().map_or(0, |span| span.start));
        ConfigError::Syntax {
            place,
            reason: error.message().into(),
        }
    }

    pub(super) fn meaning(&self, error: serde_path_to_error::Error<toml::de::Error>) -> ConfigError {
        let mut keys: Vec<String> = error.path().iter().filter_map(key).collect();
        let inner = error.into_inner();
        let message = inner.message();
        let unknown = Unknown::parse(message);
        if let Some(unknown) = &unknown
            && keys.last().is_none_or(|last| last != unknown.name)
        {
            keys.push(unknown.name.into());
        }
        let name = keys.join(".");
        let reason = match unknown {
            Some(unknown) => unknown.explain(&name),
            None if name.is_empty() => without_text(message).into(),
            None => format!("`{name}`: {}", without_text(message)),
        };
        ConfigError::Meaning {
            place: self.place(&keys),
            reason,
        }
    }

    /// The override that set the key, else the line in the file that does, or the nearest table around it.
    fn place(&self, keys: &[String]) -> String {
        let dotted = keys.join(".");
        let from_override = self.set.iter().find(|assignment| {
            assignment.split_once('=').is_some_and(|(path, _)| {
                let path = path.trim();
                dotted == path || dotted.starts_with(&format!("{path}."))
            })
        });
        match from_override {
            Some(assignment) => format!("--set {}", shown(assignment)),
            None => self.line(self.offset(keys)),
        }
    }

    fn offset(&self, keys: &[String]) -> usize {
        let Ok(document) = DeTable::parse(self.text) else {
            return 0;
        };
        let mut table = document.get_ref();
        let mut offset = document.span().start;
        for key in keys {
            let Some((found, value)) = table.iter().find(|(name, _)| name.get_ref().as_ref() == key) else {
                return offset;
            };
            offset = found.span().start;
            match value.get_ref() {
                DeValue::Table(inner) => table = inner,
                _ => return offset,
            }
        }
        offset
    }

    fn line(&self, offset: usize) -> String {
        let before = self.text.as_bytes().iter().take(offset);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        format!("{}:{line}", self.path.display())
    }
}

/// An override as it is shown: without an address, which may have a secret in its path.
pub(super) fn shown(assignment: &str) -> &str {
    match assignment.split_once('=') {
        Some((path, value)) if value.contains("://") || path.trim_end().ends_with("url") => path,
        _ => assignment,
    }
}

/// What is wrong, without a text that stands where something else should: it may be an address, too.
fn without_text(message: &str) -> Cow<'_, str> {
    let of = |kind: &str| {
        let text = message.strip_prefix(kind)?.strip_prefix(" \"")?;
        let (_, expected) = text.rsplit_once("\", expected ")?;
        Some(format!("{kind}, expected {expected}"))
    };
    let without = of("invalid type: string").or_else(|| of("invalid value: string"));
    without.map_or(Cow::Borrowed(message), Cow::Owned)
}

fn key(segment: &Segment) -> Option<String> {
    match segment {
        Segment::Map { key } => Some(key.clone()),
        Segment::Enum { .. } | Segment::Seq { .. } | Segment::Unknown => None,
    }
}

/// A key that is not known, and those that are. serde says both in one sentence, each name in backticks.
struct Unknown<'a> {
    name: &'a str,
    known: Vec<&'a str>,
}

impl<'a> Unknown<'a> {
    fn parse(message: &'a str) -> Option<Self> {
        let names = message.strip_prefix("unknown field ")?;
        let mut names = names.split('`').skip(1).step_by(2);
        Some(Self {
            name: names.next()?,
            known: names.collect(),
        })
    }

    fn explain(&self, path: &str) -> String {
        let nearest = self
            .known
            .iter()
            .map(|known| (strsim::damerau_levenshtein(known, self.name), known))
            .filter(|(distance, known)| *distance <= 2.max(known.len() / 3))
            .min();
        match nearest {
            Some((_, nearest)) => format!("unknown key `{path}`; did you mean `{nearest}`?"),
            None => format!("unknown key `{path}`; known here: {}", self.known.join(", ")),
        }
    }
}
