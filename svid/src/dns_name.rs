//! DNS names that an X509-SVID may carry beside its SPIFFE ID.

use std::{fmt, str::FromStr};

/// A DNS name in ASCII, perhaps with `*` as its first label.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DnsName(Box<str>);

/// Why a text is no DNS name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DnsNameError {
    /// A label holds something other than letters, digits, `-` and `_`.
    #[error("label may only hold letters, digits, `-` and `_`")]
    BadCharacter,
    /// Labels neither begin nor end with a hyphen.
    #[error("label begins or ends with a hyphen")]
    BadHyphen,
    /// There is no text.
    #[error("empty or only whitespace")]
    Empty,
    /// Two dots stand side by side, or one at an end.
    #[error("label is empty")]
    EmptyLabel,
    /// A label holds 63 bytes, a name 253.
    #[error("name or label is too long")]
    TooLong,
    /// Only the first label may be `*`.
    #[error("wildcard must be first label")]
    WildcardNotFirst,
}

impl DnsName {
    /// The name as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DnsName {
    type Err = DnsNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        if name.trim().is_empty() {
            return Err(DnsNameError::Empty);
        }
        if name.len() > 253 {
            return Err(DnsNameError::TooLong);
        }
        let labels = name.strip_prefix("*.").unwrap_or(name);
        labels.split('.').try_for_each(check_label)?;
        Ok(Self(name.into()))
    }
}

fn check_label(label: &str) -> Result<(), DnsNameError> {
    if label.is_empty() {
        return Err(DnsNameError::EmptyLabel);
    }
    if label.len() > 63 {
        return Err(DnsNameError::TooLong);
    }
    if label.contains('*') {
        return Err(DnsNameError::WildcardNotFirst);
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(DnsNameError::BadHyphen);
    }
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
    if label.bytes().all(allowed) {
        Ok(())
    } else {
        Err(DnsNameError::BadCharacter)
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Result<(), DnsNameError>) {
        assert_eq!(name.parse::<DnsName>().map(drop), expected, "{name}");
    }

    #[test]
    fn accepts_names_and_a_first_wildcard() {
        check("db", Ok(()));
        check("db-1.example.org", Ok(()));
        check("_srv.Example.org", Ok(()));
        check("*.example.org", Ok(()));
    }

    #[test]
    fn refuses_what_is_no_name() {
        check("", Err(DnsNameError::Empty));
        check("  ", Err(DnsNameError::Empty));
        check("a..b", Err(DnsNameError::EmptyLabel));
        check("a.", Err(DnsNameError::EmptyLabel));
        check("a.*.b", Err(DnsNameError::WildcardNotFirst));
        check("*", Err(DnsNameError::WildcardNotFirst));
        check("*.*.b", Err(DnsNameError::WildcardNotFirst));
        check("-a.b", Err(DnsNameError::BadHyphen));
        check("bücher.example", Err(DnsNameError::BadCharacter));
        check("a b", Err(DnsNameError::BadCharacter));
        check(&"a".repeat(64), Err(DnsNameError::TooLong));
        check(&["abcdefg"; 40].join("."), Err(DnsNameError::TooLong));
    }
}
