//! Values of PCRs as tools print or write them.

mod binary;

use crate::{Digest, HashAlg, PcrSelection, PcrSet, PcrValues};

/// A file does not say what PCRs hold.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PcrFileError {
    /// It has digests alone, as many bytes of them as no PCRs in question have.
    #[error(
        "it is neither text nor what `tpm2_quote -o` writes; digests alone (`tpm2_quote -F values`) count beside the quote over them, {expected} bytes for this one, not {found}"
    )]
    Binary {
        /// How long digests alone are to be; 0 where there is no quote.
        expected: usize,
        /// How long it is.
        found: usize,
    },
    /// It is what `tpm2_quote -o` writes, and does not fit.
    #[error("it is no whole file of `tpm2_quote -o`: its values are not as many or not as long as it says")]
    Digests,
    /// It is longer than any such file.
    #[error("it is longer than 1 MiB: a file of PCRs has one line a PCR")]
    TooLong,
    /// It has no value of a bank that is known.
    #[error(
        "it has no value of a PCR of sha1, sha256, sha384 or sha512; `tpm2_pcrread` prints those of a TPM"
    )]
    Nothing,
    /// A PCR has no value.
    #[error("line {line}: PCR {pcr} has no value behind it; a file reads `sha256:0=9a3c…`")]
    NoValue {
        /// Which line, from 1, says what it is followed by instead.
        line: usize,
        /// The PCR.
        pcr: u8,
    },
    /// A word is none of a bank, PCR or value, or out of turn.
    #[error(
        "line {line}: `{word}` is no bank, PCR or value; a file reads `sha256:0=9a3c…`, as `tpm2_pcrread` prints it, or as JSON"
    )]
    Word {
        /// Which line, from 1.
        line: usize,
        /// What stands there.
        word: String,
    },
}

/// Longest file in bytes.
const MAX_LEN: usize = 1 << 20;
/// Words of JSON that say nothing.
const NAMES: [&str; 6] = ["alg", "bank", "digest", "index", "pcrs", "value"];
/// Longest word that an error repeats.
const MAX_SHOWN: usize = 40;
/// Banks that TPMs have and nothing here reads, with their sizes in bytes.
const OTHER_BANKS: [(&str, usize); 4] = [
    ("sm3_256", 32),
    ("sha3_256", 32),
    ("sha3_384", 48),
    ("sha3_512", 64),
];

/// A bank that a file names.
#[derive(Clone, Copy)]
enum Bank {
    Known(HashAlg),
    /// Its values, of so many bytes, are skipped.
    Other(usize),
}

impl PcrValues {
    /// Reads a file of PCRs: text as [`from_text`](Self::from_text), what `tpm2_quote -o` writes, or the values alone in the
    /// order of `selection`, that of the quote over them.
    ///
    /// # Errors
    ///
    /// It is none of these, or not a whole one.
    pub fn from_file(bytes: &[u8], selection: Option<&PcrSelection>) -> Result<Self, PcrFileError> {
        if bytes.len() > MAX_LEN {
            return Err(PcrFileError::TooLong);
        }
        if binary::is_marshaled(bytes) {
            return binary::marshaled(bytes).ok_or(PcrFileError::Digests);
        }
        let is_character = |char: char| !char.is_control() || char.is_whitespace();
        match str::from_utf8(bytes) {
            Ok(text) if text.chars().all(is_character) => Self::from_text(text),
            _ => binary::bare(bytes, selection),
        }
    }

    /// Reads what `tpm2_pcrread` or an operator wrote: the names of banks, each followed by PCRs, each followed by its
    /// value in hexadecimal, between any punctuation. Values of banks by SM3 and SHA-3 are skipped.
    ///
    /// # Errors
    ///
    /// The first word that is none of these, or out of turn; one PCR has two values, or none; no PCR has one.
    pub fn from_text(text: &str) -> Result<Self, PcrFileError> {
        if text.len() > MAX_LEN {
            return Err(PcrFileError::TooLong);
        }
        let mut file = File::default();
        for (number, line) in text.lines().enumerate() {
            let content = line.split('#').next().unwrap_or_default();
            let words = content.split(is_punctuation).filter(|word| !word.is_empty());
            for word in words.filter(|word| !NAMES.contains(word)) {
                file.read(number + 1, word)?;
            }
        }
        file.finish(text.lines().count())
    }
}

/// What was read so far.
#[derive(Default)]
struct File {
    values: PcrValues,
    bank: Option<Bank>,
    /// The PCR whose value is next.
    pcr: Option<u8>,
}

