//! Who would be refused, before anybody is.

use super::{Differences, Evidence, Policy, judge};

/// The hosts whose last evidence does not meet `candidate`, with what differs: the list to read before it is enforced.
/// A host whose evidence is not kept is none of `hosts`, and whoever calls says so.
pub fn would_fall_out<'a, H>(
    candidate: &Policy,
    hosts: impl IntoIterator<Item = (H, Evidence<'a>)>,
) -> impl Iterator<Item = (H, Differences)> {
    hosts
        .into_iter()
        .map(|(host, evidence)| (host, judge(candidate, &evidence)))
        .filter(|(_, differences)| !differences.is_empty())
}
