//! What may be ordered of an authority: a pure decision. A rotation by force goes prepare → activate → taint →
//! revoke, and no step of it takes away what somebody still signs with.

use svid::Timestamp;

use super::{Authority, AuthorityState};

/// X.509 or JWT.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AuthorityKind {
    /// For JWT-SVIDs.
    Jwt,
    /// For X509-SVIDs.
    X509,
}

/// What an operator orders. Authorities are named by their identifier.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Order {
    /// Let this prepared one sign.
    Activate(String),
    /// Make and publish the one that will sign next, in place of one that was prepared before.
    Prepare,
    /// Trust this tainted one no longer.
    Revoke(String),
    /// Have everything replaced that this old one signed.
    Taint(String),
}

/// An order can't be carried out.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OrderRefused {
    /// It signs: activate another one before.
    #[error("authority `{0}` is active; prepare and activate another one before")]
    Active(String),
    /// It was tainted before.
    #[error("authority `{0}` is tainted already")]
    AlreadyTainted(String),
    /// It has ended.
    #[error("authority `{0}` has ended")]
    Ended(String),
    /// The bundle would hold too many.
    #[error(
        "the bundle holds {0} authorities: taint and revoke old ones, or wait until they end, before another is prepared"
    )]
    Full(usize),
    /// Somebody else signed it.
    #[error("authority `{0}` rests on the upstream authority `{1}`: taint and revoke that one instead")]
    HasUpstream(String, String),
    /// None was named.
    #[error("no authority ID provided")]
    NoId,
    /// It did sign, or does.
    #[error("authority `{0}` is not prepared: only prepared authorities can be activated")]
    NotPrepared(String),
    /// What it signed was not replaced before.
    #[error("authority `{0}` is not tainted: only tainted authorities can be revoked")]
    NotTainted(String),
    /// It has not signed yet.
    #[error("authority `{0}` is prepared: only old authorities can be tainted or revoked")]
    Prepared(String),
    /// It stands behind one that signs, or will.
    #[error(
        "authority `{0}` stands behind the one that is active or prepared: put another upstream authority into its place, \
         prepare and activate before"
    )]
    RootInUse(String),
    /// It is to be trusted no longer.
    #[error("upstream authority `{0}` is tainted: put another one into its place")]
    TaintedRoot(String),
    /// There is none of that name.
    #[error("there is no authority `{0}` of this server")]
    Unknown(String),
}

impl Order {
    /// Finds what the order is about, if it may be carried out: the position among `authorities`, or nothing for an
    /// order that is about none of them.
    ///
    /// # Errors
    ///
    /// It can't be carried out.
    pub fn decide<M>(
        &self,
        authorities: &[Authority<M>],
        now: Timestamp,
    ) -> Result<Option<usize>, OrderRefused> {
        let Some(id) = self.about() else { return Ok(None) };
        if id.is_empty() {
            return Err(OrderRefused::NoId);
        }
        let named = |(_, authority): &(usize, &Authority<M>)| authority.authority_id == id;
        let found = authorities.iter().enumerate().find(named);
        let (position, authority) = found.ok_or_else(|| OrderRefused::Unknown(id.into()))?;
        self.check(authority, now)?;
        let needs_it = |other: &Authority<M>| {
            matches!(other.state, AuthorityState::Active | AuthorityState::Prepared) && other.rests_on(id)
        };
        if authorities.iter().any(needs_it) {
            return Err(OrderRefused::RootInUse(id.into()));
        }
        Ok(Some(position))
    }

    fn about(&self) -> Option<&str> {
        match self {
            Self::Activate(id) | Self::Revoke(id) | Self::Taint(id) => Some(id),
            Self::Prepare => None,
        }
    }

