//! Evidence of real machines, as `testdata` holds it.

use std::path::{Path, PathBuf};

use attest::{
    Digest, HashAlg, PcrValues,
    ek::{CaCertificate, EkRoots, Expiry},
};

/// An event log.
pub(crate) fn event_log(name: &str) -> Vec<u8> {
    read(&directory("eventlogs").join(name))
}

/// The names of all event logs, sorted.
pub(crate) fn event_logs() -> Vec<String> {
    files("eventlogs")
}

/// A measurement list of the kernel.
pub(crate) fn ima_list(name: &str) -> Vec<u8> {
    read(&directory("ima").join(name))
}

/// The names of all measurement lists, sorted.
pub(crate) fn ima_lists() -> Vec<String> {
    files("ima")
}

/// A part of a quote, if it came along.
pub(crate) fn quote_file(name: &str) -> Option<Vec<u8>> {
    files("quotes")
        .contains(&name.to_owned())
        .then(|| read(&directory("quotes").join(name)))
}

/// The names of all quotes, sorted.
pub(crate) fn quotes() -> Vec<String> {
    let mut names: Vec<_> = files("quotes")
        .iter()
        .map(|file| file.rsplit_once('.').unwrap().0.to_owned())
        .collect();
    names.dedup();
    names
}

/// A key or list of keys of Secure Boot.
pub(crate) fn secure_boot_file(name: &str) -> Vec<u8> {
    read(&directory("secure-boot").join(name))
}

/// The names of all files of keys of Secure Boot, sorted.
pub(crate) fn secure_boot_files() -> Vec<String> {
    files("secure-boot")
}

/// A certificate as it stands in NV memory.
pub(crate) fn ek_certificate(name: &str) -> Vec<u8> {
    let bytes = read(&directory("ek").join(name));
    match pem::parse(&bytes) {
        Ok(pem) => pem.into_contents(),
        Err(_) => bytes,
    }
}

/// The names of all endorsement certificates, sorted.
pub(crate) fn ek_certificates() -> Vec<String> {
    files("ek")
}

/// The roots and intermediates of all vendors.
pub(crate) fn ek_roots(expiry: Expiry) -> EkRoots {
    let of = |file: &str| {
        let bytes = read(&directory("ek/roots").join(file));
        let ders = match pem::parse_many(&bytes) {
            Ok(pems) if !pems.is_empty() => pems.into_iter().map(pem::Pem::into_contents).collect(),
            _ => vec![bytes],
        };
        ders.into_iter().map(|der| CaCertificate::parse(&der).unwrap())
    };
    let mut roots = EkRoots::new(expiry);
    let names = ["tpm-ca-certificates-roots.pem", "gstpmroot.crt"];
    names
        .into_iter()
        .flat_map(of)
        .for_each(|root| roots.add_root(root));
    let names = [
        "tpm-ca-certificates-intermediates.pem",
        "stmtpmekint02.crt",
        "stmtpmekroot.crt",
    ];
    names
        .into_iter()
        .flat_map(of)
        .for_each(|intermediate| roots.add_intermediate(intermediate));
    roots
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

/// The names of the files of a kind, sorted.
#[expect(clippy::disallowed_methods, reason = "only the crate itself has no files")]
fn files(kind: &str) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(directory(kind))
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
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
