use std::{fmt, fs, future::pending, sync::Mutex};

use edge::metrics::Registry;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::with_default,
};

use super::*;
use crate::meters::Meters;

/// Whoever is told: answers each request with the next of `statuses`, and keeps what it read of the last.
struct Listener {
    listener: TcpListener,
    folder: TempDir,
}

impl Listener {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("secret"), "sixteen bytes or more").unwrap();
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            folder,
        }
    }

    /// Tells it, with `times` tries.
    fn webhook(&self, times: u32) -> (Webhook, Sending, Registry) {
        let address = self.listener.local_addr().unwrap();
        let secret = self.folder.path().join("secret");
        let text = serde_json::json!({"url": format!("http://{address}/"), "secret_path": secret});
        let config = serde_json::from_value(text).unwrap();
        let patience = Patience {
            first: Duration::from_millis(1),
            longest: Duration::from_millis(2),
            times,
        };
        let mut metrics = Registry::default();
        let counts = Meters::register(&mut metrics).webhook;
        let poster = Poster::open(&config).unwrap();
        let trust_domain = TrustDomain::parse("example.org").unwrap();
        let (webhook, sending) = Webhook::new(poster, patience, trust_domain, counts);
        (webhook, sending, metrics)
    }

    /// Answers one request with `status`; its body.
    async fn answer(&self, status: &str) -> Value {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"}}") {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
        }
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
        let text = String::from_utf8(request).unwrap();
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap()
    }
}

fn records() -> Vec<Record> {
    let about = |event| Record::new(event, &"10.0.0.1:7").with("host_id", &"h");
    vec![
        about("svid_issued"),
        about("host_quarantined").with("reject", &"log_mismatch"),
        about("host_pending"),
        about("host_released"),
    ]
}

fn check_count(metrics: &Registry, outcome: &str, expected: u64) {
    let shown = metrics.render();
    let line = format!("plastron_server_webhook_notices_total{{outcome=\"{outcome}\"}} {expected}\n");
    assert!(shown.contains(&line), "{shown}");
}

const NOW: Timestamp = Timestamp::from_unix(1000);

#[tokio::test]
async fn what_becomes_of_hosts_is_told_in_order_until_it_is_taken() {
    let listener = Listener::new().await;
    let (webhook, sending, metrics) = listener.webhook(3);
    webhook.tell(webhook.notices(&records(), NOW));
    let listening = async {
        let refused = listener.answer("503 Service Unavailable").await;
        let taken = listener.answer("204 No Content").await;
        let next = listener.answer("200 OK").await;
        (refused, taken, next)
    };
    let (refused, taken, next) = tokio::select! {
        heard = listening => heard,
        () = sending.run(pending()) => panic!("it ended"),
    };
    assert_eq!(refused, taken, "the same again");
    assert_eq!(taken["event"], "host_quarantined");
    assert_eq!(
        (&taken["at"], &taken["trust_domain"]),
        (&"1970-01-01T00:16:40Z".into(), &"example.org".into())
    );
    assert_eq!(taken["actor"], "10.0.0.1:7");
    assert_eq!(
        taken["facts"],
        serde_json::json!({"host_id": "h", "reject": "log_mismatch"})
    );
    assert_eq!(next["event"], "host_released");
    assert_ne!(next["id"], taken["id"]);
    check_count(&metrics, "dropped", 0);
}

#[tokio::test]
async fn what_nobody_takes_is_given_up_and_keeps_nothing_waiting() {
    let listener = Listener::new().await;
    let (webhook, sending, metrics) = listener.webhook(2);
    webhook.tell(webhook.notices(&records(), NOW));
    let listening = async {
        for _ in 0..2 {
            let refused = listener.answer("500 Internal Server Error").await;
            assert_eq!(refused["event"], "host_quarantined");
        }
        listener.answer("200 OK").await
    };
    let next = tokio::select! {
        heard = listening => heard,
        () = sending.run(pending()) => panic!("it ended"),
    };
    assert_eq!(next["event"], "host_released");
    check_count(&metrics, "failed", 1);
}

/// Nor is it sent again, but where it says that it was the moment.
#[tokio::test]
async fn what_is_refused_for_good_keeps_nothing_waiting() {
    let listener = Listener::new().await;
    let (webhook, sending, metrics) = listener.webhook(3);
    webhook.tell(webhook.notices(&records(), NOW));
    let listening = async {
        let mut heard = Vec::new();
        for status in ["429 Too Many Requests", "400 Bad Request", "200 OK"] {
            heard.push(listener.answer(status).await["event"].clone());
        }
        heard
    };
    let heard = tokio::select! {
        heard = listening => heard,
        () = sending.run(pending()) => panic!("it ended"),
    };
    assert_eq!(heard, ["host_quarantined", "host_quarantined", "host_released"]);
    check_count(&metrics, "failed", 1);
}

