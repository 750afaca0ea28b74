//! Evidence of a TPM in software, and of real ones.

use std::fs;

use attest::{HashAlg, event_log::EventLog};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use fuzz::{parts::join, targets::evidence::BINDING};
use rcgen::{KeyPair, PublicKeyData};

use super::{certificates, files, root, seed, testdata};

const POLICY_A: &str = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";
const POLICY_B_SHA384: &str =
    "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12";
/// A small log of a virtual machine that separates PCR 0 to 7.
const LOG: &str = "eventlogs/vm-sdboot-type1.bin";

pub(crate) fn write() {
    keys();
    statements();
    ek_certificates();
    captured();
    pcr_files();
    seed("ek_hash", "hex", POLICY_A);
    seed("ek_hash", "capitals", POLICY_A.to_uppercase());
}

/// Quotes of real TPMs with their keys.
fn captured() {
    for name in ["vm-sb-systemd", "goattest-windows_gcp_shielded_vm"] {
        let text = String::from_utf8(testdata(&format!("quotes/{name}.txt"))).unwrap();
        let part = |part: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(' '));
            hex::decode(lines.find(|(name, _)| *name == part).unwrap().1).unwrap()
        };
        let parts = join(&[&part("ak"), &part("quote")]);
        seed("captured", name, [parts, part("signature")].concat());
    }
}

/// The forms in which tools print PCRs.
fn pcr_files() {
    let value = "ab".repeat(32);
    let capitals = value.to_uppercase();
    seed(
        "pcr_file",
        "yaml",
        format!("  sha1:\n  sha256:\n    0 : 0x{capitals}\n    7 : 0x{value}\n"),
    );
    let json = format!(r#"{{"pcrs": [{{"bank": "sha256", "index": 0, "value": "{value}"}}]}}"#);
    seed("pcr_file", "json", json);
    let long = "cd".repeat(48);
    seed(
        "pcr_file",
        "lines",
        format!("# noted\nsha256:0={value}\nsha384:1 {long}\n"),
    );
}

fn keys() {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let ak = attestation_key(&key);
    let p256 = ecc_ek(&rcgen::PKCS_ECDSA_P256_SHA256, 3);
    let p384 = ecc_ek(&rcgen::PKCS_ECDSA_P384_SHA384, 4);
    let rsa = rsa_ek();
    for target in ["public", "ak"] {
        seed(target, "ak", &ak);
    }
    for target in ["public", "ek", "credential"] {
        seed(target, "ek-p256", &p256);
        seed(target, "ek-p384", &p384);
        seed(target, "ek-rsa", &rsa);
    }
    seed("name", "sha256", name_of(&ak));
    seed("name", "sha384", [&[0, 0x0c][..], &[7; 48]].concat());
    evidence(&key, &ak);
}

/// Good evidence, and its parts as seeds of their own.
fn evidence(key: &EcdsaKeyPair, ak: &[u8]) {
    let log = testdata(LOG);
    let selection = attest::PcrSelection::new(vec![(HashAlg::Sha256, (0..=7).collect())]).unwrap();
    let values = EventLog::parse(&log).unwrap().replay(HashAlg::Sha256).unwrap();
    let digest = values.digest(&selection, HashAlg::Sha256);
    let quoted = [
        &[0, 0, 0, 1, 0, 0x0b, 3, 0xff, 0, 0][..],
        &sized(digest.as_bytes()),
    ]
    .concat();
    let signer = HashAlg::Sha256.digest(&[&0x4000_000b_u32.to_be_bytes(), &name_of(ak)]);
    let signer = [&[0, 0x0b][..], signer.as_bytes()].concat();
    let statement = statement(0x8018, &signer, &BINDING.extra_data(), &quoted);
    let signature = key.sign(&SystemRandom::new(), &statement).unwrap();
    let (r, s) = signature.as_ref().split_at(32);
    let signature = [words(&[0x18, 0x0b]), sized(r), sized(s)].concat();
    seed(
        "evidence",
        "good",
        [join(&[ak, &statement, &signature]), log].concat(),
    );
    seed("quote", "software", join(&[&statement, &signature]));
    seed("statement", "software", &statement);
    seed("signature", "ecdsa", &signature);
    seed(
        "signature",
        "rsassa",
        [words(&[0x14, 0x0b]), sized(&[5; 256])].concat(),
    );
    seed(
        "signature",
        "rsapss",
        [words(&[0x16, 0x0c]), sized(&[6; 384])].concat(),
    );
    let certified = [sized(&name_of(ak)), sized(&signer)].concat();
    seed(
        "statement",
        "certify",
        self::statement(0x8017, &signer, &[1; 32], &certified),
    );
    let two = [0, 0, 0, 2, 0, 0x0b, 3, 0xff, 0x43, 0, 0, 0x04, 3, 1, 0, 0x80];
    seed("pcr_selection", "two-banks", two);
    seed("pcr_selection", "one-bank", &quoted[..10]);
    seed(
        "pcr_selection",
        "nothing-selected",
        [0, 0, 0, 1, 0, 0x0b, 3, 0, 0, 0],
    );
}

/// What real TPMs signed.
fn statements() {
    for file in files("pcrs") {
        let text = String::from_utf8(testdata(&format!("pcrs/{file}"))).unwrap();
        let quote = text.lines().find_map(|line| line.strip_prefix("quote "));
        if let Some(quote) = quote.map(|hex| hex::decode(hex).unwrap()) {
            seed("statement", file.trim_end_matches(".txt"), &quote);
        }
    }
}

fn ek_certificates() {
    let between = ["stmtpmekint02.crt", "stmtpmekroot.crt"].map(|name| testdata(&format!("ek/cas/{name}")));
    for file in files("ek") {
        let leaf = &certificates(testdata(&format!("ek/{file}")))[0];
        let name = file.rsplit_once('.').unwrap().0;
        seed("ek_certificate", name, leaf);
        seed("ek_chain", name, join(&[leaf, &between[0], &between[1]]));
    }
    let leaf = &certificates(testdata("ek/hirs-nuc-1_tpmcert.pem"))[0];
    let padded = [&[0x10, 1, 0, 4, 0x2a, 0x10, 2][..], leaf, &[0; 32]].concat();
    seed("ek_certificate", "nv-header", padded);
    for name in ["gstpmroot", "stmtpmekint02", "stmtpmekroot"] {
        seed("ca_certificate", name, testdata(&format!("ek/cas/{name}.crt")));
    }
    let roots = vendor_roots();
    for (index, root) in roots.iter().enumerate().step_by(3) {
        seed("ca_certificate", &format!("vendor-{index}"), root);
    }
}

/// Roots of all vendors, as they are shipped.
fn vendor_roots() -> Vec<Vec<u8>> {
    let folder = root().join("attest/roots");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|path| path.to_str().is_some_and(|path| path.ends_with("-roots.pem")))
        .collect();
    files.sort();
    files
        .iter()
        .flat_map(|file| certificates(fs::read(file).unwrap()))
        .collect()
}

