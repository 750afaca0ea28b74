use plugin_api::{Finding, Host, HostEvent, Offence};
use svid::{
    TrustDomain,
    x509::{CrlContent, RevocationReason, Revoked, SerialNumber},
};

use super::*;
use crate::{
    ca::Crl,
    registry::{AgentSvid, Entry, PathKey},
};

const NOW: Timestamp = Timestamp::from_unix(1000);

fn svid(id: &str, serial: u8, not_after: i64) -> Presented {
    Presented::Svid(X509Svid {
        id: SpiffeId::parse(id).unwrap(),
        serial: SerialNumber::from_bytes(&[serial]),
        not_before: Timestamp::from_unix(0),
        not_after: Timestamp::from_unix(not_after),
    })
}

/// As [`svid`], and the host proved itself on the connection.
fn proven(id: &str, serial: u8, not_after: i64) -> Presented {
    match svid(id, serial, not_after) {
        Presented::Svid(svid) => Presented::Proven(svid),
        other => other,
    }
}

/// The serial number of a certificate that is on a CRL.
const REVOKED: u8 = 66;

fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot::empty(TrustDomain::parse("td").unwrap());
    snapshot.crls.insert("ca".into(), Arc::new(crl()));
    let issued = |serial| AgentSvid {
        serial: SerialNumber::from_bytes(&[serial]),
        not_after: Timestamp::from_unix(2000),
    };
    for (path, banned, host) in [
        ("/spire/agent/x/good", false, None),
        ("/spire/agent/x/banned", true, None),
        ("/spire/agent/tpm/good", false, Some("host".into())),
        ("/spire/agent/tpm/banned", true, Some("host".into())),
    ] {
        let agent = Agent {
            path: path.into(),
            attestation_type: "x".into(),
            current: issued(1),
            next: Some(issued(2)),
            banned,
            can_reattest: false,
            host,
            selectors: svid::SelectorSet::default(),
            version: String::new(),
            attested_at: NOW,
        };
        snapshot.agents.insert(path.into(), Arc::new(agent));
    }
    let mut host = Host::enrolled("host".into(), NOW);
    host.verdict.finding = Finding::Verified;
    snapshot.hosts.insert(Arc::new(host));
    for (id, admin, downstream) in [
        ("admin", true, false),
        ("down", false, true),
        ("plain", false, false),
    ] {
        let key = |path: &str| PathKey {
            path: path.into(),
            id: id.into(),
        };
        let entry = Entry {
            spiffe_id: key(&format!("/{id}")),
            parent_id: key("/p"),
            admin,
            downstream,
            ..Entry::default()
        };
        snapshot.entries.insert(Arc::new(entry));
    }
    snapshot
}

fn crl() -> Crl {
    let revoked = Revoked {
        serial: SerialNumber::from_bytes(&[REVOKED]),
        not_after: Timestamp::from_unix(2000),
        revoked_at: NOW,
        reason: RevocationReason::PrivilegeWithdrawn,
    };
    let content = CrlContent {
        revoked: vec![revoked],
        ..CrlContent::default()
    };
    Crl {
        content,
        der: Default::default(),
    }
}

fn check(access: Access, presented: &Presented, expected: Result<&str, Denied>) {
    check_where(&["spiffe://other/boss"], access, presented, expected);
}

fn check_where(admins: &[&str], access: Access, presented: &Presented, expected: Result<&str, Denied>) {
    let admin_ids = admins.iter().map(|id| SpiffeId::parse(id).unwrap()).collect();
    let outcome = authorize("m", access, presented, &admin_ids, &snapshot(), NOW);
    assert_eq!(outcome.map(|caller| caller.to_string()), expected.map(Into::into));
}

const NONE: Access = Access {
    admin: false,
    agent: false,
    anyone: false,
    downstream: false,
    local: false,
    unproven: false,
};
const AGENT: Access = Access { agent: true, ..NONE };
const ADMIN: Access = Access {
    admin: true,
    local: true,
    ..NONE
};

fn denied() -> Denied {
    Denied::Method("m".into())
}

fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(text).unwrap()
}

#[test]
fn agents_are_judged_by_row_serial_ban_and_time() {
    let good = "spiffe://td/spire/agent/x/good";
    check(AGENT, &svid(good, 1, 2000), Ok(good));
    check(AGENT, &svid(good, 2, 2000), Ok(good));
    check(AGENT, &svid(good, 3, 2000), Err(Denied::AgentNotActive(id(good))));
    check(AGENT, &svid(good, 1, 999), Err(Denied::AgentExpired(id(good))));
    let banned = "spiffe://td/spire/agent/x/banned";
    check(
        AGENT,
        &svid(banned, 1, 2000),
        Err(Denied::AgentBanned(id(banned))),
    );
    let unknown = "spiffe://td/spire/agent/x/unknown";
    check(
        AGENT,
        &svid(unknown, 1, 2000),
        Err(Denied::AgentNotAttested(id(unknown))),
    );
    check(
        AGENT,
        &svid("spiffe://other/spire/agent/x/good", 1, 2000),
        Err(denied()),
    );
    check(AGENT, &svid("spiffe://td/plain", 1, 2000), Err(denied()));
    check(AGENT, &Presented::Anonymous, Err(denied()));
    check(AGENT, &Presented::Local { uid: 0, pid: 1 }, Err(denied()));
}

