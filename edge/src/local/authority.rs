//! Makes `:authority` legal in what clients send over a local socket.
//!
//! gRPC's C-core (Python, C++, Ruby, PHP) names the path of the socket there, percent-encoded:
//! `run%2Fplastron%2Fagent.sock`. An authority has no `%` outside of addresses and passwords, so h2 resets the
//! stream before anybody sees the call (<https://github.com/hyperium/h2/issues/487>), and gives no say in it.
//! Over a local socket the authority means nothing, so such bytes are replaced before h2 reads them.
//!
//! One byte stands for one byte: lengths of frames and strings, sizes of tables and flow control stay as they
//! are. Nothing is held back. What can't be followed is passed on as it is, for h2 to judge.

use super::header_block::HeaderBlock;

/// Follows what a client sends, in pieces of any size, and makes each `:authority` legal on the way.
#[derive(Debug)]
pub struct Authorities {
    awaits: Awaits,
    block: HeaderBlock,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug)]
enum Awaits {
    /// The connection's preface, of which this is left.
    Preface { left: &'static [u8] },
    /// A frame's header.
    FrameHeader(FrameHeader),
    /// How much padding ends a HEADERS frame.
    PadLength(FrameHeader),
    /// A frame's payload.
    Payload(Payload),
    /// Nothing that can be followed.
    Lost,
}

/// As much as has been read of a frame's header
/// ([RFC 9113 §4.1](https://www.rfc-editor.org/rfc/rfc9113#section-4.1)).
#[derive(Clone, Copy, Debug, Default)]
struct FrameHeader {
    read: u8,
    length: usize,
    kind: u8,
    flags: u8,
}

/// What is left of a payload: bytes before a part of a header block, the part, bytes after it.
#[derive(Clone, Copy, Debug)]
struct Payload {
    before: usize,
    fragment: usize,
    after: usize,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Bytes that the flag `PRIORITY` adds.
const PRIORITY_LENGTH: usize = 5;
/// Bytes of a frame's header.
const FRAME_HEADER_LENGTH: u8 = 9;

impl Default for Authorities {
    fn default() -> Self {
        Self::new()
    }
}

impl Authorities {
    /// At the beginning of a connection.
    #[must_use]
    pub fn new() -> Self {
        Self {
            awaits: Awaits::Preface { left: PREFACE },
            block: HeaderBlock::default(),
        }
    }

    /// Reads what came next, and replaces in it what is to be replaced.
    pub fn rewrite(&mut self, mut bytes: &mut [u8]) {
        while let Some((first, _)) = bytes.split_first() {
            let read = match self.awaits {
                Awaits::Preface { left } => {
                    self.awaits = preface(left, *first);
                    1
                }
                Awaits::FrameHeader(header) => {
                    self.frame_header(header.with(*first));
                    1
                }
                Awaits::PadLength(header) => {
                    self.awaits = header.fragment(1 + usize::from(*first));
                    1
                }
                Awaits::Payload(payload) => self.payload(payload, bytes),
                Awaits::Lost => return,
            };
            bytes = bytes.get_mut(read..).unwrap_or_default();
        }
    }

    fn frame_header(&mut self, header: FrameHeader) {
        self.awaits = match (header.read, header.kind) {
            (..FRAME_HEADER_LENGTH, _) => Awaits::FrameHeader(header),
            (_, HEADERS) => {
                self.block = HeaderBlock::default();
                header.headers()
            }
            (_, CONTINUATION) => Awaits::payload(0, header.length, 0),
            _ => Awaits::payload(header.length, 0, 0),
        };
    }

    /// Reads as much of the payload as there is, and says how much that was.
    fn payload(&mut self, mut payload: Payload, bytes: &mut [u8]) -> usize {
        let (part, is_fragment) = payload.part();
        let read = (*part).min(bytes.len());
        *part -= read;
        self.awaits = payload.or_next_frame();
        if is_fragment
            && let Some(fragment) = bytes.get_mut(..read)
            && self.block.rewrite(fragment).is_err()
        {
            self.awaits = Awaits::Lost;
        }
        read
    }
}

fn preface(left: &'static [u8], byte: u8) -> Awaits {
    match left.strip_prefix(&[byte]) {
        Some([]) => Awaits::FrameHeader(FrameHeader::default()),
        Some(left) => Awaits::Preface { left },
        None => Awaits::Lost,
    }
}

impl Awaits {
    fn payload(before: usize, fragment: usize, after: usize) -> Self {
        let payload = Payload {
            before,
            fragment,
            after,
        };
        payload.or_next_frame()
    }
}

impl FrameHeader {
    fn with(mut self, byte: u8) -> Self {
        match self.read {
            0..=2 => self.length = self.length << 8 | usize::from(byte),
            3 => self.kind = byte,
            4 => self.flags = byte,
            // The stream's number.
            _ => {}
        }
        self.read += 1;
        self
    }

