//! Attestation by TPM. The TPM is one in software: what counts is the server's side.

use std::{path::Path, sync::Arc};

use ::agent::svid_key::KeyRequest;
use anyhow::{Context, Result};
use node_tpm::TpmProver;
use plugin_api::{Binding, NodeProver};
use proto::plastron::host::v1::{
    EndorsementKey as Key, ImportHostsRequest, NewHost, hosts_client::HostsClient,
};
use swtpm_tests::fleet;
use tokio::sync::Mutex;

use crate::{
    calls,
    fleet::LOG,
    floor::Floor,
    measure::{Plan, Subject},
    stage::Stage,
};

pub(super) async fn run(stage: &Stage, plan: &Plan, floor: &Floor) -> Result<()> {
    let name = "AttestAgent, TPM, known AK, alone";
    if !plan.wants(name) {
        return Ok(());
    }
    let mut prover = enrolled(stage).await?;
    acquaint(stage, &mut prover).await?;
    let subject = Subject {
        name,
        process: stage.server.id(),
        parallel: 1,
        units: 1,
        // A TLS handshake and an SVID, and the verification on top.
        target: 750.0,
    };
    let (prover, csr) = (Arc::new(Mutex::new(prover)), KeyRequest::generate(None)?.csr);
    plan.measure(subject, floor, |_| {
        let (prover, csr, address) = (Arc::clone(&prover), csr.clone(), stage.address());
        async move {
            let (client, exporter) = calls::dial(address, None).await?;
            let binding = Binding {
                exporter,
                csr: csr.clone(),
            };
            let payload = prover.lock().await.begin(&binding)?;
            calls::attest(client, "tpm", payload, csr).await.map(drop)
        }
    })
    .await
}

/// A prover whose host the server has enrolled.
async fn enrolled(stage: &Stage) -> Result<TpmProver> {
    let (prover, hash) = fleet::prover(Path::new(LOG));
    let host = NewHost {
        name: "load".into(),
        endorsement_keys: vec![Key {
            hash,
            ..Key::default()
        }],
        ..NewHost::default()
    };
    HostsClient::new(calls::local(&stage.socket()).await?)
        .import_hosts(ImportHostsRequest {
            hosts: vec![host],
            dry_run: false,
        })
        .await?;
    Ok(prover)
}

/// The first attestation: credential and log.
async fn acquaint(stage: &Stage, prover: &mut TpmProver) -> Result<()> {
    use proto::spire::api::server::agent::v1::{
        AgentX509svidParams, AttestAgentRequest,
        agent_client::AgentClient,
        attest_agent_request::{Params, Step},
        attest_agent_response,
    };
    prover.prepare()?;
    let csr = KeyRequest::generate(None)?.csr;
    let (client, exporter) = calls::dial(stage.address(), None).await?;
    let payload = prover.begin(&Binding {
        exporter,
        csr: csr.clone(),
    })?;
    let (queue, requests) = tokio::sync::mpsc::channel(1);
    let send = async |step| {
        let request = AttestAgentRequest { step: Some(step) };
        queue.send(request).await.context("stream ended")
    };
    let data = proto::spire::api::types::AttestationData {
        r#type: "tpm".into(),
        payload,
    };
    send(Step::Params(Params {
        data: Some(data),
        params: Some(AgentX509svidParams { csr }),
    }))
    .await?;
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut answers = AgentClient::new(client)
        .attest_agent(requests)
        .await?
        .into_inner();
    while let Some(answer) = answers.message().await? {
        match answer.step.context("empty answer")? {
            attest_agent_response::Step::Challenge(challenge) => {
                send(Step::ChallengeResponse(prover.answer(&challenge)?)).await?;
            }
            attest_agent_response::Step::Result(_) => return Ok(()),
        }
    }
    anyhow::bail!("stream ended without an SVID")
}
