//! Selectors: facts that attestors find, and sets of them.

use std::{cmp::Ordering, fmt, str::FromStr, sync::Arc};

/// A fact about a node or workload, such as `unix:uid:1000`: kind `unix`, value `uid:1000`.
///
/// Kept as printed, in one piece: a server holds them by the million.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Selector(Box<str>);

/// Why a text is no selector.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SelectorError {
    /// The kind holds a colon: it ends at the first one.
    #[error("selector type contains ':'")]
    ColonInKind,
    /// There is no kind.
    #[error("missing selector type")]
    MissingKind,
    /// There is no value.
    #[error("missing selector value")]
    MissingValue,
    /// The text has no colon at all.
    #[error("selector is not of the form type:value")]
    NoColon,
}

impl Selector {
    /// Joins kind and value.
    ///
    /// # Errors
    ///
    /// One of the two is missing, or the kind holds a colon.
    pub fn new(kind: &str, value: &str) -> Result<Self, SelectorError> {
        if kind.is_empty() {
            return Err(SelectorError::MissingKind);
        }
        if kind.contains(':') {
            return Err(SelectorError::ColonInKind);
        }
        if value.is_empty() {
            return Err(SelectorError::MissingValue);
        }
        Ok(Self([kind, ":", value].concat().into()))
    }

    /// The attestor that found it.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.parts().0
    }

    /// What it found.
    #[must_use]
    pub fn value(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (&str, &str) {
        self.0.split_once(':').unwrap_or_default()
    }
}

/// By kind, then by value.
impl Ord for Selector {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for Selector {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, value) = text.split_once(':').ok_or(SelectorError::NoColon)?;
        Self::new(kind, value)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Selectors without order or repetition. Cheap to clone.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SelectorSet(Arc<[Selector]>);

impl SelectorSet {
    /// Whether every selector of this set is in `other`: so an entry matches what was attested.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        let mut theirs = other.0.iter();
        self.0
            .iter()
            .all(|ours| theirs.by_ref().find(|theirs| *theirs >= ours) == Some(ours))
    }

    /// Whether the sets share a selector.
    #[must_use]
    pub fn intersects(&self, other: &Self) -> bool {
        self.iter().any(|ours| other.contains(ours))
    }

    /// Whether `selector` is in the set.
    #[must_use]
    pub fn contains(&self, selector: &Selector) -> bool {
        self.0.binary_search(selector).is_ok()
    }

    /// In ascending order.
    pub fn iter(&self) -> std::slice::Iter<'_, Selector> {
        self.0.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Selector> for SelectorSet {
    fn from_iter<I: IntoIterator<Item = Selector>>(selectors: I) -> Self {
        let mut selectors: Vec<_> = selectors.into_iter().collect();
        selectors.sort_unstable();
        selectors.dedup();
        Self(selectors.into())
    }
}

impl<'a> IntoIterator for &'a SelectorSet {
    type Item = &'a Selector;
    type IntoIter = std::slice::Iter<'a, Selector>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn set(texts: &[&str]) -> SelectorSet {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn splits_at_the_first_colon() {
        let selector: Selector = "unix:uid:1000".parse().unwrap();
        assert_eq!((selector.kind(), selector.value()), ("unix", "uid:1000"));
        assert_eq!(selector.to_string(), "unix:uid:1000");
    }

    #[test]
    fn refuses_halves() {
        assert_eq!("unix".parse::<Selector>(), Err(SelectorError::NoColon));
        assert_eq!(":uid".parse::<Selector>(), Err(SelectorError::MissingKind));
        assert_eq!("unix:".parse::<Selector>(), Err(SelectorError::MissingValue));
        assert_eq!(Selector::new("a:b", "c"), Err(SelectorError::ColonInKind));
    }

    #[test]
    fn orders_by_kind_first() {
        let ordered = set(&["k8s-x:a", "k8s:z", "k8s:b:c"]);
        let printed: Vec<_> = ordered.iter().map(ToString::to_string).collect();
        assert_eq!(printed, ["k8s:b:c", "k8s:z", "k8s-x:a"]);
    }

    #[test]
    fn matches_by_subset() {
        let attested = set(&["unix:uid:0", "unix:gid:0", "unix:path:/bin/sh"]);
        assert!(set(&["unix:uid:0"]).is_subset(&attested));
        assert!(set(&["unix:path:/bin/sh", "unix:gid:0"]).is_subset(&attested));
        assert!(set(&[]).is_subset(&attested));
        assert!(!set(&["unix:uid:0", "unix:uid:1"]).is_subset(&attested));
        assert!(!attested.is_subset(&set(&["unix:uid:0"])));
    }

    proptest! {
        #[test]
        fn agrees_with_the_standard_library(a in prop::collection::btree_set(0u8..12, 0..8),
                                            b in prop::collection::btree_set(0u8..12, 0..8)) {
            let make = |of: &BTreeSet<u8>| -> SelectorSet {
                of.iter().map(|n| Selector::new("t", &n.to_string()).unwrap()).collect()
            };
            prop_assert_eq!(make(&a).is_subset(&make(&b)), a.is_subset(&b));
            prop_assert_eq!(make(&a).intersects(&make(&b)), !a.is_disjoint(&b));
        }
    }
}
