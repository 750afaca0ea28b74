//! What the ledger says of agents that lost their standing: which certificates went to them, or through them, before.
//! A pure fold over the ledger's records.

use std::collections::{BTreeMap, HashMap};

use proto::plastron::store::v1::AuditRecord;
use svid::{
    Timestamp, TrustDomain,
    x509::{Revoked, SerialNumber},
};

use crate::registry::{Snapshot, Withdrawal};

/// Reads the ledger for the agents whose standing was withdrawn.
#[derive(Debug)]
pub struct Condemned {
    now: Timestamp,
    agents: HashMap<String, Standing>,
}

/// What was seen of an agent.
#[derive(Debug)]
struct Standing {
    withdrawal: Withdrawal,
    /// It was banned or evicted, and has not attested since.
    is_withdrawn: bool,
    /// Given in this standing.
    given: Vec<Given>,
    /// Given in a standing that was withdrawn.
    lost: Vec<Given>,
}

#[derive(Clone, Debug)]
struct Given {
    authority_id: String,
    serial: SerialNumber,
    not_after: Timestamp,
}

impl Condemned {
    /// Looks for the agents that are withdrawn in `snapshot`.
    #[must_use]
    pub fn new(snapshot: &Snapshot, now: Timestamp) -> Self {
        let agents = snapshot.withdrawals.iter().map(|(path, withdrawal)| {
            let id = agent_id(&snapshot.trust_domain, path);
            (id, Standing::new(withdrawal.clone()))
        });
        Self {
            now,
            agents: agents.collect(),
        }
    }

    /// Looks at a record of the ledger; they come oldest first.
    pub fn see(&mut self, record: &AuditRecord) {
        match record.event.as_str() {
            "agent_attested" => {
                if let (Some(agent), Some(serial)) = (self.agents.get_mut(&record.actor), serial_of(record)) {
                    agent.attest(&serial);
                }
            }
            "agent_banned" | "agent_deleted" | "host_ek_removed" | "host_lost" | "host_quarantined"
            | "host_tpm_replaced" => {
                if let Some(agent) = field(record, "agent_id").and_then(|id| self.agents.get_mut(id)) {
                    agent.withdraw();
                }
            }
            "svid_issued" => self.issue(record),
            _ => {}
        }
    }

    /// The certificates that count no more, by their authority.
    #[must_use]
    pub fn finish(self) -> BTreeMap<String, Vec<Revoked>> {
        let mut by_authority: BTreeMap<String, Vec<Revoked>> = BTreeMap::new();
        for mut agent in self.agents.into_values() {
            agent.end();
            for given in agent.lost {
                by_authority.entry(given.authority_id).or_default().push(Revoked {
                    serial: given.serial,
                    not_after: given.not_after,
                    revoked_at: agent.withdrawal.at,
                    reason: agent.withdrawal.reason,
                });
            }
        }
        by_authority
    }

    fn issue(&mut self, record: &AuditRecord) {
        let Some(agent) = self.agents.get_mut(&record.actor) else {
            return;
        };
        let not_after = field(record, "expires_at").and_then(Timestamp::from_rfc3339);
        let Some(not_after) = not_after.filter(|not_after| *not_after > self.now) else {
            return;
        };
        if let (Some(serial), Some(authority_id)) = (serial_of(record), field(record, "authority_id")) {
            agent.given.push(Given {
                authority_id: authority_id.into(),
                serial,
                not_after,
            });
        }
    }
}

impl Standing {
    fn new(withdrawal: Withdrawal) -> Self {
        Self {
            withdrawal,
            is_withdrawn: false,
            given: Vec::new(),
            lost: Vec::new(),
        }
    }

    fn withdraw(&mut self) {
        self.lost.append(&mut self.given);
        self.is_withdrawn = true;
    }

    /// What was being signed when the standing was lost is lost as well; but not the very SVID that it attested for.
    fn attest(&mut self, serial: &SerialNumber) {
        if self.is_withdrawn {
            let is_new = |given: &Given| given.serial == *serial;
            let (new, old) = self.given.drain(..).partition(is_new);
            self.lost.extend::<Vec<_>>(old);
            self.given = new;
            self.is_withdrawn = false;
        }
    }

    fn end(&mut self) {
        if self.is_withdrawn {
            self.lost.append(&mut self.given);
        }
    }
}

fn agent_id(trust_domain: &TrustDomain, path: &str) -> String {
    format!("spiffe://{trust_domain}{path}")
}

