//! Header blocks, as HPACK writes them ([RFC 7541 §6](https://www.rfc-editor.org/rfc/rfc7541#section-6)).

/// Walks one header block, byte by byte, and replaces what no authority may have in the value of `:authority`.
///
/// Only the shape is followed: no table is kept, no Huffman code is read. So a value is replaced where its name is
/// index 1 of the static table or the plain text `:authority`, and where it is plain text itself. gRPC's C-core
/// and its relatives write socket paths so; a value that an index stands for was replaced when it was written
/// first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeaderBlock {
    awaits: Awaits,
}

/// A header block is not what the standard says, or has a number that no reader accepts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Lost;

/// What the next byte is.
#[derive(Clone, Copy, Debug, Default)]
enum Awaits {
    /// The first of a header, or of a change of the table's size.
    #[default]
    Representation,
    /// The first of the length of a name.
    NameLength,
    /// The first of the length of a value.
    ValueLength { of_authority: bool },
    /// A further one of a number.
    Number { of: Number, begun: Begun },
    /// One of a name. `expected` is what has to follow for it to be `:authority`.
    Name {
        left: usize,
        expected: Option<&'static [u8]>,
    },
    /// One of a value.
    Value { left: usize, is_replaced: bool },
}

/// What a number says.
#[derive(Clone, Copy, Debug)]
enum Number {
    /// A whole header, or the table's size.
    Header,
    NameIndex,
    NameLength {
        is_plain: bool,
    },
    ValueLength {
        is_replaced: bool,
    },
}

/// A number of which bytes are still to come.
#[derive(Clone, Copy, Debug)]
struct Begun {
    value: usize,
    shift: u32,
}

const AUTHORITY: &[u8] = b":authority";
/// Index of `:authority` in the static table.
const AUTHORITY_INDEX: usize = 1;
/// Numbers have at most four bytes after the first: h2 accepts no more.
const LAST_SHIFT: u32 = 21;
/// What stands in the place of a byte that no authority may have.
const REPLACEMENT: u8 = b'-';
/// Strings with this bit are in Huffman's code.
const HUFFMAN: u8 = 0x80;

impl HeaderBlock {
    /// Reads the next part of the block, and replaces in it what is to be replaced.
    ///
    /// # Errors
    ///
    /// The block can't be followed further.
    pub(super) fn rewrite(&mut self, fragment: &mut [u8]) -> Result<(), Lost> {
        for byte in fragment {
            self.awaits = self.awaits.read(byte)?;
        }
        Ok(())
    }
}

impl Awaits {
    fn read(self, byte: &mut u8) -> Result<Self, Lost> {
        match self {
            Self::Representation => {
                let (of, bits) = representation(*byte);
                Ok(begin(of, *byte, bits))
            }
            Self::NameLength => {
                let is_plain = *byte & HUFFMAN == 0;
                Ok(begin(Number::NameLength { is_plain }, *byte, 7))
            }
            Self::ValueLength { of_authority } => {
                let is_replaced = of_authority && *byte & HUFFMAN == 0;
                Ok(begin(Number::ValueLength { is_replaced }, *byte, 7))
            }
            Self::Number { of, begun } => begun.read(of, *byte),
            Self::Name { left, expected } => Ok(name(left, expected, *byte)),
            Self::Value { left, is_replaced } => {
                if is_replaced && !is_of_authority(*byte) {
                    *byte = REPLACEMENT;
                }
                Ok(Number::ValueLength { is_replaced }.followed_by(left - 1))
            }
        }
    }
}

/// What a header begins with, and how many bits of that byte belong to it (RFC 7541 §6.1 to §6.3).
fn representation(first: u8) -> (Number, u32) {
    match first.leading_zeros() {
        0 => (Number::Header, 7),
        1 => (Number::NameIndex, 6),
        2 => (Number::Header, 5),
        _ => (Number::NameIndex, 4),
    }
}

/// Reads the first byte of a number, of which `bits` are the number's (RFC 7541 §5.1).
fn begin(of: Number, byte: u8, bits: u32) -> Awaits {
    let most = (1_usize << bits) - 1;
    let value = usize::from(byte) & most;
    if value < most {
        return of.followed_by(value);
    }
    let begun = Begun { value, shift: 0 };
    Awaits::Number { of, begun }
}

impl Begun {
    fn read(self, of: Number, byte: u8) -> Result<Awaits, Lost> {
        if self.shift > LAST_SHIFT {
            return Err(Lost);
        }
        let value = self.value + (usize::from(byte & 0x7f) << self.shift);
        if byte & 0x80 == 0 {
            return Ok(of.followed_by(value));
        }
        let shift = self.shift + 7;
        let begun = Self { value, shift };
        Ok(Awaits::Number { of, begun })
    }
}

