//! DER as attribute certificates have it: tags of one byte, definite lengths in their shortest form (X.690 §10.1).

/// Elements that stand one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Elements<'a>(pub(super) &'a [u8]);

/// One element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    /// With tag and length.
    pub(super) whole: &'a [u8],
}

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// `[number]`, constructed.
pub(super) const fn tagged(number: u8) -> u8 {
    0xa0 | number
}

impl<'a> Elements<'a> {
    /// Takes the next one off, whatever it is; `None` if there is none that is whole.
    pub(super) fn take(&mut self) -> Option<Element<'a>> {
        let (tag, length, header) = match self.0 {
            [tag, 0x82, high, low, ..] => (*tag, u16::from_be_bytes([*high, *low]), 4),
            [tag, 0x81, length, ..] => (*tag, u16::from(*length), 3),
            [tag, length @ 0..=0x7f, ..] => (*tag, u16::from(*length), 2),
            _ => return None,
        };
        let is_shortest = match header {
            4 => length > 0xff,
            3 => length > 0x7f,
            _ => true,
        };
        // A tag whose low bits are all set goes on in the next byte.
        if !is_shortest || tag & 0x1f == 0x1f {
            return None;
        }
        let (whole, rest) = self.0.split_at_checked(header + usize::from(length))?;
        self.0 = rest;
        Some(Element {
            tag,
            content: whole.get(header..)?,
            whole,
        })
    }

    /// Takes off the next one, which has to have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Option<Element<'a>> {
        self.take().filter(|element| element.tag == tag)
    }

    /// Takes off the next one if it has this tag.
    pub(super) fn optional(&mut self, tag: u8) -> Option<Element<'a>> {
        if self.0.first() == Some(&tag) {
            self.take()
        } else {
            None
        }
    }

    /// Nothing is left.
    pub(super) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// The one element of these bytes, which has this tag.
pub(super) fn only(bytes: &[u8], tag: u8) -> Option<Element<'_>> {
    let mut elements = Elements(bytes);
    let element = elements.expect(tag)?;
    elements.end()?;
    Some(element)
}

/// All elements of these bytes, which have this tag.
pub(super) fn all(bytes: &[u8], tag: u8) -> Option<Vec<Element<'_>>> {
    let mut elements = Elements(bytes);
    let mut all = Vec::new();
    while !elements.0.is_empty() {
        all.push(elements.expect(tag)?);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_one_form() {
        let long = [&[0x04, 0x81, 0x80][..], &[7; 0x80]].concat();
        let longer = [&[0x04, 0x82, 0x01, 0x00][..], &[7; 0x100]].concat();
        for whole in [&[0x04, 0x00][..], &[0x04, 0x01, 0x07], &long, &longer] {
            assert!(only(whole, 0x04).is_some(), "{whole:02x?}");
            assert!(only(whole, 0x05).is_none(), "{whole:02x?}");
            let cut = whole.split_last().unwrap().1;
            assert!(only(cut, 0x04).is_none(), "{cut:02x?}");
            assert!(only(&[whole, &[0]].concat(), 0x04).is_none(), "{whole:02x?}");
        }
        for malformed in [
            &[0x04, 0x81, 0x01, 0x07][..],
            &[0x04, 0x82, 0x00, 0x01, 0x07],
            &[0x04, 0x83, 0x00, 0x00, 0x01, 0x07],
            &[0x04, 0x80, 0x07, 0x00, 0x00],
            &[0x1f, 0x01, 0x07],
        ] {
            assert!(Elements(malformed).take().is_none(), "{malformed:02x?}");
        }
    }
}
