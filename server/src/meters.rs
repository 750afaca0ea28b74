//! What the server counts, under the names of `deploy/metrics.md`. Counting never waits for a look at the counts.

use std::sync::Arc;

use edge::metrics::{Calls, Counter, Gauge, Histogram, Kind, Samples, Tally, process};

use crate::{
    api::is_method,
    ca::{Authority, AuthorityState},
    registry::Registry,
    webhook,
};

/// What parts of the server count with. Clones share it; a default one is looked at by nobody.
#[derive(Clone, Debug, Default)]
pub struct Meters {
    /// Attestations by attestor and code: `ok`, or that of the refusal.
    pub attestations: Tally<2>,
    /// New evidence of hosts in their sessions, by what came of it.
    pub evidence: Tally<1>,
    /// Signs that a host's key is at two places, by code.
    pub alarms: Tally<1>,
    /// Hosts that were quarantined, by code.
    pub quarantines: Tally<1>,
    /// gRPC calls.
    pub calls: Arc<Calls>,
    /// How far the wall clock is ahead while it is in doubt, in seconds.
    pub clock_ahead: Gauge,
    /// SVIDs that were issued.
    pub issued: Issued,
    /// From the append of records until they are durable.
    pub journal_append: Histogram,
    /// Calls and connections that met a limit, by limit.
    pub limited: Tally<1>,
    /// From when an update is ready for a session until the agent acknowledged it.
    pub push: Histogram,
    /// Calls that were not allowed and evidence that was refused, by code.
    pub refusals: Tally<1>,
    /// Agent sessions that are open.
    pub sessions: Gauge,
    /// Commits of the store.
    pub store_commit: Histogram,
    /// Notices of what became of hosts.
    pub webhook: webhook::Counts,
}

/// SVIDs that were issued, by kind.
#[derive(Clone, Debug, Default)]
pub struct Issued {
    /// Agents' own.
    pub agent: Counter,
    /// JWT-SVIDs.
    pub jwt: Counter,
    /// For administrators who asked for them.
    pub minted: Counter,
    /// The server's own.
    pub server: Counter,
    /// By entries.
    pub workload: Counter,
}

impl Meters {
    /// Adds what is counted to `metrics`.
    #[must_use]
    pub fn register(metrics: &mut edge::metrics::Registry) -> Self {
        process::register(metrics);
        let limited = metrics.tally(
            "plastron_server_limited_total",
            "Calls and connections that met a limit, by limit.",
            ["limit"],
        );
        for limit in [
            "admission",
            "attestation",
            "connections",
            "conversations",
            "handshakes",
            "host",
            "signing",
        ] {
            limited.add([limit], 0);
        }
        Self {
            calls: Calls::register(metrics, is_method),
            clock_ahead: metrics.gauge(
                "plastron_server_clock_ahead_seconds",
                "How far the clock jumped ahead of the time that passed, while it is in doubt.",
            ),
            issued: Issued::register(metrics),
            webhook: notices(metrics),
            attestations: metrics.tally(
                "plastron_server_attestations_total",
                "Attestations that were decided, by node attestor and code.",
                ["node_attestor_type", "code"],
            ),
            refusals: metrics.tally(
                "plastron_server_refusals_total",
                "Calls that were not allowed and evidence that was refused, by code.",
                ["code"],
            ),
            evidence: metrics.tally(
                "plastron_server_evidence_total",
                "New evidence of hosts in their sessions, by what came of it.",
                ["code"],
            ),
            alarms: metrics.tally(
                "plastron_server_host_alarms_total",
                "Signs that a key of a host is at two places, by code.",
                ["code"],
            ),
            quarantines: metrics.tally(
                "plastron_server_quarantines_total",
                "Hosts that were quarantined, by code.",
                ["code"],
            ),
            limited,
            sessions: metrics.gauge("plastron_server_sessions", "Agent sessions that are open."),
            push: metrics.seconds(
                "plastron_server_push_seconds",
                "From when an update is ready for a session until the agent acknowledged it.",
            ),
            store_commit: metrics.seconds(
                "plastron_server_store_commit_seconds",
                "Commits of the store, until they are durable.",
            ),
            journal_append: metrics.seconds(
                "plastron_server_journal_append_seconds",
                "Appends to the audit trail, with the wait for those before, until they are durable.",
            ),
        }
    }
}

