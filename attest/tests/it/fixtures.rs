//! Evidence of real machines, as `testdata` holds it.

use std::{
    fs::FileType,
    path::{Path, PathBuf},
};

use attest::{
    Digest, HashAlg, PcrValues,
    ek::{CaCertificate, CaKey, EkRoots, Expiry},
};
use rcgen::KeyPair;

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

/// The measurement list of a machine, if there is one.
pub(crate) fn ima_list_of(machine: &str) -> Option<Vec<u8>> {
    let name = format!("{machine}.bin");
    files("ima").contains(&name).then(|| ima_list(&name))
}

/// A key or list of keys of Secure Boot.
pub(crate) fn secure_boot_file(name: &str) -> Vec<u8> {
    der(&directory("secure-boot").join(name))
}

/// A certificate as it stands in NV memory.
pub(crate) fn ek_certificate(name: &str) -> Vec<u8> {
    der(&directory("ek").join(name))
}

/// A reference integrity manifest.
pub(crate) fn manifest(name: &str) -> String {
    String::from_utf8(read(&directory("rim").join(name))).unwrap()
}

/// The names of all captured quotes that begin so, sorted.
pub(crate) fn quotes(prefix: &str) -> Vec<String> {
    let names = files("quotes").into_iter();
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// The names of all certificates that might be endorsement keys', sorted.
pub(crate) fn ek_certificates() -> Vec<String> {
    let platform = files("ek/platform")
        .into_iter()
        .map(|name| format!("platform/{name}"));
    files("ek").into_iter().chain(platform).collect()
}

/// A certificate of a vendor's CA.
pub(crate) fn ca_certificate(name: &str) -> Vec<u8> {
    ek_certificate(&format!("cas/{name}"))
}

/// An RSA key in software that anybody can factor.
pub(crate) fn weak_key(name: &str) -> KeyPair {
    let pem = pem::parse(read(&directory("ek/weak").join(name))).unwrap();
    KeyPair::try_from(pem.contents()).unwrap()
}

/// The roots and intermediates of all vendors, as they are shipped.
pub(crate) fn ek_roots(expiry: Expiry) -> EkRoots {
    let mut roots = EkRoots::new(expiry);
    roots.add_shipped();
    roots
}

/// Keys of the CAs in the shipped files of this kind, `roots` or `intermediates`: vendor and key.
pub(crate) fn shipped(kind: &str) -> Vec<(String, CaKey)> {
    let mut keys = Vec::new();
    for name in files("../roots") {
        let Some(vendor) = name.strip_suffix(&format!("-{kind}.pem")) else {
            continue;
        };
        let bytes = read(&directory("../roots").join(&name));
        for block in pem::parse_many(bytes).unwrap() {
            let certificate = CaCertificate::parse(block.contents()).unwrap();
            keys.push((vendor.to_owned(), certificate.key()));
        }
    }
    keys
}

/// A quote that other software took.
pub(crate) struct CapturedEvidence {
    /// TPMT_PUBLIC, where it was kept.
    pub(crate) ak: Option<Vec<u8>>,
    pub(crate) nonce: Vec<u8>,
    pub(crate) quote: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    /// The key alone (SubjectPublicKeyInfo), and another quote with a plain signature.
    pub(crate) plain: Option<[Vec<u8>; 3]>,
}

/// Reads lines such as `quote ff54…`.
pub(crate) fn quote(name: &str) -> CapturedEvidence {
    let text = read(&directory("quotes").join(name));
    let text = String::from_utf8(text).unwrap();
    let field = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(|digits| hex::decode(digits).unwrap())
    };
    CapturedEvidence {
        ak: field("ak"),
        nonce: field("nonce").unwrap_or_default(),
        quote: field("quote").unwrap(),
        signature: field("signature").unwrap(),
        plain: field("spki").map(|key| {
            let [quote, signature] = ["plain-quote", "plain-signature"].map(|name| field(name).unwrap());
            [key, quote, signature]
        }),
    }
}

/// The quote of a machine, if there is one.
pub(crate) fn quote_of(machine: &str) -> Option<CapturedEvidence> {
    let name = format!("{machine}.txt");
    files("quotes").contains(&name).then(|| quote(&name))
}

/// What a TPM said of its PCRs.
#[derive(Default)]
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

/// Whose values are of the machine that a file is of: the longest name that it begins with.
pub(crate) fn tpm_of(file: &str) -> Option<String> {
    files("pcrs")
        .into_iter()
        .filter_map(|name| name.strip_suffix(".txt").map(str::to_owned))
        .filter(|tpm| {
            file.strip_prefix(tpm.as_str())
                .is_some_and(|rest| rest.starts_with(['-', '.']))
        })
        .max_by_key(String::len)
}

/// Every file of `testdata` in a folder, and of `roots`, sorted: `ek/cas/IFX1.pem`.
pub(crate) fn all_files() -> Vec<String> {
    let mut found = Vec::new();
    let mut folders: Vec<_> = folders("").into_iter().collect();
    while let Some(folder) = folders.pop() {
        found.extend(files(&folder).into_iter().map(|name| format!("{folder}/{name}")));
        folders.extend(
            self::folders(&folder)
                .iter()
                .map(|name| format!("{folder}/{name}")),
        );
    }
    let roots = files("../roots")
        .into_iter()
        .filter(|name| name.ends_with(".pem"));
    found.extend(roots.map(|name| format!("roots/{name}")));
    found.sort();
    found
}

/// The names of the files of a kind, sorted.
fn files(kind: &str) -> Vec<String> {
    entries(kind, FileType::is_file)
}

fn folders(kind: &str) -> Vec<String> {
    entries(kind, FileType::is_dir)
}

#[expect(clippy::disallowed_methods, reason = "only the crate itself has no files")]
fn entries(kind: &str, is_meant: fn(&FileType) -> bool) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(directory(kind))
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| is_meant(&entry.file_type().unwrap()))
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Without the armour, if there is any.
fn der(path: &Path) -> Vec<u8> {
    let bytes = read(path);
    match pem::parse(&bytes) {
        Ok(pem) => pem.into_contents(),
        Err(_) => bytes,
    }
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