fn attestation_key(key: &EcdsaKeyPair) -> Vec<u8> {
    let (x, y) = key.public_key().as_ref()[1..].split_at(32);
    let scheme = words(&[0x10, 0x18, 0x0b, 3, 0x10]);
    [area(0x23, 0x0b, 0x0005_0472, &[]), scheme, sized(x), sized(y)].concat()
}

fn ecc_ek(algorithm: &'static rcgen::SignatureAlgorithm, curve: u16) -> Vec<u8> {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let point = &key.der_bytes()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    let (front, bits) = match curve {
        3 => (
            area(0x23, 0x0b, 0x0003_00b2, &hex::decode(POLICY_A).unwrap()),
            128,
        ),
        _ => (
            area(0x23, 0x0c, 0x0003_00f2, &hex::decode(POLICY_B_SHA384).unwrap()),
            256,
        ),
    };
    let parameters = words(&[6, bits, 0x43, 0x10, curve, 0x10]);
    [front, parameters, sized(x), sized(y)].concat()
}

fn rsa_ek() -> Vec<u8> {
    let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    // SEQUENCE and INTEGER have headers of four bytes, and the sign is one.
    let modulus = &key.der_bytes()[9..265];
    let front = area(0x01, 0x0b, 0x0003_00b2, &hex::decode(POLICY_A).unwrap());
    let parameters = words(&[6, 128, 0x43, 0x10, 2048, 0, 0]);
    [front, parameters, sized(modulus)].concat()
}

fn area(kind: u16, name_alg: u16, attributes: u32, policy: &[u8]) -> Vec<u8> {
    [
        words(&[kind, name_alg]),
        attributes.to_be_bytes().into(),
        sized(policy),
    ]
    .concat()
}

fn statement(kind: u16, signer: &[u8], extra_data: &[u8], attested: &[u8]) -> Vec<u8> {
    // Clock, resetCount, restartCount, safe; then firmwareVersion.
    let clock = [words(&[0, 0, 0, 9, 0, 7, 0, 1]), vec![1], words(&[0, 0, 0, 3])].concat();
    let magic = words(&[0xff54, 0x4347, kind]);
    [magic, sized(signer), sized(extra_data), clock, attested.into()].concat()
}

fn name_of(public: &[u8]) -> Vec<u8> {
    [&[0, 0x0b][..], HashAlg::Sha256.digest(&[public]).as_bytes()].concat()
}

fn words(words: &[u16]) -> Vec<u8> {
    words.iter().copied().flat_map(u16::to_be_bytes).collect()
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}