fn notices(metrics: &mut edge::metrics::Registry) -> webhook::Counts {
    let [delivered, dropped, failed] = metrics.counters(
        "plastron_server_webhook_notices_total",
        "Notices of what became of hosts, by what became of them.",
        "outcome",
        ["delivered", "dropped", "failed"],
    );
    webhook::Counts {
        delivered,
        dropped,
        failed,
    }
}

impl Issued {
    fn register(metrics: &mut edge::metrics::Registry) -> Self {
        let [agent, jwt, minted, server, workload] = metrics.counters(
            "plastron_server_svids_issued_total",
            "SVIDs that were issued, by kind.",
            "kind",
            ["agent", "jwt", "minted", "server", "workload"],
        );
        Self {
            agent,
            jwt,
            minted,
            server,
            workload,
        }
    }

    /// Counts an X509-SVID that the audit trail has as `event`.
    pub fn note(&self, event: &str) {
        match event {
            "server_svid_issued" => self.server.add(1),
            "svid_minted" => self.minted.add(1),
            _ => self.workload.add(1),
        }
    }
}

/// Adds what is read of `registry` at each look.
pub fn register_state(metrics: &mut edge::metrics::Registry, registry: &Registry) {
    let state = registry.clone();
    metrics.add(
        Kind::Gauge,
        "plastron_server_entries",
        "Registration entries.",
        move |samples| samples.number(&[], state.snapshot().entries.len() as u64),
    );
    let state = registry.clone();
    metrics.add(
        Kind::Gauge,
        "plastron_server_agents",
        "Attested agents, by state.",
        move |samples| {
            let snapshot = state.snapshot();
            let banned = snapshot.agents.values().filter(|agent| agent.banned).count();
            let active = snapshot.agents.len().saturating_sub(banned);
            samples.number(&[("state", "active")], active as u64);
            samples.number(&[("state", "banned")], banned as u64);
        },
    );
    let state = registry.clone();
    metrics.add(
        Kind::Gauge,
        "plastron_server_hosts",
        "Rows of hosts, by state.",
        move |samples| {
            let hosts = &state.snapshot().hosts;
            let pending = hosts.pending().count();
            let enrolled = hosts.len().saturating_sub(pending);
            samples.number(&[("state", "enrolled")], enrolled as u64);
            samples.number(&[("state", "pending")], pending as u64);
        },
    );
    let state = registry.clone();
    metrics.add(
        Kind::Gauge,
        "plastron_server_host_verdicts",
        "Enrolled hosts, by verdict.",
        move |samples| {
            let hosts = &state.snapshot().hosts;
            let verdicts = || {
                hosts
                    .after("")
                    .filter(|host| host.is_enrolled())
                    .map(|host| &host.verdict)
            };
            let verified = verdicts().filter(|verdict| verdict.is_verified()).count();
            let quarantined = verdicts().filter(|verdict| verdict.is_quarantined()).count();
            let stale = verdicts().count().saturating_sub(verified + quarantined);
            samples.number(&[("verdict", "quarantined")], quarantined as u64);
            samples.number(&[("verdict", "stale")], stale as u64);
            samples.number(&[("verdict", "verified")], verified as u64);
        },
    );
    let state = registry.clone();
    metrics.add(
        Kind::Gauge,
        "plastron_server_authority_end_timestamp_seconds",
        "When our signing authorities end, in seconds since 1970.",
        move |samples| {
            let authorities = &state.snapshot().authorities;
            authorities
                .x509
                .iter()
                .for_each(|one| show_end("x509", one, samples));
            authorities
                .jwt
                .iter()
                .for_each(|one| show_end("jwt", one, samples));
        },
    );
}

/// What others sign with is theirs to watch.
fn show_end<M>(kind: &str, authority: &Authority<M>, samples: &mut Samples<'_>) {
    let state = match authority.state {
        AuthorityState::Active => "active",
        AuthorityState::Foreign => return,
        AuthorityState::Old => "old",
        AuthorityState::Prepared => "prepared",
    };
    let labels = [
        ("kind", kind),
        ("state", state),
        ("authority_id", authority.authority_id.as_str()),
    ];
    let end = u64::try_from(authority.not_after.as_unix()).unwrap_or_default();
    samples.number(&labels, end);
}
