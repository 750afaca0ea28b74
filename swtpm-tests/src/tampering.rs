//! Every way in which one byte of evidence can be changed.

use std::fmt;

/// Bytes that were changed in one place.
#[derive(Clone)]
pub struct Tampered {
    /// Where.
    pub at: usize,
    /// How.
    pub how: Change,
    /// What came of it.
    pub bytes: Vec<u8>,
}

/// What happens at a place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// Everything from there on is missing.
    Cut,
    /// This byte stands before it.
    Inserted(u8),
    /// The byte is missing.
    Removed,
    /// This byte stands in its place.
    Replaced(u8),
}

/// All changes of `good`: each byte with bits flipped, one more than it was, all zeros and all ones; without it; with
/// another one before it; and all that is cut off there. One byte more stands at the end, too.
pub fn tampered(good: &[u8]) -> impl Iterator<Item = Tampered> {
    let inserted = (0..=good.len()).map(|at| (at, Change::Inserted(0)));
    let others = (0..good.len()).flat_map(|at| {
        let replaced = values_beside(good[at], at).into_iter().map(Change::Replaced);
        replaced
            .chain([Change::Cut, Change::Removed])
            .map(move |how| (at, how))
    });
    others.chain(inserted).map(|(at, how)| Tampered {
        at,
        how,
        bytes: how.of(good, at),
    })
}

/// Each byte with one bit flipped, at every place another one.
pub fn flipped(good: &[u8]) -> impl Iterator<Item = Tampered> {
    (0..good.len()).map(|at| {
        let how = Change::Replaced(good[at] ^ 1 << (at % 8));
        let bytes = how.of(good, at);
        Tampered { at, how, bytes }
    })
}

/// Values that are likely to mean something else, each once.
fn values_beside(byte: u8, at: usize) -> Vec<u8> {
    let flipped = [at, at + 3].map(|bit| byte ^ 1 << (bit % 8));
    let others = [0, 0xff, byte.wrapping_add(1)];
    let mut values: Vec<_> = flipped.into_iter().chain(others).collect();
    values.sort_unstable();
    values.dedup();
    values.retain(|value| *value != byte);
    values
}

impl Change {
    fn of(self, good: &[u8], at: usize) -> Vec<u8> {
        let (before, after) = good.split_at(at);
        match self {
            Self::Cut => before.into(),
            Self::Inserted(byte) => [before, &[byte], after].concat(),
            Self::Removed => [before, &after[1..]].concat(),
            Self::Replaced(byte) => [before, &[byte], &after[1..]].concat(),
        }
    }
}

/// The place and the change; the bytes are many.
impl fmt::Debug for Tampered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}", self.how, self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_gives_other_bytes() {
        let good = [0, 1, 0xff];
        let all: Vec<_> = tampered(&good).collect();
        assert!(all.iter().all(|changed| changed.bytes != good));
        let of = |at: usize| {
            let here = all.iter().filter(move |changed| changed.at == at);
            here.map(|changed| changed.how).collect::<Vec<_>>()
        };
        let replaced = [1, 8, 0xff].map(Change::Replaced);
        let others = [Change::Cut, Change::Removed, Change::Inserted(0)];
        assert_eq!(of(0), [&replaced[..], &others].concat());
        assert_eq!(of(3), [Change::Inserted(0)]);
        let flips: Vec<_> = flipped(&good).map(|changed| changed.bytes).collect();
        assert_eq!(flips, [[1, 1, 0xff], [0, 3, 0xff], [0, 1, 0xfb]]);
    }
}