    /// What follows the header of a HEADERS frame.
    fn headers(self) -> Awaits {
        match self.flags & PADDED {
            0 => self.fragment(0),
            _ if self.length == 0 => Awaits::Lost,
            _ => Awaits::PadLength(self),
        }
    }

    /// What follows in a HEADERS frame of which `padding` bytes are padding or say how much there is
    /// ([RFC 9113 §6.2](https://www.rfc-editor.org/rfc/rfc9113#section-6.2)).
    fn fragment(self, padding: usize) -> Awaits {
        let before = match self.flags & PRIORITY {
            0 => 0,
            _ => PRIORITY_LENGTH,
        };
        match self.length.checked_sub(before + padding) {
            Some(fragment) => Awaits::payload(before, fragment, padding.saturating_sub(1)),
            None => Awaits::Lost,
        }
    }
}

impl Payload {
    /// The part that comes next, and whether it is one of a header block.
    fn part(&mut self) -> (&mut usize, bool) {
        match self {
            Self {
                before: 0,
                fragment: 0,
                after,
            } => (after, false),
            Self {
                before: 0, fragment, ..
            } => (fragment, true),
            Self { before, .. } => (before, false),
        }
    }

    fn or_next_frame(self) -> Awaits {
        match self.before + self.fragment + self.after {
            0 => Awaits::FrameHeader(FrameHeader::default()),
            _ => Awaits::Payload(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const END_HEADERS: u8 = 0x4;
    const DATA: u8 = 0x0;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn connection(frames: &[Vec<u8>]) -> Vec<u8> {
        [PREFACE.to_vec(), frames.concat()].concat()
    }

    /// What becomes of `sent` where it comes in pieces that end at `ends`.
    fn rewritten(sent: &[u8], ends: &[usize]) -> Vec<u8> {
        let mut bytes = sent.to_vec();
        let mut authorities = Authorities::new();
        let mut rest = bytes.as_mut_slice();
        let mut read = 0;
        for end in ends {
            let (piece, later) = rest.split_at_mut(end - read);
            authorities.rewrite(piece);
            (read, rest) = (*end, later);
        }
        authorities.rewrite(rest);
        bytes
    }

    /// In one piece, in pieces of one byte, and in two pieces, wherever they part.
    fn check(sent: &[Vec<u8>], expected: &[Vec<u8>]) {
        let (sent, expected) = (connection(sent), connection(expected));
        assert_eq!(rewritten(&sent, &[]), expected);
        let everywhere: Vec<_> = (0..sent.len()).collect();
        assert_eq!(rewritten(&sent, &everywhere), expected);
        for end in everywhere {
            assert_eq!(rewritten(&sent, &[end]), expected, "parted at {end}");
        }
    }

    #[test]
    fn headers_are_found_among_other_frames() {
        let frames = |block: &[u8]| {
            [
                frame(0x4, 0, b"\x00\x03\x00\x00\x00\x64"),
                frame(HEADERS, END_HEADERS, block),
                frame(DATA, 0, b"\x41\x03a%b"),
                // Of a kind that nobody knows, and empty.
                frame(0xfa, 0xff, b""),
                frame(HEADERS, END_HEADERS, block),
                frame(0x8, 0, b"\x00\x00\x41\x01%"),
            ]
        };
        check(
            &frames(b"\x83\x41\x03a%b\x44\x01%"),
            &frames(b"\x83\x41\x03a-b\x44\x01%"),
        );
    }

    #[test]
    fn padding_and_priority_are_no_headers() {
        let block = b"\x41\x01%";
        let legal = b"\x41\x01-";
        let frames = |block: &[u8]| {
            [
                frame(HEADERS, PADDED, &[b"\x04", block, b"\x41\x01%%"].concat()),
                frame(HEADERS, PRIORITY, &[b"\x41\x01%%%", block].concat()),
                frame(
                    HEADERS,
                    PADDED | PRIORITY,
                    &[b"\x03\x41\x01%%%", block, b"\x41\x01%"].concat(),
                ),
                frame(HEADERS, PADDED, &[b"\x00", block].concat()),
            ]
        };
        check(&frames(block), &frames(legal));
    }

    #[test]
    fn a_block_goes_on_in_continuations() {
        let frames = |block: &[u8]| {
            let parts = (0..=block.len()).map(|end| {
                let (first, second) = block.split_at(end);
                let padded = [b"\x02", first, b"%%"].concat();
                let padded = frame(HEADERS, PADDED, &padded);
                [
                    padded,
                    frame(CONTINUATION, 0, b""),
                    frame(CONTINUATION, END_HEADERS, second),
                ]
            });
            parts.flatten().collect::<Vec<_>>()
        };
        check(
            &frames(b"\x40\x0a:authority\x03a%b"),
            &frames(b"\x40\x0a:authority\x03a-b"),
        );
    }

    #[test]
    fn what_can_not_be_followed_is_passed_on() {
        let request = frame(HEADERS, END_HEADERS, b"\x41\x01%");
        let untouched = [
            // More padding than there is frame; no room for the padding's length, or for the priority.
            [frame(HEADERS, PADDED, b"\x04\x41\x01%"), request.clone()],
            [frame(HEADERS, PADDED, b""), request.clone()],
            [frame(HEADERS, PRIORITY, b"\x41\x01%"), request.clone()],
            // A number without an end.
            [
                frame(HEADERS, END_HEADERS, b"\xff\xff\xff\xff\xff\xff\xff"),
                request.clone(),
            ],
        ];
        for frames in untouched {
            check(&frames, &frames);
        }
        let no_preface = [b"GET / HTTP/1.1\r\n\r\n", request.as_slice()].concat();
        assert_eq!(rewritten(&no_preface, &[]), no_preface);
    }

    /// A header as sent, and as it has to come out.
    fn header() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        let first = prop_oneof![Just(0x40_u8), Just(0x00), Just(0x10)];
        let name = prop_oneof![
            Just(Some(&b":authority"[..])),
            Just(Some(&b":authoritx"[..])),
            Just(Some(&b"user-agent"[..])),
            Just(None)
        ];
        (first, name, vec(any::<u8>(), 0..100), any::<bool>()).prop_map(|(first, name, value, is_huffman)| {
            let name = match name {
                Some(name) => [&[first, u8::try_from(name.len()).unwrap()], name].concat(),
                None => vec![first | 1],
            };
            let length = u8::try_from(value.len()).unwrap() | u8::from(is_huffman) << 7;
            let is_authority = name.len() == 1 || name.ends_with(b":authority");
            let sent = [&name, &[length][..], &value].concat();
            if is_huffman || !is_authority {
                return (sent.clone(), sent);
            }
            let legal = value.iter().map(|byte| match byte {
                b'!' | b'$' | b'&'..=b'.' | b'0'..=b';' | b'=' | b'@'..=b'[' | b']' | b'_' => *byte,
                b'a'..=b'z' | b'~' => *byte,
                _ => b'-',
            });
            (sent.clone(), [name, vec![length], legal.collect()].concat())
        })
    }

    proptest! {
        #[test]
        fn nothing_but_authorities_changes(
            headers in vec(header(), 0..8),
            other in any::<u8>().prop_filter("no headers", |kind| ![HEADERS, CONTINUATION].contains(kind)),
            payload in vec(any::<u8>(), 0..100),
            flags in any::<u8>(),
            ends in vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let (sent, expected): (Vec<_>, Vec<_>) = headers.into_iter().unzip();
            let frames = |blocks: Vec<Vec<u8>>| {
                let block = blocks.concat();
                let (first, second) = block.split_at(block.len() / 2);
                connection(&[
                    frame(other, flags, &payload),
                    frame(HEADERS, 0, first),
                    frame(CONTINUATION, END_HEADERS, second),
                    frame(other, flags, &payload),
                ])
            };
            let (sent, expected) = (frames(sent), frames(expected));
            let mut ends: Vec<_> = ends.iter().map(|end| end.index(sent.len())).collect();
            ends.sort_unstable();
            prop_assert_eq!(rewritten(&sent, &ends), expected);
        }

        #[test]
        fn any_bytes_come_out_as_many_and_the_same_in_any_pieces(
            noise in vec(any::<u8>(), 0..500),
            begins in any::<bool>(),
        ) {
            let sent = if begins { connection(&[noise]) } else { noise };
            let everywhere: Vec<_> = (0..sent.len()).collect();
            prop_assert_eq!(rewritten(&sent, &[]), rewritten(&sent, &everywhere));
        }

        #[test]
        fn any_header_block_is_survived(noise in vec(any::<u8>(), 0..500), flags in any::<u8>()) {
            let sent = connection(&[frame(HEADERS, flags, &noise), frame(CONTINUATION, flags, &noise)]);
            prop_assert_eq!(rewritten(&sent, &[]).len(), sent.len());
        }
    }
}
