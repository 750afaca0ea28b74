//! Values of PCRs as tpm2-tools write them: structures of the TSS as they lie in memory, little-endian, or values alone.

use super::PcrFileError;
use crate::{
    Digest, HashAlg, PcrSelection, PcrSet, PcrValues,
    wire::{Reader, WireError},
};

/// TPML_PCR_SELECTION: a count, and 16 times an algorithm, a length, four bytes of PCRs and one of padding.
const SELECTION_LEN: usize = 4 + MAX_BANKS * BANK_LEN;
const MAX_BANKS: usize = 16;
const BANK_LEN: usize = 8;
/// TPML_DIGEST: a count, and eight times a length and 64 bytes.
const LIST_LEN: usize = 4 + MAX_DIGESTS * (2 + HashAlg::MAX_LEN);
const MAX_DIGESTS: usize = 8;

/// Whether a file is of `tpm2_quote -o`: its length is of whole lists, and it begins with a number of banks, which no text
/// does.
pub(super) fn is_marshaled(bytes: &[u8]) -> bool {
    let lists = bytes.len().checked_sub(SELECTION_LEN + 4);
    let is_count = matches!(bytes, [1..=16, 0, 0, 0, ..]);
    is_count && lists.is_some_and(|len| len > 0 && len.is_multiple_of(LIST_LEN))
}

/// Reads such a file: the values stand in the order of its selection.
pub(super) fn marshaled(bytes: &[u8]) -> Option<PcrValues> {
    let (selection, lists) = bytes.split_at_checked(SELECTION_LEN)?;
    let wanted = selected(selection).ok()?;
    let digests = digests(lists).ok()?;
    if wanted.len() != digests.len() {
        return None;
    }
    let mut values = PcrValues::default();
    for ((alg, pcr), digest) in wanted.into_iter().zip(digests) {
        // Banks by SM3 and SHA-3 are skipped.
        let Some(alg) = HashAlg::from_tpm(alg) else {
            continue;
        };
        let value: Digest = digest.iter().copied().collect();
        let is_same = values.get(alg, pcr).is_none_or(|known| *known == value);
        if digest.len() != alg.digest_len() || pcr >= PcrSet::COUNT || !is_same {
            return None;
        }
        values.set(alg, pcr, value);
    }
    (values != PcrValues::default()).then_some(values)
}

/// Algorithm and PCR of each value.
fn selected(bytes: &[u8]) -> Result<Vec<(u16, u8)>, WireError> {
    let mut reader = Reader::new(bytes);
    let count = u32_le(&mut reader)? as usize;
    if count > MAX_BANKS {
        return Err(WireError::OutOfBounds);
    }
    let mut selected = Vec::new();
    for _ in 0..count {
        let alg = u16_le(&mut reader)?;
        let size = usize::from(reader.u8()?);
        let bits = reader.take(BANK_LEN - 3)?;
        let bits = bits.get(..size.min(4)).unwrap_or_default();
        for (index, byte) in (0_u8..).zip(bits) {
            let pcrs = (0..8).filter(|bit| byte & 1 << bit != 0);
            selected.extend(pcrs.map(|bit| (alg, 8 * index + bit)));
        }
    }
    Ok(selected)
}

fn digests(bytes: &[u8]) -> Result<Vec<&[u8]>, WireError> {
    let mut reader = Reader::new(bytes);
    let lists = u32_le(&mut reader)?;
    let mut digests = Vec::new();
    // As many as the file is long for: a count that is larger ends at its end.
    for _ in 0..lists {
        let mut list = Reader::new(reader.take(LIST_LEN)?);
        let count = u32_le(&mut list)? as usize;
        if count > MAX_DIGESTS {
            return Err(WireError::OutOfBounds);
        }
        for _ in 0..count {
            let len = usize::from(u16_le(&mut list)?);
            let buffer = list.take(HashAlg::MAX_LEN)?;
            digests.push(buffer.get(..len).ok_or(WireError::OutOfBounds)?);
        }
    }
    reader.end()?;
    Ok(digests)
}

/// Values alone, in the order of `selection`.
pub(super) fn bare(bytes: &[u8], selection: Option<&PcrSelection>) -> Result<PcrValues, PcrFileError> {
    let banks = || selection.into_iter().flat_map(PcrSelection::banks);
    let expected = banks()
        .map(|(alg, set)| alg.digest_len() * set.iter().count())
        .sum();
    if bytes.len() != expected || bytes.is_empty() {
        let found = bytes.len();
        return Err(PcrFileError::Binary { expected, found });
    }
    let mut values = PcrValues::default();
    let mut rest = bytes;
    for (alg, pcr) in banks().flat_map(|(alg, set)| set.iter().map(move |pcr| (alg, pcr)).collect::<Vec<_>>())
    {
        let (digest, behind) = rest.split_at_checked(alg.digest_len()).unwrap_or_default();
        values.set(alg, pcr, digest.iter().copied().collect());
        rest = behind;
    }
    Ok(values)
}

fn u16_le(reader: &mut Reader<'_>) -> Result<u16, WireError> {
    reader.u16().map(u16::swap_bytes)
}

