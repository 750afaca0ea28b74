//! Writes the seeds under `fuzz/corpus` anew: `cargo run -p fuzz --example seeds`. They are committed, so this is
//! needed only when a format changes. Keys are drawn and thrown away.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a tool fails by a panic"
)]

mod attestor;
mod names;
mod policy;
mod sessions;
mod state;
mod tpm;
mod wire;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// Where seeds are written to, once.
static CORPUS: OnceLock<PathBuf> = OnceLock::new();

fn main() {
    write_to(root().join("fuzz/corpus"));
}

/// Writes all seeds into the folders of their targets in `corpus`.
pub(crate) fn write_to(corpus: PathBuf) {
    CORPUS.set(corpus).unwrap();
    attestor::write();
    names::write();
    policy::write();
    sessions::write();
    state::write();
    tpm::write();
    wire::write();
}

/// Writes a seed of a target.
fn seed(target: &str, name: &str, bytes: impl AsRef<[u8]>) {
    assert!(fuzz::target(target).is_some(), "there is no target {target}");
    let folder = CORPUS.get().unwrap().join(target);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), bytes).unwrap();
}

/// A file of the test data.
fn testdata(name: &str) -> Vec<u8> {
    fs::read(root().join("attest/testdata").join(name)).unwrap()
}

/// The names of the files in a folder of the test data, sorted.
fn files(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join("attest/testdata").join(folder)).unwrap();
    let files = entries.map(Result::unwrap).filter(|entry| entry.path().is_file());
    let mut names: Vec<_> = files
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Certificates in PEM, or one in DER.
fn certificates(bytes: Vec<u8>) -> Vec<Vec<u8>> {
    match pem::parse_many(&bytes) {
        Ok(pems) if !pems.is_empty() => pems.into_iter().map(pem::Pem::into_contents).collect(),
        _ => vec![bytes],
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