#[tokio::test]
async fn what_is_grave_has_places_of_its_own_and_is_told_first() {
    let listener = Listener::new().await;
    let (webhook, sending, metrics) = listener.webhook(1);
    let stale: Vec<_> = (0..=QUEUE)
        .map(|_| Record::new("host_stale", &"server"))
        .collect();
    webhook.tell(webhook.notices(&stale, NOW));
    for grave in GRAVE {
        webhook.tell(webhook.notices(&[Record::new(grave, &"server")], NOW));
    }
    check_count(&metrics, "dropped", 1);
    let listening = async {
        let mut heard = Vec::new();
        for _ in 0..=GRAVE.len() {
            let mut told = listener.answer("200 OK").await;
            heard.push(told["event"].take());
        }
        heard
    };
    let heard = tokio::select! {
        heard = listening => heard,
        () = sending.run(pending()) => panic!("it ended"),
    };
    let expected: Vec<_> = GRAVE.into_iter().chain(["host_stale"]).collect();
    assert_eq!(heard, expected);
}

/// Keeps the sentences of log lines.
#[derive(Clone, Default)]
struct Sentences(Arc<Mutex<Vec<String>>>);

impl Sentences {
    /// What was said that has `part` in it.
    fn with(&self, part: &str) -> usize {
        let said = self.0.lock().unwrap();
        said.iter().filter(|line| line.contains(part)).count()
    }
}

impl Visit for Sentences {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0.lock().unwrap().push(format!("{value:?}"));
        }
    }
}

impl Subscriber for Sentences {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _attributes: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}

#[tokio::test]
async fn what_there_is_no_room_for_is_dropped_counted_and_said_once() {
    let listener = Listener::new().await;
    let (webhook, mut sending, metrics) = listener.webhook(1);
    let sentences = Sentences::default();
    let tell = || {
        let told = webhook.notices(&records(), NOW);
        with_default(sentences.clone(), || webhook.tell(told));
    };
    for _ in 0..QUEUE {
        tell();
    }
    let said = || sentences.with("Webhook not told: too many notices wait");
    assert_eq!(said(), 0);
    tell();
    tell();
    // Two of each: one that is grave, and one that is not.
    check_count(&metrics, "dropped", 4);
    assert_eq!(said(), 1);
    // Once there is room again, the next one that is dropped is news.
    sending.notices.recv().await.unwrap();
    sending.grave.recv().await.unwrap();
    tell();
    assert_eq!(said(), 1);
    tell();
    check_count(&metrics, "dropped", 6);
    assert_eq!(said(), 2);
}

/// Who tells is gone by then.
#[tokio::test]
async fn what_waits_when_the_server_stops_is_sent() {
    let listener = Listener::new().await;
    let (webhook, sending, metrics) = listener.webhook(2);
    webhook.tell(webhook.notices(&records(), NOW));
    drop(webhook);
    let listening = async {
        let first = listener.answer("200 OK").await;
        let second = listener.answer("200 OK").await;
        (first["event"].clone(), second["event"].clone())
    };
    let (heard, ()) = tokio::join!(listening, sending.run(pending()));
    assert_eq!(heard, ("host_quarantined".into(), "host_released".into()));
    check_count(&metrics, "delivered", 2);
    check_count(&metrics, "dropped", 0);
}

#[tokio::test]
async fn what_can_not_be_sent_before_the_server_stops_is_lost_counted_and_said() {
    // Nobody answers.
    let listener = Listener::new().await;
    let (webhook, mut sending, metrics) = listener.webhook(2);
    webhook.tell(webhook.notices(&records(), NOW));
    let stop = async { drop(listener.listener.accept().await.unwrap()) };
    let sentences = Sentences::default();
    let _listening = tracing::subscriber::set_default(sentences.clone());
    sending.patience = Patience::USUAL;
    sending.run(stop).await;
    check_count(&metrics, "dropped", 2);
    assert_eq!(sentences.with("Webhook not told: the server stops"), 1);
}

#[test]
fn pauses_grow_up_to_the_longest() {
    let usual = Patience::USUAL;
    let pauses: Vec<_> = (1..=8).map(|nth| usual.pause(nth).as_secs()).collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    let all: Duration = (1..usual.times).map(|nth| usual.pause(nth)).sum();
    assert!(all < Duration::from_secs(6 * 60), "{all:?}");
}
