//! Serial numbers of certificates.

use std::fmt;

/// A certificate's serial number: positive, at most 20 bytes (RFC 5280 §4.1.2.2). Prints in decimal, as SPIRE
/// and OpenSSL's `-serial` differ and SPIRE's APIs carry decimal.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SerialNumber(Box<[u8]>);

impl SerialNumber {
    /// From 16 random bytes. The top bit is cleared, so that the number is positive in 16 bytes.
    #[must_use]
    pub fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[0] &= 0x7f;
        Self::from_bytes(&bytes)
    }

    /// From big-endian bytes; leading zeros do not count.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Self(bytes.get(zeros..).unwrap_or_default().into())
    }

    /// From decimal digits, as it prints; nothing if it is none, or is longer than 20 bytes.
    #[must_use]
    pub fn from_decimal(digits: &str) -> Option<Self> {
        let mut number = [0; 20];
        for digit in digits.bytes() {
            let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
            multiply_by_ten(&mut number, digit)?;
        }
        (!digits.is_empty()).then(|| Self::from_bytes(&number))
    }

    /// Big-endian, without leading zeros.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = Vec::new();
        let mut rest = self.0.to_vec();
        while rest.iter().any(|byte| *byte != 0) {
            digits.push(b'0' + divide_by_ten(&mut rest));
        }
        if digits.is_empty() {
            digits.push(b'0');
        }
        digits
            .iter()
            .rev()
            .try_for_each(|digit| fmt::Write::write_char(f, char::from(*digit)))
    }
}

/// Divides a big-endian number in place; returns the remainder.
fn divide_by_ten(number: &mut [u8]) -> u8 {
    let mut remainder = 0u16;
    for byte in number {
        let part = remainder << 8 | u16::from(*byte);
        *byte = u8::try_from(part / 10).unwrap_or(u8::MAX);
        remainder = part % 10;
    }
    u8::try_from(remainder).unwrap_or(0)
}

/// Multiplies a big-endian number in place and adds `digit`; nothing if there is no room.
fn multiply_by_ten(number: &mut [u8], digit: u8) -> Option<()> {
    let mut carry = u16::from(digit);
    for byte in number.iter_mut().rev() {
        let [high, low] = (u16::from(*byte) * 10 + carry).to_be_bytes();
        *byte = low;
        carry = u16::from(high);
    }
    (carry == 0).then_some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prints_in_decimal() {
        assert_eq!(SerialNumber::from_bytes(&[]).to_string(), "0");
        assert_eq!(SerialNumber::from_bytes(&[0, 1, 0]).to_string(), "256");
        let largest = SerialNumber::from_bytes(&[0xff; 20]).to_string();
        assert_eq!(largest, "1461501637330902918203684832716283019655932542975");
    }

    #[test]
    fn reads_decimal_digits_alone() {
        let largest = "1461501637330902918203684832716283019655932542975";
        assert_eq!(
            SerialNumber::from_decimal(largest),
            Some(SerialNumber::from_bytes(&[0xff; 20]))
        );
        for wrong in [
            "",
            "-1",
            "0x1",
            "1 ",
            "1461501637330902918203684832716283019655932542976",
        ] {
            assert_eq!(SerialNumber::from_decimal(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn reads_what_it_prints(bytes: [u8; 16]) {
            let serial = SerialNumber::from_random(bytes);
            prop_assert_eq!(SerialNumber::from_decimal(&serial.to_string()), Some(serial));
        }

        #[test]
        fn agrees_with_integers(bytes: [u8; 16]) {
            let serial = SerialNumber::from_random(bytes);
            let number = u128::from_be_bytes(bytes) & (u128::MAX >> 1);
            prop_assert_eq!(serial.to_string(), number.to_string());
        }
    }
}
