//! SPIFFE IDs and trust domains.
//! <https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md>

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// A trust domain: the name in a SPIFFE ID that says whose keys to verify it with. Cheap to clone.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(Arc<str>);

/// Why a text is no trust domain.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TrustDomainError {
    /// Only `a-z`, `0-9`, `.`, `-` and `_` are allowed (§2.1).
    #[error("trust domain may only hold a-z, 0-9, `.`, `-` and `_`")]
    BadCharacter,
    /// There is no text (§2.1).
    #[error("trust domain is missing")]
    Empty,
    /// At most 255 bytes are emitted (§2.3).
    #[error("trust domain is longer than {max} bytes", max = TrustDomain::MAX_LEN)]
    TooLong,
}

impl TrustDomain {
    /// Longest trust domain in bytes (§2.3).
    pub const MAX_LEN: usize = 255;

    /// Parses a name such as `example.org`, without scheme.
    ///
    /// # Errors
    ///
    /// The first rule of the standard that `name` breaks.
    pub fn parse(name: &str) -> Result<Self, TrustDomainError> {
        if name.is_empty() {
            return Err(TrustDomainError::Empty);
        }
        if name.len() > Self::MAX_LEN {
            return Err(TrustDomainError::TooLong);
        }
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'.' | b'-' | b'_');
        if !name.bytes().all(allowed) {
            return Err(TrustDomainError::BadCharacter);
        }
        Ok(Self(name.into()))
    }

    /// Parses a name, or the SPIFFE ID of a trust domain: both `example.org` and `spiffe://example.org` are
    /// in use. A path is ignored, as SPIRE's tools do.
    ///
    /// # Errors
    ///
    /// As [`TrustDomain::parse`].
    pub fn parse_name_or_id(text: &str) -> Result<Self, TrustDomainError> {
        let name = match strip_scheme(text) {
            Some(rest) => rest.split('/').next().unwrap_or(rest),
            None => text,
        };
        Self::parse(name)
    }

    /// The bare name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The ID of the trust domain itself, such as `spiffe://example.org`.
    #[must_use]
    pub fn id(&self) -> SpiffeId {
        SpiffeId {
            trust_domain: self.clone(),
            path: Arc::from(""),
        }
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = TrustDomainError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::parse(name)
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = TrustDomainError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::parse(&name)
    }
}

impl From<TrustDomain> for String {
    fn from(trust_domain: TrustDomain) -> Self {
        trust_domain.0.as_ref().into()
    }
}

/// The name of a workload, or of a trust domain where the path is empty. Cheap to clone.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    path: Arc<str>,
}

/// Why a text is no SPIFFE ID.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SpiffeIdError {
    /// Segments hold `a-z`, `A-Z`, `0-9`, `.`, `-` and `_` only; this excludes percent-encoding, query and
    /// fragment (§2, §2.2).
    #[error("path may only hold letters, digits, `.`, `-` and `_` between its slashes")]
    BadPathCharacter,
    /// `.` and `..` are no segments (§2.2).
    #[error("path has a `.` or `..` segment")]
    DotSegment,
    /// Two slashes stand side by side (§2.2).
    #[error("path has an empty segment")]
    EmptySegment,
    /// A path begins with a slash (§2.2).
    #[error("path has no leading slash")]
    NoLeadingSlash,
    /// More than 2048 bytes (§2.3).
    #[error("SPIFFE ID is longer than {max} bytes", max = SpiffeId::MAX_LEN)]
    TooLong,
    /// The path ends with a slash (§2.2).
    #[error("path ends with a slash")]
    TrailingSlash,
    /// The name after the scheme is none (§2.1); this excludes user info and port.
    #[error(transparent)]
    TrustDomain(#[from] TrustDomainError),
    /// The scheme is not `spiffe` (§2).
    #[error("scheme is missing or not `spiffe`")]
    WrongScheme,
}

impl SpiffeId {
    /// Longest SPIFFE ID in bytes (§2.3).
    pub const MAX_LEN: usize = 2048;

    /// Parses `spiffe://trust-domain/path`. The path may be missing.
    ///
    /// # Errors
    ///
    /// The first rule of the standard that `text` breaks.
    pub fn parse(text: &str) -> Result<Self, SpiffeIdError> {
        if text.len() > Self::MAX_LEN {
            return Err(SpiffeIdError::TooLong);
        }
        let rest = strip_scheme(text).ok_or(SpiffeIdError::WrongScheme)?;
        let (name, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        Self::new(TrustDomain::parse(name)?, path)
    }

    /// Joins a trust domain and a path, which is empty or begins with a slash.
    ///
    /// # Errors
    ///
    /// The first rule of the standard that `path` breaks.
    pub fn new(trust_domain: TrustDomain, path: &str) -> Result<Self, SpiffeIdError> {
        check_path(path)?;
        if "spiffe://".len() + trust_domain.as_str().len() + path.len() > Self::MAX_LEN {
            return Err(SpiffeIdError::TooLong);
        }
        Ok(Self {
            trust_domain,
            path: path.into(),
        })
    }

    /// The trust domain it belongs to.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The path: empty, or with a leading slash.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The path, shared.
    #[must_use]
    pub fn shared_path(&self) -> Arc<str> {
        Arc::clone(&self.path)
    }

    /// Whether it belongs to `trust_domain`.
    #[must_use]
    pub fn is_member_of(&self, trust_domain: &TrustDomain) -> bool {
        self.trust_domain == *trust_domain
    }

    /// Whether the path lies in `/spire/`, which servers and agents have for themselves.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.path.as_ref() == "/spire" || self.path.starts_with("/spire/")
    }
}

