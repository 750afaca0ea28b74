//! Every parser that takes a peer's or a file's bytes, as a function from bytes that must not panic.
//!
//! The same functions run under libFuzzer (`cargo xtask fuzz`) and under `tests/corpora.rs`, which replays what is
//! in `corpus/`. A target parses, uses what it parsed as its callers do, and asserts what has to hold: that
//! printing and parsing again give the same, that nothing is larger than the input, that nothing unsigned is
//! accepted. To add one, write a function `fn(&[u8])`, and a line of [`TARGETS`]; for a protobuf message the
//! line alone does, with [`wire::message`](targets::wire::message).

#![expect(
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "a panic is how a target says that a property does not hold"
)]

pub mod parts;
pub mod targets;

pub use targets::TARGETS;

use std::path::{Path, PathBuf};

/// A parser under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// By which it is chosen; also its folder under `corpus/`.
    pub name: &'static str,
    /// Parses, and panics if a property does not hold.
    pub run: fn(&[u8]),
    /// Longest input in bytes that is worth trying.
    pub max_len: usize,
    /// A folder whose files are seeds as well, from the root of the workspace.
    pub seeds: Option<&'static str>,
}

impl Target {
    /// The folders that hold its seeds.
    #[must_use]
    pub fn seed_folders(&self) -> Vec<PathBuf> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let own = root.join("corpus").join(self.name);
        let shared = self.seeds.map(|folder| root.join("..").join(folder));
        std::iter::once(own)
            .chain(shared)
            .filter(|folder| folder.is_dir())
            .collect()
    }
}

/// The target with this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
