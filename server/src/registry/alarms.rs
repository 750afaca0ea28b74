//! Signs that one key is at two places: noted in the row of the host whose key it is, for an operator to look at. Each a
//! decision on a [`Draft`].

use std::{sync::Arc, time::Duration};

use plugin_api::{Alarm, Host};

use super::Draft;
use crate::journal::Record;

/// What was seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Alarming {
    /// Stable code.
    pub code: &'static str,
    /// In an operator's words.
    pub text: String,
    /// How many more there were of that host since one was noted.
    pub held_back: u64,
}

/// For how long the same is no news.
const REPEATED_WITHIN: Duration = Duration::from_secs(60);

/// Notes what was seen of a host; `actor` is who caused it. `None` if there is no such host, or the same was noted just
/// before.
pub fn raise(draft: &mut Draft, id: &str, alarming: &Alarming, actor: &str) -> Option<Arc<Host>> {
    let host = Arc::clone(draft.state().hosts.get(id)?);
    let is_same = |last: &&Alarm| last.code == alarming.code && draft.now().since(last.at) < REPEATED_WITHIN;
    if host.alarm.as_ref().filter(is_same).is_some() {
        return None;
    }
    let before = host.alarm.as_ref().map_or(0, |last| last.count);
    let mut record = Record::new("host_alarm", &actor)
        .with("host_id", &host.id)
        .with("host_name", &host.name);
    if let Some(path) = &host.agent_path {
        let id = format!("spiffe://{}{path}", draft.state().trust_domain);
        record = record.with("agent_id", &id);
    }
    record = record.with("code", &alarming.code).with("reason", &alarming.text);
    if alarming.held_back > 0 {
        record = record.with("held_back", &alarming.held_back);
    }
    draft.audit(record);
    let alarm = Alarm {
        code: alarming.code.into(),
        text: alarming.text.clone(),
        at: draft.now(),
        count: before.saturating_add(alarming.held_back).saturating_add(1),
    };
    Some(draft.annotate_host(Host {
        alarm: Some(alarm),
        ..(*host).clone()
    }))
}

#[cfg(test)]
mod tests {
    use svid::{Timestamp, TrustDomain};

    use super::*;
    use crate::registry::Snapshot;

    #[test]
    fn an_alarm_is_noted_and_its_repetition_is_no_news() {
        let mut state = Snapshot::empty(TrustDomain::parse("td").unwrap());
        let then = Timestamp::from_unix(1000);
        state.hosts.insert(Arc::new(Host::enrolled("h".into(), then)));
        let mut see = |id: &str, code: &'static str, at: i64, held_back: u64| {
            let mut draft = Draft::new(state.clone(), Timestamp::from_unix(at));
            let alarming = Alarming {
                code,
                text: "at two places".into(),
                held_back,
            };
            let host = raise(&mut draft, id, &alarming, "10.0.0.1:7");
            let finished = draft.finish();
            state = finished.state;
            assert_eq!(
                state.hosts.get("h").unwrap().revision,
                0,
                "evidence on its way counts"
            );
            let events: Vec<_> = finished.audit.iter().map(Record::event).collect();
            assert_eq!(
                events.as_slice(),
                if host.is_some() { &["host_alarm"][..] } else { &[] }
            );
            host.and_then(|host| host.alarm.clone()).map(|alarm| alarm.count)
        };
        assert_eq!(see("h", "ek_of_other_host", 1000, 0), Some(1));
        assert_eq!(see("h", "ek_of_other_host", 1059, 0), None);
        assert_eq!(see("h", "ak_of_other_host", 1059, 0), Some(2));
        assert_eq!(see("h", "ak_of_other_host", 1119, 7), Some(10));
        assert_eq!(see("other", "ak_of_other_host", 1119, 0), None);
    }
}