impl Number {
    /// What follows when the number is `value`.
    fn followed_by(self, value: usize) -> Awaits {
        match (self, value) {
            (Self::NameIndex, 0) => Awaits::NameLength,
            (Self::NameIndex, index) => Awaits::ValueLength {
                of_authority: index == AUTHORITY_INDEX,
            },
            (Self::NameLength { .. }, 0) => Awaits::ValueLength { of_authority: false },
            (Self::NameLength { is_plain }, left) => Awaits::Name {
                left,
                expected: is_plain.then_some(AUTHORITY),
            },
            (Self::Header, _) | (Self::ValueLength { .. }, 0) => Awaits::Representation,
            (Self::ValueLength { is_replaced }, left) => Awaits::Value { left, is_replaced },
        }
    }
}

fn name(left: usize, expected: Option<&'static [u8]>, byte: u8) -> Awaits {
    let expected = expected.and_then(|expected| expected.strip_prefix(&[byte]));
    match left - 1 {
        0 => Awaits::ValueLength {
            of_authority: expected.is_some_and(<[u8]>::is_empty),
        },
        left => Awaits::Name { left, expected },
    }
}

/// Whether `http::uri::Authority` takes the byte anywhere: unreserved, sub-delimiters, and what parts user, host
/// and port ([RFC 3986 §3.2](https://www.rfc-editor.org/rfc/rfc3986#section-3.2)). A `%` is not among them: it
/// is taken only before an `@` and in brackets.
fn is_of_authority(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@[]".contains(&byte)
}

#[cfg(test)]
mod tests {
    use http::uri::Authority;

    use super::*;

    fn check(block: &[u8], expected: Result<&[u8], Lost>) {
        let mut rewritten = block.to_vec();
        let outcome = HeaderBlock::default().rewrite(&mut rewritten);
        assert_eq!(outcome.map(|()| rewritten.as_slice()), expected, "{block:02x?}");
    }

    #[test]
    fn an_authority_is_made_legal_however_its_name_is_written() {
        // By index: indexed, not indexed, never indexed.
        check(b"\x41\x08a%2Fb/c:", Ok(b"\x41\x08a-2Fb-c:"));
        check(b"\x01\x03a%b", Ok(b"\x01\x03a-b"));
        check(b"\x11\x03a%b", Ok(b"\x11\x03a-b"));
        // By text, as gRPC's C-core does.
        check(b"\x40\x0a:authority\x03a%b", Ok(b"\x40\x0a:authority\x03a-b"));
        check(b"\x00\x0a:authority\x03a%b", Ok(b"\x00\x0a:authority\x03a-b"));
        check(b"\x10\x0a:authority\x03a%b", Ok(b"\x10\x0a:authority\x03a-b"));
    }

    #[test]
    fn whatever_else_there_is_stays() {
        let untouched: [&[u8]; 10] = [
            // `:path` by index, other names by text, names that begin or end alike.
            b"\x44\x04/a%b",
            b"\x40\x04name\x03a%b",
            b"\x40\x09:authorit\x03a%b",
            b"\x40\x0b:authority2\x03a%b",
            b"\x40\x0axauthority\x03a%b",
            // Huffman's code: of the value, of the name.
            b"\x41\x83%%%",
            b"\x40\x8a:authority\x03a%b",
            // An empty name, an empty value; whole headers, changes of size, with and without further bytes.
            b"\x40\x00\x03a%b",
            b"\x41\x00\x44\x01%",
            b"\x82\xff\x80\x01\x3f\xe1\x1f\x20\x44\x01%",
        ];
        for block in untouched {
            check(block, Ok(block));
        }
    }

    #[test]
    fn what_follows_is_found_after_anything() {
        for before in [
            &b"\x82\xff\x80\x01"[..],
            b"\x3f\xe1\x1f",
            b"\x44\x01/",
            b"\x41\x83%%%",
            b"\x41\x00",
        ] {
            let block = [before, b"\x41\x01%"].concat();
            let expected = [before, b"\x41\x01-"].concat();
            check(&block, Ok(&expected));
        }
    }

    #[test]
    fn long_strings_have_long_lengths() {
        let block = [&b"\x41\x7f\x49"[..], &[b'%'; 200], b"\x44\x01%"].concat();
        let expected = [&b"\x41\x7f\x49"[..], &[b'-'; 200], b"\x44\x01%"].concat();
        check(&block, Ok(&expected));
    }

    #[test]
    fn numbers_that_are_too_long_are_given_up() {
        check(b"\x41\x7f\xff\xff\xff\xff\x00%", Err(Lost));
        check(b"\xff\x80\x80\x80\x80\x01", Err(Lost));
        check(b"\xff\x80\x80\x80\x01", Ok(b"\xff\x80\x80\x80\x01"));
    }

    #[test]
    fn every_byte_becomes_one_that_the_crate_http_takes() {
        for byte in 0..=u8::MAX {
            let mut block = *b"\x41\x03a?b";
            block[3] = byte;
            HeaderBlock::default().rewrite(&mut block).unwrap();
            let taken = Authority::try_from(&block[2..]).is_ok();
            // Brackets come in pairs.
            assert!(taken || b"[]".contains(&byte), "{byte:#x}");
            let was_taken = Authority::try_from(&[b'a', byte, b'b'][..]).is_ok();
            assert!(!was_taken || block[3] == byte, "{byte:#x}");
        }
    }
}
