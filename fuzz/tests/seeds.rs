//! The tool that writes the seeds anew.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::{
    fs,
    path::{Path, PathBuf},
};

#[path = "../examples/seeds/main.rs"]
#[expect(dead_code, reason = "its `main` is called by nobody here")]
mod seeds;

#[test]
fn what_the_tool_writes_is_committed() {
    let written = tempfile::tempdir().unwrap();
    seeds::write_to(written.path().into());
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let missing: Vec<PathBuf> = files(written.path())
        .map(|file| file.strip_prefix(written.path()).unwrap().to_owned())
        .filter(|name| !committed.join(name).is_file())
        .collect();
    assert!(
        missing.is_empty(),
        "run `cargo run -p fuzz --example seeds`, and commit {missing:?}"
    );
}

/// The files in the folders of `folder`.
fn files(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = |folder: PathBuf| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries(folder.into()).flat_map(entries)
}