fn serial_of(record: &AuditRecord) -> Option<SerialNumber> {
    SerialNumber::from_decimal(field(record, "serial_num")?)
}

fn field<'a>(record: &'a AuditRecord, name: &str) -> Option<&'a str> {
    let mut fields = record.fields.iter();
    let found = fields.find(|field| field.name == name)?;
    Some(&found.value)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proto::plastron::store::v1::Field;
    use svid::x509::RevocationReason;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

    /// `who event number`: what an agent was given, that it attested, or what was done to it.
    fn record(line: &str) -> AuditRecord {
        let mut words = line.split(' ');
        let (who, event, number) = (words.next().unwrap(), words.next().unwrap(), words.next());
        let id = format!("spiffe://example.org/spire/agent/{who}");
        let fields = match event {
            "agent_banned" | "agent_deleted" | "host_quarantined" | "host_lost" => {
                vec![("agent_id", id.clone())]
            }
            _ => vec![
                ("serial_num", number.unwrap().to_owned()),
                ("authority_id", "ca".to_owned()),
                (
                    "expires_at",
                    words.next().unwrap_or("2030-01-01T00:00:00Z").to_owned(),
                ),
            ],
        };
        let field = |(name, value): (&str, String)| Field {
            name: name.into(),
            value,
        };
        AuditRecord {
            event: event.into(),
            actor: if fields.len() == 1 { "admin".into() } else { id },
            fields: fields.into_iter().map(field).collect(),
            ..AuditRecord::default()
        }
    }

    fn check(ledger: &[&str], expected: &[u8]) {
        let mut snapshot = Snapshot::empty(TrustDomain::parse("example.org").unwrap());
        let withdrawal = Withdrawal {
            at: NOW,
            reason: RevocationReason::PrivilegeWithdrawn,
            revision: 1,
        };
        snapshot
            .withdrawals
            .insert(Arc::from("/spire/agent/x"), withdrawal);
        let mut condemned = Condemned::new(&snapshot, NOW);
        ledger.iter().for_each(|line| condemned.see(&record(line)));
        let expected: Vec<_> = expected
            .iter()
            .map(|serial| Revoked {
                serial: SerialNumber::from_bytes(&[*serial]),
                not_after: Timestamp::from_rfc3339("2030-01-01T00:00:00Z").unwrap(),
                revoked_at: NOW,
                reason: RevocationReason::PrivilegeWithdrawn,
            })
            .collect();
        let found = condemned.finish().remove("ca").unwrap_or_default();
        assert_eq!(found, expected, "{ledger:?}");
    }

    #[test]
    fn what_an_agent_was_given_is_lost_with_its_standing() {
        check(
            &[
                "x svid_issued 1",
                "y svid_issued 2",
                "x svid_issued 3",
                "x agent_banned",
            ],
            &[1, 3],
        );
        check(&["x svid_issued 1", "x agent_deleted"], &[1]);
        check(&["x svid_issued 1", "x host_quarantined"], &[1]);
        check(&["x svid_issued 1", "x host_lost"], &[1]);
        check(&["x svid_issued 1", "y agent_banned"], &[]);
        check(&["x svid_minted 1", "x agent_banned"], &[]);
    }

    #[test]
    fn what_was_being_signed_meanwhile_is_lost_too() {
        check(&["x svid_issued 1", "x agent_banned", "x svid_issued 2"], &[1, 2]);
    }

    #[test]
    fn what_has_ended_needs_no_crl() {
        check(
            &[
                "x svid_issued 1 2020-01-01T00:00:00Z",
                "x svid_issued 2",
                "x agent_banned",
            ],
            &[2],
        );
    }

    #[test]
    fn who_attested_again_keeps_what_it_was_given_since() {
        let evicted = ["x svid_issued 1", "x agent_deleted", "x svid_issued 2"];
        let back = ["x agent_attested 3", "x svid_issued 3", "x svid_issued 4"];
        check(&[evicted, back].concat(), &[1, 2]);
        let other_order = ["x svid_issued 3", "x agent_attested 3", "x svid_issued 4"];
        check(&[evicted, other_order].concat(), &[1, 2]);
        check(
            &[evicted.as_slice(), &back, &["x agent_deleted"]].concat(),
            &[1, 2, 3, 4],
        );
    }

    #[test]
    fn attesting_again_withdraws_nothing() {
        check(&["x svid_issued 1", "x agent_attested 2", "x svid_issued 2"], &[]);
    }
}
