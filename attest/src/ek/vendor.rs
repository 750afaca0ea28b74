//! Makers of TPMs, by the identifiers of the TCG TPM Vendor ID Registry.

use std::{fmt, str::FromStr};

/// A maker of TPMs: the four characters of TPM_PT_MANUFACTURER. Prints as certificates have it, `id:53544D20`.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct VendorId([u8; 4]);

/// A text names no maker of TPMs.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "a manufacturer is its TCG vendor ID: up to four letters such as `STM`, or hex such as `id:53544D20`"
)]
pub struct VendorIdError;

impl VendorId {
    /// The value of TPM_PT_MANUFACTURER.
    #[must_use]
    pub const fn from_property(value: u32) -> Self {
        Self(value.to_be_bytes())
    }

    /// Of four characters; those of shorter names are NUL or space.
    pub(super) const fn new(bytes: [u8; 4]) -> Self {
        Self(bytes)
    }

    /// Whether both are the same but for padding, which certificates and TPMs of one vendor may have otherwise.
    #[must_use]
    pub fn is(self, other: Self) -> bool {
        self.trimmed() == other.trimmed()
    }

    /// Its letters, such as `STM`; hex where they are none.
    #[must_use]
    pub fn letters(self) -> String {
        let letters = self.trimmed();
        if letters.iter().all(u8::is_ascii_graphic) {
            letters.iter().copied().map(char::from).collect()
        } else {
            hex::encode(letters)
        }
    }

    fn trimmed(&self) -> &[u8] {
        let end = self.0.iter().rposition(|byte| !matches!(byte, 0 | b' '));
        end.and_then(|end| self.0.get(..=end)).unwrap_or_default()
    }
}

impl FromStr for VendorId {
    type Err = VendorIdError;

    fn from_str(text: &str) -> Result<Self, VendorIdError> {
        let mut bytes = [0; 4];
        if let Some((_, digits)) = text
            .split_once(':')
            .filter(|(id, _)| id.eq_ignore_ascii_case("id"))
        {
            hex::decode_to_slice(digits.trim_end_matches('\0'), &mut bytes).map_err(|_| VendorIdError)?;
            return Ok(Self(bytes));
        }
        let is_name = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_name {
            return Err(VendorIdError);
        }
        bytes
            .iter_mut()
            .zip(text.bytes())
            .for_each(|(to, from)| *to = from);
        Ok(Self(bytes))
    }
}

impl fmt::Display for VendorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "id:{}", hex::encode_upper(self.0))
    }
}

impl fmt::Debug for VendorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, VendorIdError>) {
        let parsed = text.parse::<VendorId>().map(|vendor| vendor.to_string());
        assert_eq!(parsed, expected.map(str::to_owned), "{text}");
    }

    #[test]
    fn is_read_as_certificates_and_operators_write_it() {
        check("id:53544D20", Ok("id:53544D20"));
        check("ID:53544d20", Ok("id:53544D20"));
        check("IFX", Ok("id:49465800"));
        check("INTC", Ok("id:494E5443"));
        for other in [
            "",
            "id:",
            "id:53544D",
            "id:53544D2000",
            "id:53544D2g",
            "Intel",
            "a b",
            "53544D20",
        ] {
            check(other, Err(VendorIdError));
        }
    }

    #[test]
    fn padding_does_not_tell_vendors_apart() {
        let [nul, space, other] = ["STM", "id:53544D20", "NTC"].map(|text| text.parse::<VendorId>().unwrap());
        assert!(nul.is(space) && space.is(nul));
        assert!(!nul.is(other));
        assert!(VendorId::from_property(0x5354_4d20).is(nul));
    }
}