fn u32_le(reader: &mut Reader<'_>) -> Result<u32, WireError> {
    reader.u32().map(u32::swap_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As tpm2-tools write it: banks by algorithm and PCRs, and lists of digests.
    fn file(banks: &[(u16, u32)], lists: &[&[&[u8]]]) -> Vec<u8> {
        let mut bytes = u32::try_from(banks.len()).unwrap().to_le_bytes().to_vec();
        for (alg, mask) in banks {
            bytes.extend(alg.to_le_bytes());
            bytes.push(4);
            bytes.extend(mask.to_le_bytes());
            bytes.push(0);
        }
        bytes.resize(SELECTION_LEN, 0);
        bytes.extend(u32::try_from(lists.len()).unwrap().to_le_bytes());
        for list in lists {
            let start = bytes.len();
            bytes.extend(u32::try_from(list.len()).unwrap().to_le_bytes());
            for digest in *list {
                let mut buffer = digest.to_vec();
                buffer.resize(HashAlg::MAX_LEN, 0);
                bytes.extend(u16::try_from(digest.len()).unwrap().to_le_bytes());
                bytes.extend(buffer);
            }
            bytes.resize(start + LIST_LEN, 0);
        }
        bytes
    }

    const SHA1: u16 = 4;
    const SHA256: u16 = 0x0b;
    const SM3: u16 = 0x12;

    fn shown(bytes: &[u8], selection: Option<&str>) -> Result<String, PcrFileError> {
        let selection: Option<PcrSelection> = selection.map(|text| text.parse().unwrap());
        let values = PcrValues::from_file(bytes, selection.as_ref())?;
        let shown = values
            .iter()
            .map(|(alg, pcr, value)| format!("{alg}:{pcr}={:02x}", value.as_bytes()[0]));
        Ok(shown.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn reads_what_tools_write() {
        let [a, b, c] = [1, 2, 3].map(|byte| [byte; 32]);
        let check = |bytes: &[u8], expected: &str| assert_eq!(shown(bytes, None).unwrap(), expected);
        let one = file(&[(SHA256, 1 << 16 | 1 << 23)], &[&[&a, &b]]);
        assert_eq!(one.len(), 668);
        check(&one, "sha256:16=01 sha256:23=02");
        // The order of the selection counts, also where a bank stands twice; lists are as the TPM cut them.
        check(
            &file(
                &[(SHA256, 1 << 8), (SHA1, 2), (SHA256, 1)],
                &[&[&a], &[&[9; 20], &c]],
            ),
            "sha1:1=09 sha256:0=03 sha256:8=01",
        );
        check(&file(&[(SM3, 1), (SHA256, 1)], &[&[&b, &a]]), "sha256:0=01");
        check(&file(&[(SHA256, 1), (SHA256, 1)], &[&[&a, &a]]), "sha256:0=01");
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let [a, b] = [1, 2].map(|byte| [byte; 32]);
        for bytes in [
            file(&[(SHA256, 3)], &[&[&a]]),
            file(&[(SHA256, 1)], &[&[&a, &b]]),
            file(&[(SHA256, 1)], &[&[&a[..31]]]),
            file(&[(SHA256, 1), (SHA256, 1)], &[&[&a, &b]]),
            file(&[(SM3, 1)], &[&[&a]]),
            file(&[(SHA256, 0)], &[&[]]),
            file(&[(SHA256, 1 << 24)], &[&[&a]]),
            [&file(&[(SHA256, 1)], &[&[&a]])[..], &[0; LIST_LEN]].concat(),
        ] {
            assert_eq!(shown(&bytes, None), Err(PcrFileError::Digests));
        }
        let whole = file(&[(SHA256, 1)], &[&[&a]]);
        let [mut lists, mut digests, mut len] = [(); 3].map(|()| whole.clone());
        lists[SELECTION_LEN] = 2;
        digests[SELECTION_LEN + 4] = 9;
        len[SELECTION_LEN + 8] = 65;
        for bytes in [lists, digests, len] {
            assert_eq!(shown(&bytes, None), Err(PcrFileError::Digests));
        }
    }

    #[test]
    fn values_alone_are_those_of_the_quote() {
        let bytes = [[0; 32], [0xff; 32]].concat();
        let check = |selection, expected: Result<&str, PcrFileError>| {
            assert_eq!(shown(&bytes, selection), expected.map(str::to_owned));
        };
        let wrong = |expected| PcrFileError::Binary { expected, found: 64 };
        check(Some("sha256:16,23"), Ok("sha256:16=00 sha256:23=ff"));
        check(Some("sha512:3"), Ok("sha512:3=00"));
        check(Some("sha256:16"), Err(wrong(32)));
        check(None, Err(wrong(0)));
        assert_eq!(
            shown(&[0; 64], Some("sha256:0-1")).unwrap(),
            "sha256:0=00 sha256:1=00"
        );
        let text = format!("sha256:0={}", "ab".repeat(32));
        assert_eq!(shown(text.as_bytes(), Some("sha256:0")).unwrap(), "sha256:0=ab");
    }
}