    fn check<M>(&self, authority: &Authority<M>, now: Timestamp) -> Result<(), OrderRefused> {
        use AuthorityState::{Active, Foreign, Old, Prepared};
        let id = || authority.authority_id.clone();
        if let (Self::Revoke(_) | Self::Taint(_), Some(upstream)) = (self, &authority.upstream) {
            return Err(OrderRefused::HasUpstream(id(), upstream.root_id.clone()));
        }
        match (self, authority.state) {
            (Self::Prepare, _) => Ok(()),
            (Self::Activate(_), Prepared) if authority.not_after <= now => Err(OrderRefused::Ended(id())),
            (Self::Activate(_), Prepared) => Ok(()),
            (Self::Revoke(_) | Self::Taint(_), Active) => Err(OrderRefused::Active(id())),
            (Self::Revoke(_) | Self::Taint(_), Prepared) => Err(OrderRefused::Prepared(id())),
            (Self::Activate(_), Foreign) => Err(OrderRefused::Unknown(id())),
            (Self::Activate(_), _) => Err(OrderRefused::NotPrepared(id())),
            (Self::Revoke(_), Old | Foreign) if !authority.tainted => Err(OrderRefused::NotTainted(id())),
            (Self::Taint(_), Old | Foreign) if authority.tainted => Err(OrderRefused::AlreadyTainted(id())),
            (Self::Revoke(_) | Self::Taint(_), Old | Foreign) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::ca::Upstream;
    use AuthorityState::{Active, Foreign, Old, Prepared};
    use Order::{Activate, Prepare, Revoke, Taint};

    fn authority(id: &str, state: AuthorityState, tainted: bool) -> Authority<()> {
        Authority {
            key_id: String::new(),
            authority_id: id.into(),
            not_before: Timestamp::from_unix(0),
            not_after: Timestamp::from_unix(100),
            published_at: Timestamp::from_unix(0),
            published_sequence: 1,
            state,
            tainted,
            material: (),
            upstream: None,
        }
    }

    fn check(order: fn(String) -> Order, id: &str, expected: Result<usize, fn(String) -> OrderRefused>) {
        let authorities = [
            authority("old", Old, false),
            authority("tainted", Old, true),
            authority("active", Active, false),
            authority("next", Prepared, false),
            authority("theirs", Foreign, false),
        ];
        let decided = order(id.into()).decide(&authorities, Timestamp::from_unix(50));
        let expected = expected.map(Some).map_err(|refused| refused(id.into()));
        assert_eq!(decided, expected, "{:?}", order(id.into()));
    }

    #[test]
    fn only_what_is_prepared_is_activated() {
        check(Activate, "next", Ok(3));
        for id in ["old", "tainted", "active"] {
            check(Activate, id, Err(OrderRefused::NotPrepared));
        }
        let ended =
            Activate("next".into()).decide(&[authority("next", Prepared, false)], Timestamp::from_unix(100));
        assert_eq!(ended, Err(OrderRefused::Ended("next".into())));
    }

    #[test]
    fn only_what_no_longer_signs_is_tainted_and_then_revoked() {
        check(Taint, "old", Ok(0));
        check(Taint, "tainted", Err(OrderRefused::AlreadyTainted));
        check(Revoke, "tainted", Ok(1));
        check(Revoke, "old", Err(OrderRefused::NotTainted));
        for order in [Taint, Revoke] {
            check(order, "active", Err(OrderRefused::Active));
            check(order, "next", Err(OrderRefused::Prepared));
        }
    }

    #[test]
    fn what_others_sign_with_can_be_let_go() {
        check(Taint, "theirs", Ok(4));
        check(Revoke, "theirs", Err(OrderRefused::NotTainted));
    }

    #[test]
    fn a_root_is_kept_as_long_as_somebody_signs_below_it() {
        let below = |state| Authority {
            upstream: Some(Upstream {
                root_id: "root".into(),
                chain: Vec::new(),
            }),
            ..authority("below", state, false)
        };
        let decide = |order: Order, state| {
            order.decide(
                &[authority("root", Foreign, false), below(state)],
                Timestamp::from_unix(50),
            )
        };
        let in_use = Err(OrderRefused::RootInUse("root".into()));
        assert_eq!(decide(Taint("root".into()), Active), in_use);
        assert_eq!(decide(Taint("root".into()), Prepared), in_use);
        assert_eq!(decide(Taint("root".into()), Old), Ok(Some(0)));
        // It is not published: without its root it is nothing.
        let refused = OrderRefused::HasUpstream("below".into(), "root".into());
        assert_eq!(decide(Taint("below".into()), Old), Err(refused));
    }

    #[test]
    fn an_order_is_about_an_authority_of_this_server() {
        check(Activate, "theirs", Err(OrderRefused::Unknown));
        for order in [Activate, Taint, Revoke] {
            check(order, "nobody", Err(OrderRefused::Unknown));
            check(order, "", Err(|_| OrderRefused::NoId));
        }
        assert_eq!(Prepare.decide::<()>(&[], Timestamp::from_unix(0)), Ok(None));
    }
}
