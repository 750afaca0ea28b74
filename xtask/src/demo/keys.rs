//! Looks for private keys in a folder: in PEM, in DER at any place of a file, in base64 or hex within text, and in
//! JSON Web Keys.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::Value;

/// What a folder holds.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Every file, from the folder.
    pub(super) files: Vec<PathBuf>,
    /// Private keys, by what they are in DER.
    pub(super) keys: BTreeMap<Vec<u8>, PathBuf>,
    /// Files with private JSON Web Keys.
    pub(super) jwks: BTreeSet<PathBuf>,
    /// Certificates, in DER.
    pub(super) certificates: BTreeSet<Vec<u8>>,
}

/// Shorter runs of text hold no key: an Ed25519 key has 48 bytes in PKCS#8.
const SHORTEST: usize = 64;

impl Found {
    /// Searches `folder`.
    ///
    /// # Errors
    ///
    /// Something in it can't be read.
    pub(super) fn within(folder: &Path) -> Result<Self> {
        let mut found = Self {
            files: files(folder)?,
            ..Self::default()
        };
        for file in found.files.clone() {
            let content = fs::read(folder.join(&file)).with_context(|| file.display().to_string())?;
            found.look_into(&content, &file);
        }
        Ok(found)
    }

    fn look_into(&mut self, content: &[u8], file: &Path) {
        self.note_der(content, file);
        let text = String::from_utf8_lossy(content);
        for (label, body) in pem_blocks(&text.replace("\\n", "\n").replace("\\r", "")) {
            if label.ends_with("PRIVATE KEY") {
                self.keys
                    .insert(base64(&body).unwrap_or(body.into_bytes()), file.into());
            } else if let Some(der) = base64(&body) {
                self.note_der(&der, file);
            }
        }
        let joined: String = text.split_whitespace().collect();
        for run in [&*text, &joined].into_iter().flat_map(runs) {
            let decoded = [hex::decode(run).ok(), base64(run)];
            for bytes in decoded.into_iter().flatten() {
                self.note_der(&bytes, file);
            }
        }
        if serde_json::from_str(&text).is_ok_and(|json| has_private_jwk(&json)) {
            self.jwks.insert(file.into());
        }
    }

    /// Keys and certificates that begin at any byte.
    fn note_der(&mut self, content: &[u8], file: &Path) {
        for at in 0..content.len() {
            let Some((whole, body)) = content.get(at..).and_then(sequence) else {
                continue;
            };
            if is_private_key(body) {
                self.keys.insert(whole.into(), file.into());
            } else if is_certificate(body) {
                self.certificates.insert(whole.into());
            }
        }
    }
}

/// Every file below `folder`, sockets aside.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).with_context(|| next.display().to_string())? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if entry.file_type()?.is_file() {
                files.push(entry.path().strip_prefix(folder)?.to_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Label and body of each PEM block (RFC 7468), the body without its line ends.
fn pem_blocks(text: &str) -> Vec<(String, String)> {
    let blocks = text.split("-----BEGIN ").skip(1);
    let parsed = blocks.filter_map(|block| {
        let (label, rest) = block.split_once("-----")?;
        let (body, _) = rest.split_once("-----END ")?;
        // Headers of the old encrypted format have a colon.
        let lines = body.lines().filter(|line| !line.contains(':'));
        Some((label.to_owned(), lines.map(str::trim).collect()))
    });
    parsed.collect()
}

/// Runs of letters that base64 or hex may consist of.
fn runs(text: &str) -> impl Iterator<Item = &str> {
    let is_other = |letter: char| !letter.is_ascii_alphanumeric() && !"+/-_".contains(letter);
    text.split(is_other).filter(|run| run.len() >= SHORTEST)
}

/// Either alphabet, with padding or without.
fn base64(text: &str) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let standard = text.replace('-', "+").replace('_', "/");
    GeneralPurpose::new(&STANDARD, config).decode(standard).ok()
}

/// A DER SEQUENCE of more than 16 bytes at the beginning of `bytes`: the whole of it, and its content.
fn sequence(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (header, length) = match bytes {
        [0x30, 0x82, high, low, ..] => (4, usize::from(u16::from_be_bytes([*high, *low]))),
        [0x30, 0x81, length, ..] => (3, usize::from(*length)),
        [0x30, length @ 0x11..=0x7f, ..] => (2, usize::from(*length)),
        _ => return None,
    };
    let whole = bytes.get(..header + length)?;
    Some((whole, whole.get(header..)?))
}

