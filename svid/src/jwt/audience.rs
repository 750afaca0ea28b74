//! For whom a token is.

/// The audience of a token that is to be made: at least one, each once (JWT-SVID §3.2).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Audience(Vec<String>);

/// An audience can't be put into a token.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AudienceError {
    /// A control character, which would be escaped to six bytes.
    #[error("audience {0:?} has a control character")]
    Character(String),
    /// One of them is empty.
    #[error("audience must not be empty text")]
    Empty,
    /// There is none.
    #[error("at least one audience is required")]
    Missing,
    /// Too many, or too long.
    #[error("more than {max} audiences, or more than {len} bytes of them", max = Audience::MAX, len = Audience::MAX_LEN)]
    TooLarge,
}

impl Audience {
    /// Most audiences of a token.
    pub const MAX: usize = 64;
    /// Most bytes of all audiences of a token.
    pub const MAX_LEN: usize = 8 * 1024;

    /// Takes audiences as a caller names them; those named twice count once.
    ///
    /// # Errors
    ///
    /// There are none, too many, or one that can't be named.
    pub fn new(names: Vec<String>) -> Result<Self, AudienceError> {
        let len: usize = names.iter().map(String::len).sum();
        if names.len() > Self::MAX || len > Self::MAX_LEN {
            return Err(AudienceError::TooLarge);
        }
        let mut audience = Vec::with_capacity(names.len());
        for name in names {
            if name.is_empty() {
                return Err(AudienceError::Empty);
            }
            if name.chars().any(char::is_control) {
                return Err(AudienceError::Character(name));
            }
            if !audience.contains(&name) {
                audience.push(name);
            }
        }
        if audience.is_empty() {
            return Err(AudienceError::Missing);
        }
        Ok(Self(audience))
    }

    /// The names, in the caller's order.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }
}