#[test]
fn agents_with_a_host_prove_it_on_each_connection() {
    let good = "spiffe://td/spire/agent/tpm/good";
    let unproven = Access {
        unproven: true,
        ..AGENT
    };
    let not_proven = || Err(Denied::AgentNotProven(id(good)));
    for serial in [1, 2] {
        check(AGENT, &svid(good, serial, 2000), not_proven());
        check(AGENT, &proven(good, serial, 2000), Ok(good));
        check(unproven, &svid(good, serial, 2000), Ok(good));
        check(unproven, &proven(good, serial, 2000), Ok(good));
    }
    let without_host = "spiffe://td/spire/agent/x/good";
    check(AGENT, &proven(without_host, 1, 2000), Ok(without_host));
    check(unproven, &svid(without_host, 1, 2000), Ok(without_host));
    check(ADMIN, &proven(good, 1, 2000), Err(denied()));
}

#[test]
fn a_proven_host_does_not_save_an_agent_that_lost_its_standing() {
    let good = "spiffe://td/spire/agent/tpm/good";
    check(
        AGENT,
        &proven(good, 3, 2000),
        Err(Denied::AgentNotActive(id(good))),
    );
    check(AGENT, &proven(good, 1, 999), Err(Denied::AgentExpired(id(good))));
    let banned = "spiffe://td/spire/agent/tpm/banned";
    check(
        AGENT,
        &proven(banned, 1, 2000),
        Err(Denied::AgentBanned(id(banned))),
    );
    // Whether its host is proven is nothing for one who may not call anyway.
    check(
        AGENT,
        &svid(banned, 1, 2000),
        Err(Denied::AgentBanned(id(banned))),
    );
    let unknown = "spiffe://td/spire/agent/tpm/unknown";
    check(
        AGENT,
        &proven(unknown, 1, 2000),
        Err(Denied::AgentNotAttested(id(unknown))),
    );
    check(AGENT, &proven("spiffe://td/plain", 1, 2000), Err(denied()));
}

#[test]
fn the_first_use_of_a_new_serial_is_noticed() {
    let first_use = |serial| {
        let presented = svid("spiffe://td/spire/agent/x/good", serial, 2000);
        authorize("m", AGENT, &presented, &HashSet::new(), &snapshot(), NOW)
            .unwrap()
            .is_first_use()
    };
    assert!(!first_use(1));
    assert!(first_use(2));
}

#[test]
fn administrators_are_named_or_have_an_admin_entry() {
    check(
        ADMIN,
        &svid("spiffe://td/admin", 9, 2000),
        Ok("spiffe://td/admin"),
    );
    check(
        ADMIN,
        &svid("spiffe://other/boss", 9, 2000),
        Ok("spiffe://other/boss"),
    );
    check(ADMIN, &svid("spiffe://other/boss", 9, 999), Err(denied()));
    check(ADMIN, &svid("spiffe://td/admin", 9, 999), Err(denied()));
    check(ADMIN, &svid("spiffe://td/plain", 9, 2000), Err(denied()));
    check(ADMIN, &svid("spiffe://other/admin", 9, 2000), Err(denied()));
    check(
        ADMIN,
        &svid("spiffe://td/spire/agent/x/good", 1, 2000),
        Err(denied()),
    );
    check(
        ADMIN,
        &Presented::Local { uid: 7, pid: 8 },
        Ok("local uid=7 pid=8"),
    );
    check(ADMIN, &Presented::Anonymous, Err(denied()));
}

#[test]
fn downstream_servers_have_an_entry_that_says_so() {
    let access = Access {
        downstream: true,
        ..NONE
    };
    check(access, &svid("spiffe://td/down", 9, 2000), Ok("spiffe://td/down"));
    check(access, &svid("spiffe://td/admin", 9, 2000), Err(denied()));
}

#[test]
fn what_is_open_to_anyone_is_open_to_all() {
    let access = Access { anyone: true, ..NONE };
    check(access, &Presented::Anonymous, Ok("anonymous"));
    check(
        access,
        &Presented::Local { uid: 0, pid: 1 },
        Ok("local uid=0 pid=1"),
    );
    check(
        access,
        &svid("spiffe://td/plain", 9, 2000),
        Ok("spiffe://td/plain"),
    );
}

#[test]
fn no_rule_means_no_access() {
    for presented in [
        Presented::Anonymous,
        svid("spiffe://td/admin", 9, 2000),
        Presented::Local { uid: 0, pid: 1 },
    ] {
        check(NONE, &presented, Err(denied()));
    }
}

