//! Authorities that somebody else signs: they are no roots, and the roots are published in their place.

use edge::Chain;
use plugin_api::{Certified, UpstreamAuthority};
use rustls_pki_types::CertificateDer;
use svid::{Timestamp, x509::Template};

use super::{
    Authority, OrderRefused, RotationError, X509Authority,
    authorities::Upstream,
    steps::{Made, Making},
};

/// Has an authority signed that is not published yet.
pub(super) fn make(
    upstream: &dyn UpstreamAuthority,
    template: Template,
    making: &Making,
) -> Result<Made<CertificateDer<'static>>, RotationError> {
    let certified = upstream.certify(template, making.now)?;
    let malformed = |what: &str| RotationError::Certificate(format!("{what} of the upstream authority"));
    let roots = certified.roots.iter().map(|root| {
        let root = X509Authority::foreign(root);
        root.ok_or_else(|| malformed("a root is no CA"))
    });
    let roots: Vec<_> = roots.collect::<Result<_, _>>()?;
    let root_id = root_id(&certified).ok_or_else(|| malformed("no root is named in the chain"))?;
    let described = X509Authority::describe(making.key_id.clone(), &certified.certificate);
    let described = described.map_err(|error| RotationError::Certificate(Chain(&error).to_string()))?;
    let authority = X509Authority {
        upstream: Some(Upstream {
            root_id,
            chain: certified.chain,
        }),
        ..described
    };
    Ok(Made { authority, roots })
}

/// What the highest certificate calls the key that signed it.
fn root_id(certified: &Certified) -> Option<String> {
    let highest = certified.chain.last().unwrap_or(&certified.certificate);
    let identifier = svid::signed_by(std::slice::from_ref(highest))?;
    Some(identifier.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Publishes the roots that are not there yet, in the bundle of `sequence`. Answers with the first bundle that had all
/// of them; nothing if there are none.
pub(super) fn publish<M: PartialEq>(
    roots: Vec<Authority<M>>,
    all: &mut Vec<Authority<M>>,
    now: Timestamp,
    sequence: u64,
) -> Result<Option<u64>, OrderRefused> {
    let mut first = None;
    for root in roots {
        let known = all.iter().find(|known| known.material == root.material);
        let since = known.map_or(sequence, |known| known.published_sequence);
        if known.is_some_and(|known| known.tainted) {
            return Err(OrderRefused::TaintedRoot(root.authority_id));
        }
        if known.is_none() {
            all.push(Authority {
                published_at: now,
                published_sequence: sequence,
                ..root
            });
        }
        first = first.max(Some(since));
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::AuthorityState;

    fn root(name: &'static str, sequence: u64, tainted: bool) -> Authority<&'static str> {
        Authority {
            key_id: String::new(),
            authority_id: name.into(),
            not_before: Timestamp::from_unix(0),
            not_after: Timestamp::from_unix(100),
            published_at: Timestamp::from_unix(0),
            published_sequence: sequence,
            state: AuthorityState::Foreign,
            tainted,
            material: name,
            upstream: None,
        }
    }

    fn check(names: &[&'static str], expected: &Result<Option<u64>, OrderRefused>, count: usize) {
        let mut all = vec![
            root("first", 1, false),
            root("second", 2, false),
            root("bad", 3, true),
        ];
        let roots = names.iter().map(|name| root(name, 0, false)).collect();
        let published = publish(roots, &mut all, Timestamp::from_unix(50), 9);
        assert_eq!(published, *expected, "{names:?}");
        assert_eq!(all.len(), count, "{names:?}");
    }

    #[test]
    fn roots_that_everyone_has_already_are_waited_for_no_longer() {
        check(&[], &Ok(None), 3);
        check(&["first"], &Ok(Some(1)), 3);
        check(&["first", "second"], &Ok(Some(2)), 3);
        check(&["first", "new"], &Ok(Some(9)), 4);
        check(&["bad"], &Err(OrderRefused::TaintedRoot("bad".into())), 3);
    }
}