impl File {
    fn read(&mut self, line: usize, word: &str) -> Result<(), PcrFileError> {
        if let Some(bank) = bank(word) {
            self.expect_none(line)?;
            self.bank = Some(bank);
        } else if let Some(index) = index(word) {
            self.expect_none(line)?;
            self.pcr = Some(index);
        } else {
            let wrong = || PcrFileError::Word {
                line,
                word: word.chars().take(MAX_SHOWN).collect(),
            };
            self.set(word).ok_or_else(wrong)?;
        }
        Ok(())
    }

    /// Takes `word` for the value of the PCR, which has no other.
    fn set(&mut self, word: &str) -> Option<()> {
        let pcr = self.pcr.take()?;
        match self.bank? {
            Bank::Other(len) => value(word, len).map(drop),
            Bank::Known(alg) => {
                let value = value(word, alg.digest_len())?;
                let is_same = self.values.get(alg, pcr).is_none_or(|known| *known == value);
                is_same.then(|| self.values.set(alg, pcr, value))
            }
        }
    }

    fn expect_none(&self, line: usize) -> Result<(), PcrFileError> {
        let missing = self.pcr.map(|pcr| PcrFileError::NoValue { line, pcr });
        missing.map_or(Ok(()), Err)
    }

    fn finish(self, lines: usize) -> Result<PcrValues, PcrFileError> {
        self.expect_none(lines)?;
        if self.values.iter().next().is_none() {
            return Err(PcrFileError::Nothing);
        }
        Ok(self.values)
    }
}

fn is_punctuation(char: char) -> bool {
    char.is_whitespace() || matches!(char, ':' | '=' | ',' | '"' | '{' | '}' | '[' | ']')
}

fn bank(word: &str) -> Option<Bank> {
    let known = [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512]
        .into_iter()
        .find(|alg| word.eq_ignore_ascii_case(&alg.to_string()));
    let other = || {
        let mut banks = OTHER_BANKS.into_iter();
        banks.find(|(name, _)| word.eq_ignore_ascii_case(name))
    };
    known
        .map(Bank::Known)
        .or_else(|| other().map(|(_, len)| Bank::Other(len)))
}

/// At most two digits: no value is as short.
fn index(word: &str) -> Option<u8> {
    let index = word.parse().ok().filter(|_| word.len() <= 2)?;
    (index < PcrSet::COUNT).then_some(index)
}

fn value(word: &str, len: usize) -> Option<Digest> {
    let digits = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"));
    let bytes = hex::decode(digits.unwrap_or(word)).ok()?;
    (bytes.len() == len).then(|| bytes.into_iter().collect())
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
            let expected = PcrFileError::Word {
                line,
                word: word.into(),
            };
            assert_eq!(PcrValues::from_text(&text), Err(expected), "{text}");
        }
    }

    #[test]
    fn a_file_that_says_nothing_is_wrong() {
        let hex = "ab".repeat(32);
        let no_value = |line, pcr| PcrFileError::NoValue { line, pcr };
        for (text, expected) in [
            (String::new(), PcrFileError::Nothing),
            ("# sha256:0=ab\n{}\n".into(), PcrFileError::Nothing),
            ("  sha1:\n  sha256:\n".into(), PcrFileError::Nothing),
            (format!("sha3_256:\n  0 : 0x{hex}\n"), PcrFileError::Nothing),
            ("sha256:0\n".into(), no_value(1, 0)),
            (format!("sha256:0={hex}\nsha256:7="), no_value(2, 7)),
            (format!("sha256:\n0 :\n1 : 0x{hex}"), no_value(3, 0)),
            (format!("sha1:\n0 :\nsha256:\n1 : 0x{hex}"), no_value(3, 0)),
            (
                format!("sha256:0={hex}\n{}", " ".repeat(MAX_LEN)),
                PcrFileError::TooLong,
            ),
        ] {
            assert_eq!(PcrValues::from_text(&text), Err(expected));
        }
    }

    #[test]
    fn banks_that_are_not_known_are_skipped() {
        let hex = "ab".repeat(32);
        let expected = Digest::filled(0xab, HashAlg::Sha256);
        for text in [
            format!("sm3_256:\nsha256:\n  0 : 0x{hex}\nsha3_384:\n"),
            format!(
                "sha3_256:\n  0 : 0x{0}\n  1 : 0x{0}\nSHA256:\n  0 : 0x{hex}",
                "cd".repeat(32)
            ),
            format!("sha256:0={hex}\nsha3_512:0={}", "cd".repeat(64)),
        ] {
            let values = PcrValues::from_text(&text).unwrap();
            let seen: Vec<_> = values.iter().collect();
            assert_eq!(seen, [(HashAlg::Sha256, 0, &expected)], "{text}");
        }
        for wrong in ["sha3_256:0=ab".to_owned(), format!("sha265:0={hex}")] {
            let error = PcrValues::from_text(&format!("sha256:1={hex}\n{wrong}")).unwrap_err();
            assert!(matches!(error, PcrFileError::Word { line: 2, .. }), "{error}");
        }
    }
}
