//! Calls to the server.

use ::agent::svid_key::KeyRequest;
use anyhow::{Context, Result};
use edge::grpc::Client;
use proto::{
    grpc::health::v1::{HealthCheckRequest, health_client::HealthClient},
    spire::api::{
        server::svid::v1::{
            BatchNewX509svidRequest, MintJwtsvidRequest, MintX509svidRequest, NewX509svidParams,
            svid_client::SvidClient,
        },
        types::Spiffeid,
    },
};
use svid::SpiffeId;

use crate::{
    calls,
    floor::Floor,
    measure::{Plan, Subject},
    stage::Stage,
};

pub(super) async fn run(stage: &Stage, plan: &Plan, floor: &Floor) -> Result<()> {
    let subject = |name, parallel, units, target| Subject {
        name,
        process: stage.server.id(),
        parallel,
        units,
        target,
    };
    let local = calls::local(&stage.socket()).await?;
    if plan.wants("empty call") {
        plan.measure(subject("empty call (Health)", 16, 1, 40.0), floor, |_| {
            empty(local.clone())
        })
        .await?;
    }
    if plan.wants("MintX509SVID") {
        let csr = KeyRequest::generate(Some(&SpiffeId::parse("spiffe://example.org/minted")?))?.csr;
        plan.measure(subject("MintX509SVID", 16, 1, 130.0), floor, |_| {
            mint(local.clone(), csr.clone())
        })
        .await?;
    }
    if plan.wants("MintJWTSVID") {
        plan.measure(subject("MintJWTSVID", 16, 1, 100.0), floor, |_| {
            mint_token(local.clone())
        })
        .await?;
    }
    if plan.wants("BatchNewX509SVID") {
        batches(stage, plan, floor, &subject).await?;
    }
    for (name, parallel, target) in [
        ("AttestAgent, token, alone", 1, 600.0),
        ("AttestAgent, token, 16", 16, 450.0),
    ] {
        if plan.wants(name) {
            let tokens = calls::tokens(&stage.socket(), plan.all_calls(1)).await?;
            let csr = KeyRequest::generate(None)?.csr;
            let address = stage.address();
            plan.measure(subject(name, parallel, 1, target), floor, |number| {
                let (token, csr) = (tokens.get(number).cloned(), csr.clone());
                async move {
                    let (client, _) = calls::dial(address, None).await?;
                    let token = token.context("too few tokens")?;
                    calls::attest(client, "join_token", token.into_bytes(), csr)
                        .await
                        .map(drop)
                }
            })
            .await?;
        }
    }
    Ok(())
}

async fn empty(client: Client) -> Result<()> {
    HealthClient::new(client)
        .check(HealthCheckRequest::default())
        .await?;
    Ok(())
}

async fn mint(client: Client, csr: Vec<u8>) -> Result<()> {
    let request = MintX509svidRequest { csr, ttl: 0 };
    SvidClient::new(client).mint_x509svid(request).await?;
    Ok(())
}

async fn mint_token(client: Client) -> Result<()> {
    let request = MintJwtsvidRequest {
        id: Some(Spiffeid {
            trust_domain: "example.org".into(),
            path: "/minted".into(),
        }),
        audience: vec!["relying-party".into()],
        ttl: 0,
    };
    SvidClient::new(client).mint_jwtsvid(request).await?;
    Ok(())
}

/// Signs as an agent does, for entries of its own.
async fn batches(
    stage: &Stage,
    plan: &Plan,
    floor: &Floor,
    subject: &impl Fn(&'static str, usize, usize, f64) -> Subject,
) -> Result<()> {
    let token = calls::tokens(&stage.socket(), 1)
        .await?
        .pop()
        .context("no token")?;
    let request = KeyRequest::generate(None)?;
    let (client, _) = calls::dial(stage.address(), None).await?;
    let parent = format!("/spire/agent/join_token/{token}");
    let svid = calls::attest(client, "join_token", token.into_bytes(), request.csr).await?;
    let identity = calls::identity(svid, &request.key)?;
    let (client, _) = calls::dial(stage.address(), Some(&identity)).await?;
    let entries = (0..50)
        .map(|number| calls::entry(&parent, &format!("/batch/{number}")))
        .collect();
    let ids = calls::create(calls::local(&stage.socket()).await?, entries).await?;
    let csr = KeyRequest::generate(None)?.csr;
    let params = |count: usize| -> Vec<_> {
        let param = |id: &String| NewX509svidParams {
            entry_id: id.clone(),
            csr: csr.clone(),
        };
        ids.iter().take(count).map(param).collect()
    };
    for (name, size, target) in [
        ("BatchNewX509SVID, 1", 1, 160.0),
        ("BatchNewX509SVID, 50, each", 50, 85.0),
    ] {
        plan.measure(subject(name, 4, size, target), floor, |_| {
            let (client, params) = (client.clone(), params(size));
            async move {
                let request = BatchNewX509svidRequest { params };
                let signed = SvidClient::new(client).batch_new_x509svid(request).await?;
                let is_good =
                    |result: &proto::spire::api::server::svid::v1::batch_new_x509svid_response::Result| {
                        result.svid.is_some()
                    };
                anyhow::ensure!(
                    signed.into_inner().results.iter().all(is_good),
                    "an SVID is missing"
                );
                Ok(())
            }
        })
        .await?;
    }
    Ok(())
}
