//! Evidence of real machines, as `testdata` holds it.

use std::path::{Path, PathBuf};

use attest::{Digest, HashAlg, PcrValues};

/// An event log.
pub(crate) fn event_log(name: &str) -> Vec<u8> {
    read(&directory("eventlogs").join(name))
}

/// The names of all event logs, sorted.
pub(crate) fn event_logs() -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(directory("eventlogs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// What a TPM said of its PCRs.
pub(crate) struct Pcrs {
    pub(crate) values: PcrValues,
    /// TPMS_ATTEST.
    pub(crate) quote: Option<Vec<u8>>,
}

/// Reads lines such as `sha256:0 d9f7…` and `quote ff54…`.
pub(crate) fn pcrs(name: &str) -> Pcrs {
    let text = read(&directory("pcrs").join(name).with_extension("txt"));
    let mut pcrs = Pcrs {
        values: PcrValues::default(),
        quote: None,
    };
    for line in str::from_utf8(&text).unwrap().lines() {
        let (key, hex) = line.split_once(' ').unwrap();
        let bytes = hex::decode(hex).unwrap();
        match key.split_once(':') {
            Some((bank, index)) => pcrs.values.set(alg(bank), index.parse().unwrap(), digest(bytes)),
            None => pcrs.quote = Some(bytes),
        }
    }
    pcrs
}

fn alg(bank: &str) -> HashAlg {
    [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512]
        .into_iter()
        .find(|alg| alg.to_string() == bank)
        .unwrap()
}

fn digest(bytes: Vec<u8>) -> Digest {
    bytes.into_iter().collect()
}

fn directory(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(kind)
}

#[expect(
    clippy::disallowed_methods,
    reason = "evidence is in files; only the crate itself reads none"
)]
fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
