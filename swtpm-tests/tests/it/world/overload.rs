//! More than the server gets to at once, and who stands in front of it.

mod herd;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use agent::{refusal::retry_after, svid_key::KeyRequest};
use futures::{StreamExt, stream};
use proto::grpc::health::v1::{HealthCheckRequest, health_client::HealthClient};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
pub(super) use swtpm_tests::FLOOD;
use swtpm_tests::{World, alone, free_port};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime,
    time::timeout,
};
use tonic::Code;

use herd::{attest, attested, dial};

const HERD: usize = 5000;
/// For all of the herd to be back: a server in debug build and its clients share the processors of a test machine.
const BACK_WITHIN: Duration = Duration::from_secs(90);
/// For an answer to whoever looks whether the server lives.
const HEALTHY_WITHIN: Duration = Duration::from_secs(5);
/// Most memory of the server at any moment, in bytes: 50 KB for each of the herd, and what it starts with.
const MEMORY: u64 = HERD as u64 * 50_000 + 100_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_agents_that_come_back_at_once_are_served() {
    let _alone = alone(FLOOD);
    allow_files(3 * HERD as u64);
    let health = free_port();
    let world = World::with(&format!(
        "[server.health_checks]\nlistener_enabled = true\nbind_port = {health}\n"
    ));
    let address: SocketAddr = world.address().parse().unwrap();
    let herd = Arc::new(attested(&world, HERD).await);
    let back = || async {
        let all = stream::iter(0..HERD).map(|number| {
            let herd = Arc::clone(&herd);
            tokio::spawn(async move { herd[number].returned(address).await })
        });
        let all = all.buffer_unordered(HERD).map(Result::unwrap).collect::<Vec<_>>();
        timeout(BACK_WITHIN, all).await.expect("all are back in time")
    };
    let sessions = back().await;
    let is_over = Arc::new(AtomicBool::new(false));
    let probes = watch_health(world.server_socket(), health, Arc::clone(&is_over));

    drop(sessions);
    let begun = Instant::now();
    let sessions = back().await;

    is_over.store(true, Ordering::Relaxed);
    let (probes, slowest) = probes.join().unwrap();
    let tries: usize = sessions.iter().map(|(_, tries)| tries).sum();
    let peak = peak_memory(world.server().id());
    println!(
        "{HERD} back after {:?}, {tries} tries; {probes} probes, slowest {slowest:?}; {} MB at most",
        begun.elapsed(),
        peak / 1_000_000
    );
    assert!(probes > 0, "nobody looked");
    assert!(peak < MEMORY, "the server took {peak} bytes");
}

/// Looks whether the server lives, by both ways that there are, again and again. Answers with how often, and the longest
/// that it took. On a thread of its own: among the herd it would wait for the herd, not for the server.
fn watch_health(socket: PathBuf, port: u16, is_over: Arc<AtomicBool>) -> JoinHandle<(usize, Duration)> {
    let watching = async move {
        let (mut probes, mut slowest) = (0, Duration::ZERO);
        while !is_over.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let looked = timeout(HEALTHY_WITHIN, async {
                tokio::join!(look(&socket), look_by_http(port));
            });
            looked.await.expect("an answer while the herd comes");
            slowest = slowest.max(begun.elapsed());
            probes += 1;
        }
        (probes, slowest)
    };
    thread::spawn(|| {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(watching)
    })
}

async fn look(socket: &std::path::Path) {
    let (client, driver) = edge::grpc::connect(socket).await.unwrap();
    let mut client = HealthClient::new(client);
    tokio::select! {
        answer = client.check(HealthCheckRequest::default()) => assert_eq!(answer.unwrap().into_inner().status, 1),
        () = driver => panic!("connection lost"),
    }
}

async fn look_by_http(port: u16) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Servers of a test machine get what this process may have.
fn allow_files(count: u64) {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum.map_or(count, |most| most.min(count));
    let raised = Rlimit {
        current: Some(limit.current.map_or(count, |now| now.max(current))),
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

fn peak_memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn a_source_that_attests_too_often_is_told_when_to_come_back() {
    let _alone = alone(FLOOD);
    let world = World::start();
    let address: SocketAddr = world.address().parse().unwrap();
    let csr = KeyRequest::generate(None).unwrap().csr;
    let connection = dial(address, 1, None, &[]).await.unwrap();
    let refused = loop {
        let refused = attest(connection.client.clone(), "no-token", &csr)
            .await
            .unwrap_err();
        if refused.code() == Code::ResourceExhausted {
            break refused;
        }
    };
    assert!(retry_after(&refused).is_some(), "{refused}");

    // Others are not concerned.
    let elsewhere = dial(address, 2, None, &[]).await.unwrap();
    let token = world.token();
    attest(elsewhere.client.clone(), &token, &csr).await.unwrap();
}

/// A header of the PROXY protocol for a connection from 192.0.2.7.
const ANNOUNCED: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x7f\0\0\x01\x1f\x90\x1f\x91";

#[tokio::test]
async fn a_load_balancer_says_whose_connection_it_is() {
    let world = World::with("proxy_protocol_trusted_cidrs = [\"127.0.1.1/32\"]");
    let address: SocketAddr = world.address().parse().unwrap();
    let csr = KeyRequest::generate(None).unwrap().csr;
    assert!(dial(address, 1, None, &[]).await.is_err(), "it has to say so");
    assert!(
        dial(address, 2, None, ANNOUNCED).await.is_err(),
        "others are not believed"
    );

    let behind = dial(address, 1, None, ANNOUNCED).await.unwrap();
    attest(behind.client.clone(), &world.token(), &csr).await.unwrap();
    let direct = dial(address, 2, None, &[]).await.unwrap();
    attest(direct.client.clone(), &world.token(), &csr).await.unwrap();

    let attested = world.audit(&["query", "--event", "agent_attested", "--output", "json"]);
    let from: Vec<_> = attested.iter().map(ToString::to_string).collect();
    assert!(from[0].contains("192.0.2.7:8080"), "{from:?}");
    assert!(from[1].contains("127.0.1.2:"), "{from:?}");
}