#[test]
fn an_agent_that_lost_its_standing_administers_nothing() {
    let check = |admin: &str, serial: u8, expected: Result<&str, Denied>| {
        check_where(&[admin], ADMIN, &svid(admin, serial, 2000), expected);
    };
    let good = "spiffe://td/spire/agent/x/good";
    check(good, 1, Ok(good));
    check(good, 3, Err(Denied::AgentNotActive(id(good))));
    let banned = "spiffe://td/spire/agent/x/banned";
    check(banned, 1, Err(Denied::AgentBanned(id(banned))));
    let unproven = "spiffe://td/spire/agent/tpm/good";
    check(unproven, 1, Err(Denied::AgentNotProven(id(unproven))));
}

/// The good agent with a host, after `events`.
fn judged(events: Vec<HostEvent>) -> Snapshot {
    let mut snapshot = snapshot();
    let mut host = (**snapshot.hosts.get("host").unwrap()).clone();
    for event in events {
        host.verdict = host.verdict.after(event, NOW).unwrap();
    }
    snapshot.hosts.insert(Arc::new(host));
    snapshot
}

fn offended() -> HostEvent {
    HostEvent::Offended(Offence {
        code: "log_mismatch".into(),
        difference: "PCR 4".into(),
    })
}

#[test]
fn a_host_that_is_not_verified_is_served_nothing_and_may_prove_itself_unless_it_is_quarantined() {
    let good = "spiffe://td/spire/agent/tpm/good";
    let unproven = Access {
        unproven: true,
        ..AGENT
    };
    let stale = || Err(Denied::HostStale(id(good)));
    let quarantined = || Err(Denied::HostQuarantined(id(good)));
    let check = |events: &[HostEvent], access, expected: Result<(), Denied>| {
        let snapshot = judged(events.to_vec());
        let outcome = authorize(
            "m",
            access,
            &proven(good, 1, 2000),
            &HashSet::new(),
            &snapshot,
            NOW,
        );
        assert_eq!(outcome.map(drop), expected, "{events:?}");
    };
    check(&[HostEvent::Silent], AGENT, stale());
    check(&[HostEvent::Silent], unproven, Ok(()));
    check(&[HostEvent::Silent, HostEvent::Answered], AGENT, Ok(()));
    check(&[offended()], AGENT, quarantined());
    check(&[offended()], unproven, quarantined());
    check(&[offended(), HostEvent::Released], AGENT, stale());
    check(&[offended(), HostEvent::Released], unproven, Ok(()));
}

#[test]
fn who_lost_its_standing_meanwhile_is_not_answered() {
    let caller = |path: &str| {
        let presented = proven(&format!("spiffe://td{path}"), 1, 2000);
        authorize("m", AGENT, &presented, &HashSet::new(), &snapshot(), NOW).unwrap()
    };
    let check = |path: &str, after: &Snapshot, expected: fn(SpiffeId) -> Result<(), Denied>| {
        let id = SpiffeId::parse(&format!("spiffe://td{path}")).unwrap();
        assert_eq!(caller(path).still_stands(after), expected(id), "{path}");
    };
    let (token, tpm) = ("/spire/agent/x/good", "/spire/agent/tpm/good");
    for path in [token, tpm] {
        check(path, &snapshot(), |_| Ok(()));
        let mut banned = snapshot();
        let mut agent = (**banned.agents.get(path).unwrap()).clone();
        agent.banned = true;
        banned.agents.insert(path.into(), Arc::new(agent));
        check(path, &banned, |id| Err(Denied::AgentBanned(id)));
        let mut evicted = snapshot();
        evicted.agents.remove(path);
        check(path, &evicted, |id| Err(Denied::AgentNotAttested(id)));
    }
    check(tpm, &judged(vec![HostEvent::Silent]), |id| {
        Err(Denied::HostStale(id))
    });
    check(tpm, &judged(vec![offended()]), |id| {
        Err(Denied::HostQuarantined(id))
    });
    // It is verified again, but was not all the while.
    let healed = judged(vec![HostEvent::Silent, HostEvent::Answered]);
    check(tpm, &healed, |id| Err(Denied::HostStale(id)));
}

#[test]
fn who_is_on_a_crl_administers_nothing() {
    let admin = Access {
        admin: true,
        downstream: true,
        ..Access::default()
    };
    for id in ["spiffe://td/admin", "spiffe://td/down"] {
        let refused = Denied::Revoked(SpiffeId::parse(id).unwrap());
        check(admin, &svid(id, 1, 2000), Ok(id));
        check(admin, &svid(id, REVOKED, 2000), Err(refused));
    }
    let anyone = Access {
        anyone: true,
        ..Access::default()
    };
    check(
        anyone,
        &svid("spiffe://td/plain", REVOKED, 2000),
        Ok("spiffe://td/plain"),
    );
}
