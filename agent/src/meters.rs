//! What the agent counts, under the names of `deploy/metrics.md`. Counting never waits for a look at the counts.

use std::sync::Arc;

use edge::{
    Clock,
    grpc::Client,
    metrics::{Calls, Gauge, Histogram, Kind, Registry, Tally, process},
};
use tokio::sync::watch;

use crate::{cache::Cache, sealed};

/// What parts of the agent count with. Clones share it; a default one is looked at by nobody.
#[derive(Clone, Debug, Default)]
pub struct Meters {
    /// Attestations by outcome.
    pub attestations: Tally<1>,
    /// gRPC calls of workloads.
    pub calls: Arc<Calls>,
    /// State that is kept over a restart.
    pub sealed: sealed::Meters,
    /// Calls and streams of workloads that are open.
    pub streams: Gauge,
    /// What the TPM was asked for.
    pub tpm: Tpm,
}

/// How long the TPM takes, by what it was asked for.
#[derive(Clone, Debug, Default)]
pub struct Tpm {
    /// Recovering a credential.
    pub activate: Histogram,
    /// Saying that a key is in it.
    pub certify: Histogram,
    /// Making the key of an SVID.
    pub create_key: Histogram,
    /// Finding its keys, or making them.
    pub identify: Histogram,
    /// Signing PCRs.
    pub quote: Histogram,
    /// Reading PCRs.
    pub read_pcrs: Histogram,
    /// Sealing a key to PCRs.
    pub seal: Histogram,
    /// Signing with the key of an SVID.
    pub sign: Histogram,
    /// Opening a key that was sealed.
    pub unseal: Histogram,
}

impl Meters {
    /// Adds what is counted to `metrics`.
    #[must_use]
    pub fn register(metrics: &mut Registry) -> Self {
        process::register(metrics);
        Self {
            calls: Calls::register(metrics, is_method),
            streams: metrics.gauge(
                "plastron_agent_workload_streams",
                "Calls and streams of workloads that are open.",
            ),
            attestations: metrics.tally(
                "plastron_agent_attestations_total",
                "Attempts to attest this host, by outcome.",
                ["outcome"],
            ),
            sealed: sealed::Meters::register(metrics),
            tpm: Tpm::register(metrics),
        }
    }
}

impl sealed::Meters {
    fn register(metrics: &mut Registry) -> Self {
        Self {
            svids: metrics.gauge(
                "plastron_agent_sealed_svids",
                "X509-SVIDs that are kept over a restart, sealed to the TPM.",
            ),
            outcomes: metrics.tally(
                "plastron_agent_sealed_state_total",
                "What happened to the sealed state, by outcome.",
                ["outcome"],
            ),
        }
    }
}

impl Tpm {
    fn register(metrics: &mut Registry) -> Self {
        let tpm = Self::default();
        let shown = tpm.clone();
        metrics.add(
            Kind::Histogram,
            "plastron_agent_tpm_seconds",
            "How long the TPM took, by what it was asked for.",
            move |samples| {
                shown.activate.show(&[("command", "activate")], samples);
                shown.certify.show(&[("command", "certify")], samples);
                shown.create_key.show(&[("command", "create_key")], samples);
                shown.identify.show(&[("command", "identify")], samples);
                shown.quote.show(&[("command", "quote")], samples);
                shown.read_pcrs.show(&[("command", "read_pcrs")], samples);
                shown.seal.show(&[("command", "seal")], samples);
                shown.sign.show(&[("command", "sign")], samples);
                shown.unseal.show(&[("command", "unseal")], samples);
            },
        );
        tpm
    }
}

/// What the agent serves: the Workload API, and its health.
fn is_method(path: &str) -> bool {
    path.starts_with("/SpiffeWorkloadAPI/") || path.starts_with("/grpc.health.v1.Health/")
}

/// Adds whether the TPM, where one is used, hangs.
pub fn register_tpm(metrics: &mut Registry, answers: watch::Receiver<bool>) {
    metrics.add(
        Kind::Gauge,
        "plastron_agent_tpm_hangs",
        "1 while the TPM has not answered a request within its limit, else 0.",
        move |samples| samples.number(&[], u64::from(!*answers.borrow())),
    );
}

/// Adds what is read of the agent's state at each look.
pub fn register_state(
    metrics: &mut Registry,
    cache: watch::Receiver<Arc<Cache>>,
    client: watch::Receiver<Option<Client>>,
    clock: Clock,
) {
    metrics.add(
        Kind::Gauge,
        "plastron_agent_session_open",
        "1 while there is a session with the server, else 0.",
        move |samples| samples.number(&[], u64::from(client.borrow().is_some())),
    );
    let kept = cache.clone();
    metrics.add(
        Kind::Gauge,
        "plastron_agent_sealed_state_served",
        "1 while workloads are served what was kept over the start, because the server was not reached since; else 0.",
        move |samples| samples.number(&[], u64::from(kept.borrow().is_restored)),
    );
    let entries = cache.clone();
    metrics.add(
        Kind::Gauge,
        "plastron_agent_entries",
        "Registration entries that this host may have.",
        move |samples| samples.number(&[], entries.borrow().entries.len() as u64),
    );
    let svids = cache.clone();
    metrics.add(
        Kind::Gauge,
        "plastron_agent_svids",
        "X509-SVIDs of workloads that the agent holds.",
        move |samples| samples.number(&[], svids.borrow().svids.len() as u64),
    );
    metrics.add(
        Kind::Gauge,
        "plastron_agent_svid_expires_in_seconds",
        "Until the earliest end of a workload's X509-SVID; nothing where there is none, 0 where one has ended.",
        move |samples| {
            let cache = Arc::clone(&cache.borrow());
            if let Some(end) = cache.svids.values().map(|svid| svid.not_after).min() {
                samples.number(&[], end.since(clock.now()).as_secs());
            }
        },
    );
}
