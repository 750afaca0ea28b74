use std::time::Duration;

use http::Response;
use tonic::{Status, body::Body};

use super::*;

#[test]
fn what_is_shown_is_text_format_0_0_4() {
    let mut registry = Registry::default();
    let counter = registry.counter("a_total", "As.");
    let gauge = registry.gauge("b", "Bs.");
    let tally = registry.tally("c_total", "Cs.", ["x", "y"]);
    registry.add(Kind::Gauge, "d", "Ds.", |samples| {
        samples.float(&[("of", "\"\\\n")], 1.5);
    });
    counter.add(2);
    let (_one, two) = (gauge.hold(), gauge.hold());
    drop(two);
    tally.count(["p", "q"]);
    tally.add(["p", "q"], 2);
    tally.add(["r", "s"], 0);
    let expected = r#"# HELP a_total As.
# TYPE a_total counter
a_total 2
# HELP b Bs.
# TYPE b gauge
b 1
# HELP c_total Cs.
# TYPE c_total counter
c_total{x="p",y="q"} 3
c_total{x="r",y="s"} 0
# HELP d Ds.
# TYPE d gauge
d{of="\"\\\n"} 1.5
"#;
    assert_eq!(registry.render(), expected);
}

#[test]
fn buckets_hold_what_took_at_most_as_long() {
    let mut registry = Registry::default();
    let histogram = registry.seconds("s", "Seconds.");
    for micros in [100, 101, 1_000_000, 40_000_000] {
        histogram.observe(Duration::from_micros(micros));
    }
    let shown = registry.render();
    for line in [
        "s_bucket{le=\"0.0001\"} 1",
        "s_bucket{le=\"0.00025\"} 2",
        "s_bucket{le=\"0.25\"} 2",
        "s_bucket{le=\"1\"} 3",
        "s_bucket{le=\"30\"} 3",
        "s_bucket{le=\"+Inf\"} 4",
        "s_sum 41.000201",
        "s_count 4",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} in {shown}");
    }
}

#[test]
fn a_tally_has_an_end() {
    let tally = Tally::default();
    for n in 0..1000 {
        tally.count([&*format!("{n}").leak()]);
    }
    let mut registry = Registry::default();
    let shown = tally.clone();
    registry.add(Kind::Counter, "t", "T.", move |samples| {
        shown.show(["n"], samples);
    });
    assert_eq!(registry.render().lines().count(), 2 + 512);
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code() {
    let mut registry = Registry::default();
    let calls = Calls::register(&mut registry, |path| path.contains("Health"));
    let check = "/grpc.health.v1.Health/Check";
    let refused = Status::not_found("no").into_http();
    drop(calls.begin(check).follow(refused));
    drop(calls.begin("/what/ever").follow(Response::new(Body::empty())));
    drop(calls.begin("/spire.api.server.svid.v1.SVID/MintX509SVID"));
    let shown = registry.render();
    for line in [
        "plastron_grpc_calls_total{method=\"grpc.health.v1.Health/Check\",code=\"NOT_FOUND\"} 1",
        "plastron_grpc_calls_total{method=\"unknown\",code=\"CANCELLED\"} 2",
        "plastron_grpc_call_seconds_count{method=\"unknown\"} 2",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} in {shown}");
    }
}

#[test]
fn the_process_is_known() {
    let mut registry = Registry::default();
    process::register(&mut registry);
    let shown = registry.render();
    assert_eq!(shown.lines().count(), 9, "{shown}");
}