fn strip_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once("://")?;
    scheme.eq_ignore_ascii_case("spiffe").then_some(rest)
}

fn check_path(path: &str) -> Result<(), SpiffeIdError> {
    if path.is_empty() {
        return Ok(());
    }
    let segments = path.strip_prefix('/').ok_or(SpiffeIdError::NoLeadingSlash)?;
    if segments.is_empty() || segments.ends_with('/') {
        return Err(SpiffeIdError::TrailingSlash);
    }
    segments.split('/').try_for_each(check_segment)
}

fn check_segment(segment: &str) -> Result<(), SpiffeIdError> {
    match segment {
        "" => return Err(SpiffeIdError::EmptySegment),
        "." | ".." => return Err(SpiffeIdError::DotSegment),
        _ => {}
    }
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
    if segment.bytes().all(allowed) {
        Ok(())
    } else {
        Err(SpiffeIdError::BadPathCharacter)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}{}", self.trust_domain, self.path)
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for SpiffeId {
    type Error = SpiffeIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<SpiffeId> for String {
    fn from(id: SpiffeId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Result<(&str, &str), SpiffeIdError>) {
        let parsed = SpiffeId::parse(text);
        let parts = parsed.as_ref().map(|id| (id.trust_domain().as_str(), id.path()));
        assert_eq!(parts.map_err(|error| *error), expected, "{text}");
    }

    #[test]
    fn accepts_what_the_standard_allows() {
        check("spiffe://example.org", Ok(("example.org", "")));
        check("SPIFFE://example.org/a/b", Ok(("example.org", "/a/b")));
        check("spiffe://10.0.0.1/9eebccd2", Ok(("10.0.0.1", "/9eebccd2")));
        check("spiffe://a_b-c.d/A.b-c_d/...", Ok(("a_b-c.d", "/A.b-c_d/...")));
    }

    #[test]
    fn refuses_each_breach_of_the_standard() {
        use SpiffeIdError as E;
        use TrustDomainError as T;
        check("", Err(E::WrongScheme));
        check("https://example.org/a", Err(E::WrongScheme));
        check("spiffe:/example.org/a", Err(E::WrongScheme));
        check("spiffe:///a", Err(E::TrustDomain(T::Empty)));
        check("spiffe://Example.org/a", Err(E::TrustDomain(T::BadCharacter)));
        check(
            "spiffe://user@example.org/a",
            Err(E::TrustDomain(T::BadCharacter)),
        );
        check("spiffe://example.org:80/a", Err(E::TrustDomain(T::BadCharacter)));
        check("spiffe://exam%70le.org/a", Err(E::TrustDomain(T::BadCharacter)));
        check("spiffe://[::1]/a", Err(E::TrustDomain(T::BadCharacter)));
        check("spiffe://example.org/", Err(E::TrailingSlash));
        check("spiffe://example.org/a/", Err(E::TrailingSlash));
        check("spiffe://example.org//a", Err(E::EmptySegment));
        check("spiffe://example.org/a/../b", Err(E::DotSegment));
        check("spiffe://example.org/./b", Err(E::DotSegment));
        check("spiffe://example.org/a%20b", Err(E::BadPathCharacter));
        check("spiffe://example.org/a?", Err(E::BadPathCharacter));
        check("spiffe://example.org/a#f", Err(E::BadPathCharacter));
        check("spiffe://example.org/ä", Err(E::BadPathCharacter));
    }

    #[test]
    fn accepts_2048_bytes_and_not_one_more() {
        let longest = format!("spiffe://td/{}", "a".repeat(2048 - "spiffe://td/".len()));
        assert!(SpiffeId::parse(&longest).is_ok());
        check(&format!("{longest}a"), Err(SpiffeIdError::TooLong));
        assert_eq!(
            TrustDomain::parse(&"a".repeat(256)),
            Err(TrustDomainError::TooLong)
        );
        let td = TrustDomain::parse("td").unwrap();
        assert_eq!(
            SpiffeId::new(td, &format!("/{}", "a".repeat(2048))),
            Err(SpiffeIdError::TooLong)
        );
    }

    #[test]
    fn reserves_spire_for_itself() {
        let reserved = |path| {
            SpiffeId::new(TrustDomain::parse("td").unwrap(), path)
                .unwrap()
                .is_reserved()
        };
        assert!(reserved("/spire/server"));
        assert!(reserved("/spire"));
        assert!(!reserved("/spires"));
        assert!(!reserved("/a/spire/x"));
    }

    #[test]
    fn a_trust_domain_may_come_as_its_id() {
        let td = TrustDomain::parse("example.org").unwrap();
        assert_eq!(
            TrustDomain::parse_name_or_id("spiffe://example.org").as_ref(),
            Ok(&td)
        );
        assert_eq!(TrustDomain::parse_name_or_id("example.org").as_ref(), Ok(&td));
        assert_eq!(td.id().to_string(), "spiffe://example.org");
    }

    proptest! {
        #[test]
        fn parsing_undoes_printing(name in "[a-z0-9._-]{1,40}", path in "(/[a-zA-Z0-9_-]{1,10}){0,5}") {
            let text = format!("spiffe://{name}{path}");
            prop_assert_eq!(SpiffeId::parse(&text).unwrap().to_string(), text);
        }

        #[test]
        fn never_panics(text in ".{0,300}") {
            let _outcome = SpiffeId::parse(&text);
        }
    }
}
