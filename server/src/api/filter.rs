//! Filters of lists and counts.

use std::sync::Arc;

use proto::spire::api::{
    server::{
        agent::v1::{count_agents_request, list_agents_request},
        entry::v1::{count_entries_request, list_entries_request},
    },
    types,
};
use svid::{Timestamp, TrustDomain};
use tonic::Status;

use super::status;
use crate::{
    convert,
    registry::{AgentFilter, EntryFilter},
};

/// How SPIRE's tools write the time that agents are filtered by.
const EXPIRES_BEFORE: &str =
    "[year]-[month]-[day] [hour]:[minute]:[second] [offset_hour sign:mandatory][offset_minute] ";

pub(super) fn count_agents(wire: Option<&count_agents_request::Filter>) -> Result<AgentFilter, Status> {
    let Some(wire) = wire else {
        return Ok(AgentFilter::default());
    };
    // The two filters are the same by number and type.
    list_agents(Some(&list_agents_request::Filter {
        by_attestation_type: wire.by_attestation_type.clone(),
        by_selector_match: wire.by_selector_match.clone(),
        by_banned: wire.by_banned,
        by_can_reattest: wire.by_can_reattest,
        by_expires_before: wire.by_expires_before.clone(),
    }))
}

pub(super) fn list_agents(wire: Option<&list_agents_request::Filter>) -> Result<AgentFilter, Status> {
    let Some(wire) = wire else {
        return Ok(AgentFilter::default());
    };
    let selectors = wire
        .by_selector_match
        .as_ref()
        .map(convert::selector_match)
        .transpose();
    Ok(AgentFilter {
        attestation_type: Some(wire.by_attestation_type.clone()).filter(|kind| !kind.is_empty()),
        selectors: selectors.map_err(|error| status::invalid("failed to parse selectors", &error))?,
        banned: wire.by_banned,
        can_reattest: wire.by_can_reattest,
        expires_before: expires_before(&wire.by_expires_before)?,
    })
}

pub(super) fn count_entries(
    trust_domain: &TrustDomain,
    wire: Option<&count_entries_request::Filter>,
) -> Result<EntryFilter, Status> {
    let Some(wire) = wire else {
        return Ok(EntryFilter::default());
    };
    let filter = list_entries_request::Filter {
        by_spiffe_id: wire.by_spiffe_id.clone(),
        by_parent_id: wire.by_parent_id.clone(),
        by_selectors: wire.by_selectors.clone(),
        by_federates_with: wire.by_federates_with.clone(),
        by_hint: wire.by_hint.clone(),
        by_downstream: wire.by_downstream,
    };
    list_entries(trust_domain, Some(&filter))
}

pub(super) fn list_entries(
    trust_domain: &TrustDomain,
    wire: Option<&list_entries_request::Filter>,
) -> Result<EntryFilter, Status> {
    let Some(wire) = wire else {
        return Ok(EntryFilter::default());
    };
    let spiffe_id = path(wire.by_spiffe_id.as_ref(), |id| {
        convert::workload_id(trust_domain, id)
    });
    let parent_id = path(wire.by_parent_id.as_ref(), |id| {
        convert::member_id(trust_domain, id)
    });
    let selectors = wire
        .by_selectors
        .as_ref()
        .map(convert::selector_match)
        .transpose();
    let selectors = selectors.map_err(|error| status::invalid("malformed selectors filter", &error))?;
    let federates_with = wire
        .by_federates_with
        .as_ref()
        .map(convert::trust_domain_match)
        .transpose();
    let federates_with =
        federates_with.map_err(|error| status::invalid("malformed federates with filter", &error))?;
    if selectors.as_ref().is_some_and(|filter| filter.set.is_empty()) {
        return Err(Status::invalid_argument(
            "malformed selectors filter: empty selector set",
        ));
    }
    if federates_with
        .as_ref()
        .is_some_and(|filter| filter.set.is_empty())
    {
        return Err(Status::invalid_argument(
            "malformed federates with filter: empty trust domain set",
        ));
    }
    Ok(EntryFilter {
        spiffe_id: spiffe_id.map_err(|error| status::invalid("malformed SPIFFE ID filter", &error))?,
        parent_id: parent_id.map_err(|error| status::invalid("malformed parent ID filter", &error))?,
        selectors,
        federates_with,
        hint: wire.by_hint.clone().filter(|hint| !hint.is_empty()),
        downstream: wire.by_downstream,
    })
}

fn path(
    wire: Option<&types::Spiffeid>,
    read: impl Fn(Option<&types::Spiffeid>) -> Result<svid::SpiffeId, convert::IdError>,
) -> Result<Option<Arc<str>>, convert::IdError> {
    wire.map(|id| read(Some(id)).map(|id| id.shared_path()))
        .transpose()
}

fn expires_before(text: &str) -> Result<Option<Timestamp>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let refused = || {
        Status::invalid_argument(format!(
            "malformed time filter {text:?}, expected 2006-01-02 15:04:05 -0700 -07"
        ))
    };
    go_time(text).map(Some).ok_or_else(refused)
}

/// The time in `2006-01-02 15:04:05 -0700 -07`: the zone comes twice, as Go prints it.
#[must_use]
pub fn go_time(text: &str) -> Option<Timestamp> {
    let (time, _zone) = text.rsplit_once(' ')?;
    let format = time::format_description::parse_borrowed::<2>(EXPIRES_BEFORE.trim_end()).ok()?;
    let time = time::OffsetDateTime::parse(time, &format).ok()?;
    Some(Timestamp::from_unix(time.unix_timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times_as_go_prints_them() {
        let parsed = expires_before("2026-11-22 10:00:00 +0100 +01").unwrap();
        assert_eq!(parsed, Some(Timestamp::from_unix(1_795_338_000)));
        assert_eq!(expires_before("").unwrap(), None);
        assert!(expires_before("tomorrow").is_err());
    }

    #[test]
    fn refuses_empty_sets() {
        let trust_domain = TrustDomain::parse("td").unwrap();
        let filter = list_entries_request::Filter {
            by_selectors: Some(types::SelectorMatch::default()),
            ..Default::default()
        };
        let refused = list_entries(&trust_domain, Some(&filter)).unwrap_err();
        assert_eq!(
            refused.message(),
            "malformed selectors filter: empty selector set"
        );
    }
}
