//! What CRLs say when agents lose their standing, and who reads it: checked as a relying party does, by rustls.

use std::{fs, sync::Arc};

use rustls::{
    CertificateError, Error, RootCertStore,
    pki_types::{CertificateRevocationListDer, UnixTime},
    server::WebPkiClientVerifier,
};
use swtpm_tests::{Agent, World, free_port};
use tokio::sync::watch;
use x509_parser::{prelude::FromDer, revocation_list::CertificateRevocationList};

use super::{
    authority::{order, text},
    http::get_bytes,
    meetings::{Chain, DB, Held, WEB, WITHIN, holder},
};

/// What a relying party makes of `chain`, with what the holder of another SVID was given last.
fn relied_upon(chain: &Chain, held: &Held) -> Result<(), Error> {
    let mut roots = RootCertStore::empty();
    for root in &held.bundle.x509_authorities {
        roots.add(root.certificate.clone()).unwrap();
    }
    let crls = held
        .crls
        .iter()
        .map(|crl| CertificateRevocationListDer::from(crl.to_vec()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .with_crls(crls)
        .enforce_revocation_expiration()
        .build()
        .unwrap();
    let (leaf, others) = chain.split_first().unwrap();
    let verified = verifier.verify_client_cert(leaf, others, UnixTime::now());
    verified.map(drop)
}

fn is_revoked(chain: &Chain, held: &Held) -> bool {
    match relied_upon(chain, held) {
        Ok(()) => false,
        Err(Error::InvalidCertificate(CertificateError::Revoked)) => true,
        Err(other) => panic!("{other}"),
    }
}

/// Waits until the holder of another SVID was given a CRL that names `chain`.
async fn until_revoked(holder: &mut watch::Receiver<Option<Held>>, chain: &Chain) -> Held {
    let revoked = holder.wait_for(|held| held.as_ref().is_some_and(|held| is_revoked(chain, held)));
    let revoked = tokio::time::timeout(WITHIN, revoked).await;
    let held = revoked.expect("the CRL comes in time").unwrap();
    held.clone().unwrap()
}

/// The number of the newest CRL, and of how many certificates CRLs speak.
fn said(held: &Held) -> (u64, usize) {
    let parsed = held.crls.iter().map(|crl| {
        let (_, crl) = CertificateRevocationList::from_der(crl).unwrap();
        let number: u64 = crl.crl_number().unwrap().try_into().unwrap();
        (number, crl.iter_revoked_certificates().count())
    });
    parsed.fold((0, 0), |(newest, count), (number, named)| {
        (newest.max(number), count + named)
    })
}

fn now(holder: &watch::Receiver<Option<Held>>) -> Held {
    holder.borrow().clone().unwrap()
}

/// An agent with a workload.
fn serving(world: &World, spiffe_id: &str) -> (Agent, String) {
    let agent = world.agent(&world.token());
    let entry = world.entry(agent.id(), spiffe_id, &[]);
    agent.daemon().wait_for("SVID ready");
    (agent, entry)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_went_through_an_agent_that_is_evicted_is_refused_by_others() {
    let world = World::start();
    let (web, _) = serving(&world, WEB);
    let (db, entry) = serving(&world, DB);
    let mut watching = holder(&web).await;
    let lost = now(&holder(&db).await).chain;
    let before = now(&watching);
    assert!(!is_revoked(&lost, &before));

    // That an entry is gone is not the agent's fault; what it got for it is lost with it all the same.
    let _deleted = world.cli(&["entry", "delete", "--entry-id", &entry]);
    let (audited, _) = said(&before);
    assert_eq!(said(&now(&watching)), (audited, 0));
    let _evicted = world.cli(&["agent", "evict", "--spiffe-id", db.id()]);

    let after = until_revoked(&mut watching, &lost).await;
    let (number, named) = said(&after);
    assert!(number > audited, "{number} is not after {audited}");
    // The workload's, and the agent's own.
    assert_eq!(named, 2);
    assert!(!is_revoked(&after.chain, &after));
    db.daemon().wait_for("Server withdrew this host's standing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_crls_finds_them_at_a_url() {
    let port = free_port();
    let table = format!("[server.health_checks]\nlistener_enabled = true\nbind_port = {port}\n");
    let world = World::with(&table);
    let (web, _) = serving(&world, WEB);
    let (db, _) = serving(&world, DB);
    let mut watching = holder(&web).await;
    let lost = now(&holder(&db).await).chain;
    let shown = order(&world, "x509", "show", "");
    let path = format!("/crl/{}.crl", text(&shown["active"]["authority_id"]));
    let named = || {
        let answer = get_bytes(port, &path).unwrap();
        let body = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
        let head = String::from_utf8_lossy(&answer[..body]).to_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert!(head.contains("content-type: application/pkix-crl"), "{head}");
        let (_, crl) = CertificateRevocationList::from_der(&answer[body..]).unwrap();
        crl.iter_revoked_certificates().count()
    };

    assert_eq!(named(), 0);
    let _evicted = world.cli(&["agent", "evict", "--spiffe-id", db.id()]);
    until_revoked(&mut watching, &lost).await;
    assert_eq!(named(), 2);

    let other = get_bytes(port, "/crl/other.crl").unwrap();
    assert!(other.starts_with(b"HTTP/1.1 404"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawal_that_no_crl_tells_yet_survives_the_server() {
    let mut world = World::start();
    let (web, _) = serving(&world, WEB);
    let (db, _) = serving(&world, DB);
    let mut watching = holder(&web).await;
    let lost = now(&holder(&db).await).chain;

    // As long as the ledger can't be read, no CRL can be made.
    let (ledger, away) = (world.data_dir().join("audit"), world.data_dir().join("away"));
    fs::rename(&ledger, &away).unwrap();
    let _evicted = world.cli(&["agent", "evict", "--spiffe-id", db.id()]);
    world.server().wait_for("cannot read the ledger");
    world.kill_server();
    fs::rename(&away, &ledger).unwrap();
    assert!(!is_revoked(&lost, &now(&watching)));
    world.start_server();

    until_revoked(&mut watching, &lost).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authorities_that_were_replaced_by_force_still_say_what_is_lost() {
    let world = World::start();
    let (web, _) = serving(&world, WEB);
    let (db, _) = serving(&world, DB);
    let mut watching = holder(&web).await;
    let lost = now(&holder(&db).await).chain;

    for _ in 0..3 {
        let prepared = order(&world, "x509", "prepare", "");
        let id = text(&prepared["prepared_authority"]["authority_id"]);
        let _activated = order(&world, "x509", "activate", &id);
    }
    let _evicted = world.cli(&["agent", "evict", "--spiffe-id", db.id()]);

    let after = until_revoked(&mut watching, &lost).await;
    // Each has a CRL: a relying party that wants one for every issuer finds it.
    assert_eq!(after.crls.len(), 4);
    assert_eq!(world.server().count("key of their authority is gone"), 0);
}
