//! Inputs of several parts: of each the length in two bytes, and as many bytes.

/// Takes parts off the front of an input. Whatever the input is, there is always a part, perhaps an empty one.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    /// Reads from `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next part: what its length says, or what is left if that is less.
    pub fn part(&mut self) -> &'a [u8] {
        let Some((len, rest)) = self.0.split_first_chunk() else {
            self.0 = &[];
            return &[];
        };
        let len = usize::from(u16::from_be_bytes(*len)).min(rest.len());
        let (part, rest) = rest.split_at_checked(len).unwrap_or((rest, &[]));
        self.0 = rest;
        part
    }

    /// What is left.
    #[must_use]
    pub const fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// Writes parts as [`Parts`] reads them. What is longer than a length can say is cut.
#[must_use]
pub fn join(parts: &[&[u8]]) -> Vec<u8> {
    let part = |part: &&[u8]| {
        let len = u16::try_from(part.len()).unwrap_or(u16::MAX);
        let bytes = part.iter().copied().take(usize::from(len));
        len.to_be_bytes().into_iter().chain(bytes).collect::<Vec<_>>()
    };
    parts.iter().flat_map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes() {
        let bytes = join(&[b"one", b"", b"three"]);
        let mut parts = Parts::new(&bytes);
        assert_eq!(
            (parts.part(), parts.part(), parts.part()),
            (&b"one"[..], &b""[..], &b"three"[..])
        );
        assert_eq!(parts.rest(), b"");
    }

    #[test]
    fn always_has_a_part() {
        let mut parts = Parts::new(&[0, 9, 1, 2]);
        assert_eq!((parts.part(), parts.part()), (&[1, 2][..], &[][..]));
        assert_eq!(Parts::new(&[7]).part(), b"");
    }
}