/// A version, and what follows it in PKCS#8 (an algorithm), SEC 1 (the key) or PKCS#1 (the modulus).
fn is_private_key(content: &[u8]) -> bool {
    match content {
        [0x02, 0x01, 0x00 | 0x01, algorithm @ ..] if algorithm.first() == Some(&0x30) => {
            algorithm.get(2) == Some(&0x06)
        }
        [0x02, 0x01, 0x01, 0x04, ..] | [0x02, 0x01, 0x00, 0x02, 0x81 | 0x82, ..] => true,
        _ => false,
    }
}

/// X.509 of version 3: what is to be signed begins with its version.
fn is_certificate(content: &[u8]) -> bool {
    sequence(content).is_some_and(|(_, signed)| signed.starts_with(&[0xa0, 0x03, 0x02, 0x01, 0x02]))
}

/// A key of any kind with its private part (RFC 7518 §6).
fn has_private_jwk(json: &Value) -> bool {
    match json {
        Value::Array(items) => items.iter().any(has_private_jwk),
        Value::Object(members) => {
            let is_private =
                members.contains_key("kty") && ["d", "k"].iter().any(|name| members.contains_key(*name));
            is_private || members.values().any(has_private_jwk)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

    use super::*;

    fn openssl(words: &str) -> Vec<u8> {
        let output = Command::new("openssl").args(words.split(' ')).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    }

    fn look(content: &[u8]) -> Found {
        let mut found = Found::default();
        found.look_into(content, Path::new("file"));
        found
    }

    /// However it is written, the one key is found, and nothing else is taken for one.
    fn check(der: &[u8], name: &str) {
        let (standard, url) = (BASE64_STANDARD.encode(der), BASE64_URL_SAFE_NO_PAD.encode(der));
        let lines: Vec<_> = standard
            .as_bytes()
            .chunks(64)
            .map(String::from_utf8_lossy)
            .collect();
        let lines = lines.join("\n");
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{lines}\n-----END PRIVATE KEY-----\n");
        let forms = [
            ("DER", der.to_vec()),
            ("DER within", [&b"before"[..], der, b"after"].concat()),
            ("PEM", pem.clone().into_bytes()),
            (
                "PEM in JSON",
                serde_json::json!({ "key": pem }).to_string().into_bytes(),
            ),
            (
                "base64 in JSON",
                serde_json::json!({ "key": standard }).to_string().into_bytes(),
            ),
            ("base64url", format!("key={url}\n").into_bytes()),
            ("base64 in lines", format!("{{\"\n{lines}\n\"}}").into_bytes()),
            ("hex", format!("key: {}\n", hex::encode(der)).into_bytes()),
        ];
        for (form, content) in forms {
            let found = look(&content).keys;
            assert!(found.contains_key(der), "{name} as {form} is not found");
        }
    }

    #[test]
    fn a_private_key_is_found_however_it_is_written() {
        let kinds = [
            (
                "P-256",
                "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -outform DER",
            ),
            (
                "P-384",
                "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -outform DER",
            ),
            ("Ed25519", "genpkey -algorithm ED25519 -outform DER"),
            ("RSA", "genpkey -algorithm RSA -outform DER"),
            ("SEC 1", "ecparam -name prime256v1 -genkey -noout -outform DER"),
            ("PKCS#1", "genrsa -traditional 2048"),
        ];
        for (name, words) in kinds {
            let made = openssl(words);
            let from_pem = || look(&made).keys.into_keys().next().unwrap();
            let der = if made.starts_with(b"-----") {
                from_pem()
            } else {
                made.clone()
            };
            check(&der, name);
        }
    }

    #[test]
    fn an_encrypted_key_is_found() {
        let key = openssl("genpkey -algorithm ED25519 -aes-256-cbc -pass pass:secret");
        assert_eq!(look(&key).keys.len(), 1);
    }

    #[test]
    fn a_private_web_key_is_found_and_a_public_one_is_not() {
        let set =
            |member: &str| format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","x":"a","{member}":"b"}}]}}"#);
        assert_eq!(look(set("d").as_bytes()).jwks.len(), 1);
        assert_eq!(look(set("y").as_bytes()).jwks.len(), 0);
    }

    #[test]
    fn what_is_public_is_no_private_key() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key").display().to_string();
        let made = format!("req -x509 -newkey rsa:2048 -noenc -subj /CN=a -keyout {key}");
        let certificate = openssl(&made);
        let found = look(&certificate);
        assert_eq!((found.keys.len(), found.certificates.len()), (0, 1));
        let request = openssl(&format!("req -new -key {key} -subj /CN=a"));
        assert_eq!(look(&request).keys.len(), 0);
        let public = openssl(&format!("pkey -in {key} -pubout"));
        assert_eq!(look(&public).keys.len(), 0);
    }
}
