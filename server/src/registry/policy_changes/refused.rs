//! Why an order about policies can't be carried out.

use attest::policy::{GenerationsError, PolicyName};

/// An order can't be carried out.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PolicyRefused {
    /// Several generations can be meant.
    #[error("several generations of policy {0} can be meant; name one, by how its identifier begins")]
    Ambiguous(PolicyName),
    /// Generations would not belong together.
    #[error(transparent)]
    Generations(#[from] GenerationsError),
    /// There is no such generation.
    #[error("policy {0} has no such generation")]
    NoGeneration(PolicyName),
    /// There is no such policy.
    #[error("there is no policy {0}")]
    NoPolicy(PolicyName),
    /// Older versions do not come back.
    #[error(
        "version {found} of policy {name} is not newer than {newest}; give it a version above that{}",
        listed(changes)
    )]
    NotNewer {
        /// The policy.
        name: PolicyName,
        /// Its version.
        found: u32,
        /// The newest one that was applied.
        newest: u32,
        /// What it says otherwise than the newest generation.
        changes: Vec<String>,
    },
    /// Too many policies.
    #[error("{what} has more than {max} policies")]
    TooMany {
        /// The server, or a host.
        what: &'static str,
        /// How many it may have.
        max: usize,
    },
}

/// Most changes in the text of a refusal.
const MAX_LISTED: usize = 20;

fn listed(changes: &[String]) -> String {
    let shown: String = changes
        .iter()
        .take(MAX_LISTED)
        .map(|change| format!("\n{change}"))
        .collect();
    match changes.len().saturating_sub(MAX_LISTED) {
        0 => shown,
        more => format!("{shown}\nand {more} more"),
    }
}
