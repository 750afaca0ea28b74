//! Having the server sign SVIDs of workloads.

use std::{sync::Arc, time::Duration};

use edge::{Clock, grpc::Client};
use proto::spire::api::{
    server::svid::v1::{BatchNewX509svidRequest, NewX509svidParams, svid_client::SvidClient},
    types::X509svid,
};
use svid::{Timestamp, renew_at, x509::X509Svid};
use tokio::{sync::watch, time::timeout};
use tonic::{Request, Status};
use tracing::warn;

use crate::{
    cache::{CachedEntry, SignError, Signer},
    svid_key::KeyRequest,
    workload_svid::WorkloadSvid,
};

/// How long the server may take.
const SIGN_WITHIN: Duration = Duration::from_secs(30);

/// Has SVIDs signed over the connection that `client` shows.
#[must_use]
pub fn signer(client: watch::Receiver<Option<Client>>, clock: Clock) -> Signer {
    Arc::new(move |entries| {
        let client = client.borrow().clone();
        Box::pin(async move { sign(client.ok_or(SignError::NotConnected)?, &entries, clock).await })
    })
}

async fn sign(
    client: Client,
    entries: &[Arc<CachedEntry>],
    clock: Clock,
) -> Result<Vec<Option<WorkloadSvid>>, SignError> {
    let keys: Vec<_> = entries
        .iter()
        .map(|entry| KeyRequest::generate(Some(&entry.spiffe_id)))
        .collect::<Result<_, _>>()?;
    let params = entries.iter().zip(&keys).map(|(entry, key)| NewX509svidParams {
        entry_id: entry.id.as_ref().into(),
        csr: key.csr.clone(),
    });
    let mut request = Request::new(BatchNewX509svidRequest {
        params: params.collect(),
    });
    request.set_timeout(SIGN_WITHIN);
    let mut client = SvidClient::new(client);
    let called = timeout(SIGN_WITHIN, client.batch_new_x509svid(request)).await;
    let results = called
        .map_err(|_| SignError::Late(SIGN_WITHIN))?
        .map_err(|status| SignError::Call(Box::new(status)))?
        .into_inner()
        .results;
    if results.len() != entries.len() {
        let message = "server answered with another number of SVIDs than were asked for";
        return Err(SignError::Call(Box::new(Status::internal(message))));
    }
    let signed = results.into_iter().zip(entries).zip(keys);
    Ok(signed
        .map(|((result, entry), key)| accept(result.svid, result.status, entry, key, clock))
        .collect())
}

/// Takes an SVID if it is the one that was asked for.
fn accept(
    wire: Option<X509svid>,
    status: Option<proto::spire::api::types::Status>,
    entry: &CachedEntry,
    key: KeyRequest,
    clock: Clock,
) -> Option<WorkloadSvid> {
    let Some(wire) = wire else {
        let reason = status.map(|status| status.message).unwrap_or_default();
        warn!(entry_id = %entry.id, spiffe_id = %entry.spiffe_id, error = reason, "SVID refused");
        return None;
    };
    let leaf = wire.cert_chain.first()?;
    let parsed = X509Svid::parse(&leaf.as_slice().into())
        .ok()
        .filter(|parsed| parsed.id == entry.spiffe_id);
    let Some(parsed) = parsed else {
        warn!(entry_id = %entry.id, spiffe_id = %entry.spiffe_id, "Server signed something else");
        return None;
    };
    let now = clock.now();
    if parsed.not_after <= now {
        warn!(entry_id = %entry.id, spiffe_id = %entry.spiffe_id, expires_at = %parsed.not_after, "SVID had ended when it came; is this host's clock right?");
        return None;
    }
    let jitter = u32::from_be_bytes(edge::random());
    // What is valid from now on; the certificate itself begins earlier, for clocks that differ.
    let from = parsed.not_before.max(now);
    Some(WorkloadSvid {
        spiffe_id: parsed.id,
        dns_names: Arc::clone(&entry.dns_names),
        signed_by: svid::signed_by(&wire.cert_chain),
        chain: wire.cert_chain.concat().into(),
        key: key.key,
        not_before: parsed.not_before,
        not_after: parsed.not_after,
        renew_at: renew_at(from, parsed.not_after, jitter),
        revision: entry.revision,
    })
}

/// Times of an agent's own SVID: when it ends, and when it is to be replaced.
#[must_use]
pub fn times(svid: &X509Svid, clock: Clock) -> (Timestamp, Timestamp) {
    let from = svid.not_before.max(clock.now()).min(svid.not_after);
    (
        svid.not_after,
        renew_at(from, svid.not_after, u32::from_be_bytes(edge::random())),
    )
}
