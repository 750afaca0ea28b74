//! Values of PCRs as tools print them.

use crate::{Digest, HashAlg, PcrSet, PcrValues};

/// A file does not say what PCRs hold.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "line {line}: `{word}` is no bank, PCR or value; a file reads `sha256:0=9a3c…`, as `tpm2_pcrread` prints it, or as JSON"
)]
pub struct PcrFileError {
    /// Which line, from 1.
    pub line: usize,
    /// What stands there.
    pub word: String,
}

/// Longest file in bytes.
const MAX_LEN: usize = 1 << 20;
/// Words of JSON that say nothing.
const NAMES: [&str; 6] = ["alg", "bank", "digest", "index", "pcrs", "value"];
/// Longest word that an error repeats.
const MAX_SHOWN: usize = 40;

impl PcrValues {
    /// Reads what `tpm2_pcrread` or an operator wrote: the names of banks, each followed by PCRs, each followed by its value in hexadecimal, between any punctuation.
    ///
    /// # Errors
    ///
    /// The first word that is none of these, or out of turn; or one PCR has two values.
    pub fn from_text(text: &str) -> Result<Self, PcrFileError> {
        let mut values = Self::default();
        let (mut bank, mut pcr) = (None, None);
        let text = text.get(..text.len().min(MAX_LEN)).unwrap_or_default();
        for (number, line) in text.lines().enumerate() {
            let content = line.split('#').next().unwrap_or_default();
            for word in content.split(is_punctuation).filter(|word| !word.is_empty()) {
                let wrong = || PcrFileError {
                    line: number + 1,
                    word: word.chars().take(MAX_SHOWN).collect(),
                };
                if NAMES.contains(&word) {
                    continue;
                }
                if let Some(alg) = alg(word) {
                    bank = Some(alg);
                    pcr = None;
                } else if let Some(index) = index(word) {
                    pcr = Some(index);
                } else {
                    let (alg, pcr) = bank.zip(pcr.take()).ok_or_else(wrong)?;
                    let value = value(word, alg).ok_or_else(wrong)?;
                    if values.get(alg, pcr).is_some_and(|known| *known != value) {
                        return Err(wrong());
                    }
                    values.set(alg, pcr, value);
                }
            }
        }
        Ok(values)
    }
}

fn is_punctuation(char: char) -> bool {
    char.is_whitespace() || matches!(char, ':' | '=' | ',' | '"' | '{' | '}' | '[' | ']')
}

fn alg(word: &str) -> Option<HashAlg> {
    [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512]
        .into_iter()
        .find(|alg| word.eq_ignore_ascii_case(&alg.to_string()))
}

/// At most two digits: no value is as short.
fn index(word: &str) -> Option<u8> {
    let index = word.parse().ok().filter(|_| word.len() <= 2)?;
    (index < PcrSet::COUNT).then_some(index)
}

fn value(word: &str, alg: HashAlg) -> Option<Digest> {
    let digits = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"));
    let bytes = hex::decode(digits.unwrap_or(word)).ok()?;
    (bytes.len() == alg.digest_len()).then(|| bytes.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_tools_print() {
        let hex = "Ab".repeat(32);
        let expected = Digest::filled(0xab, HashAlg::Sha256);
        for text in [
            format!("  sha1:\n  sha256:\n    0 : 0x{hex}\n    7 : 0x{hex}\n"),
            format!("sha256:0={hex}\nsha256:7={hex}\n"),
            format!("# as noted\nSHA256:0 {hex}\nsha256:7 {hex}"),
            format!(r#"{{"sha256": {{"0": "{hex}", "7": "{hex}"}}}}"#),
            format!(
                r#"{{"pcrs": [{{"bank": "sha256", "index": 0, "value": "{hex}"}}, {{"bank": "sha256", "index": 7, "value": "{hex}"}}]}}"#
            ),
        ] {
            let values = PcrValues::from_text(&text).unwrap();
            let seen: Vec<_> = values.iter().collect();
            assert_eq!(
                seen,
                [(HashAlg::Sha256, 0, &expected), (HashAlg::Sha256, 7, &expected)],
                "{text}"
            );
        }
    }

    #[test]
    fn says_where_a_file_is_wrong() {
        let (hex, short) = ("ab".repeat(32), "ab".repeat(20));
        for (text, line, word) in [
            ("sha256:0=xyz".into(), 1, "xyz"),
            ("\nsha256:24=00".into(), 2, "24"),
            (hex.clone(), 1, &short),
            (format!("sha384:0={hex}"), 1, &short),
            (
                format!("sha256:0={hex}\nsha256:0={}", "cd".repeat(32)),
                2,
                &"cd".repeat(20),
            ),
            (format!("sha256:0={hex} {hex}"), 1, &short),
        ] {
            let error = PcrValues::from_text(&text).unwrap_err();
            assert_eq!((error.line, &*error.word), (line, word), "{text}");
        }
    }
}
