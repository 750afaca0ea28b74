//! Selectors, and filters over sets.

use std::collections::BTreeSet;

use proto::spire::api::types;
use svid::{Selector, SelectorError, SelectorSet, TrustDomain, TrustDomainError};

use crate::registry::{Match, SetMatch};

/// Reads selectors.
///
/// # Errors
///
/// One of them is malformed.
pub fn selectors_from_wire(wire: &[types::Selector]) -> Result<SelectorSet, SelectorError> {
    wire.iter()
        .map(|selector| Selector::new(&selector.r#type, &selector.value))
        .collect()
}

/// Writes selectors.
#[must_use]
pub fn selectors_to_wire(selectors: &SelectorSet) -> Vec<types::Selector> {
    let wire = |selector: &Selector| types::Selector {
        r#type: selector.kind().into(),
        value: selector.value().into(),
    };
    selectors.iter().map(wire).collect()
}

/// Reads a filter by selectors; a number that is no behaviour is taken as the first one, as protobuf does.
///
/// # Errors
///
/// One of the selectors is malformed.
pub fn selector_match(wire: &types::SelectorMatch) -> Result<SetMatch<SelectorSet>, SelectorError> {
    use types::selector_match::MatchBehavior as Wire;
    let by = match wire.r#match() {
        Wire::MatchExact => Match::Exact,
        Wire::MatchSubset => Match::Subset,
        Wire::MatchSuperset => Match::Superset,
        Wire::MatchAny => Match::Any,
    };
    Ok(SetMatch {
        set: selectors_from_wire(&wire.selectors)?,
        by,
    })
}

/// Reads a filter by trust domains.
///
/// # Errors
///
/// One of the trust domains is malformed.
pub fn trust_domain_match(
    wire: &types::FederatesWithMatch,
) -> Result<SetMatch<BTreeSet<TrustDomain>>, TrustDomainError> {
    use types::federates_with_match::MatchBehavior as Wire;
    let by = match wire.r#match() {
        Wire::MatchExact => Match::Exact,
        Wire::MatchSubset => Match::Subset,
        Wire::MatchSuperset => Match::Superset,
        Wire::MatchAny => Match::Any,
    };
    let names = wire.trust_domains.iter();
    let set = names
        .map(|name| TrustDomain::parse_name_or_id(name))
        .collect::<Result<_, _>>()?;
    Ok(SetMatch { set, by })
}
