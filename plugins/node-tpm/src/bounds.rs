//! How many fields a message has, counted before it is decoded: an empty field of two bytes becomes a value of a hundred.

use attest::Reject;

/// Which fields of a message are messages whose fields count as well.
pub(crate) struct Shape(&'static [(u64, &'static Self)]);

/// Most fields of a message, those within counted: a TPM with eight endorsement keys, and chains as long as they may be,
/// that shows the PCRs of four banks, has less than 300.
const MAX_FIELDS: usize = 512;

/// Quote, EndorsementKey: of what they repeat, nothing is counted within.
const FLAT: Shape = Shape(&[]);
/// Evidence.
pub(crate) const EVIDENCE: Shape = Shape(&[(2, &FLAT)]);
/// Hello.
pub(crate) const HELLO: Shape = Shape(&[(1, &FLAT)]);
/// Supplied.
pub(crate) const SUPPLIED: Shape = Shape(&[(1, &FLAT)]);
/// Answer.
pub(crate) const ANSWER: Shape = Shape(&[(2, &SUPPLIED)]);

/// Checks that a message has no more fields than one that is meant. What can't be read is for the decoder to refuse, which
/// takes no field behind it.
pub(crate) fn check(message: &[u8], shape: &Shape) -> Result<(), Reject> {
    let mut left = MAX_FIELDS;
    count(message, shape, &mut left)
}

fn count(message: &[u8], shape: &Shape, left: &mut usize) -> Result<(), Reject> {
    let mut rest = message;
    while let Some((number, content)) = field(&mut rest) {
        *left = left.checked_sub(1).ok_or(Reject::TooLarge)?;
        if let Some((_, within)) = shape.0.iter().find(|(known, _)| *known == number) {
            count(content, within, left)?;
        }
    }
    Ok(())
}

/// The number and the content of the next field; the content is empty where nothing is within. Of a group, begin and end
/// are fields.
fn field<'a>(rest: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
    let key = varint(rest)?;
    let content = match key & 7 {
        0 => varint(rest).map(|_| &[][..])?,
        1 => take(rest, 8)?,
        2 => {
            let len = varint(rest)?;
            take(rest, usize::try_from(len).ok()?)?
        }
        3 | 4 => &[],
        5 => take(rest, 4)?,
        _ => return None,
    };
    Some((key >> 3, content))
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(taken)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many empty fields of this number.
    fn fields(number: u8, count: usize) -> Vec<u8> {
        [number << 3 | 2, 0].repeat(count)
    }

    /// These bytes as a field.
    fn within(number: u8, content: &[u8]) -> Vec<u8> {
        let len = content.len();
        let len = [
            0x80 | u8::try_from(len & 0x7f).unwrap(),
            u8::try_from(len >> 7).unwrap(),
        ];
        [&[number << 3 | 2], &len[..], content].concat()
    }

    #[test]
    fn fields_are_counted_wherever_they_are() {
        let check = |message: &[u8], shape: &Shape, expected: Result<(), Reject>| {
            assert_eq!(check(message, shape), expected, "{} bytes", message.len());
        };
        let refused = Err(Reject::TooLarge);
        check(&fields(1, 512), &FLAT, Ok(()));
        check(&fields(1, 513), &FLAT, refused);
        check(&within(2, &fields(3, 511)), &EVIDENCE, Ok(()));
        check(&within(2, &fields(3, 512)), &EVIDENCE, refused);
        // The content of a log is none of ours.
        check(&within(2, &fields(3, 600)), &SUPPLIED, Ok(()));
        let supplied = within(1, &fields(3, 300));
        check(&within(2, &supplied), &ANSWER, Ok(()));
        check(&within(2, &[&supplied[..], &supplied].concat()), &ANSWER, refused);
        // Numbers, and groups.
        check(&[8, 1].repeat(513), &FLAT, refused);
        check(&[0x0d, 1, 2, 3, 4].repeat(513), &FLAT, refused);
        check(&[0x09, 1, 2, 3, 4, 5, 6, 7, 8].repeat(513), &FLAT, refused);
        check(&[0x0b, 0x0c].repeat(257), &FLAT, refused);
    }

    #[test]
    fn what_can_not_be_read_ends_it() {
        for wrong in [&[0xff; 11][..], &[0x0f]] {
            let message = [wrong, &fields(1, 600)].concat();
            assert_eq!(check(&message, &FLAT), Ok(()), "{wrong:02x?}");
        }
        for short in [&[0x0a, 9][..], &[0x09, 1], &[0x80]] {
            assert_eq!(check(short, &FLAT), Ok(()), "{short:02x?}");
        }
    }
}
