//! Entries from files and from another server, as operators type it.

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

use crate::server::{Running, start};

/// What a command printed, and how it ended.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs `plastron-server entry` against `server`, with `input` on its standard input.
async fn entry(server: &Running, words: &[&str], input: &Value) -> Said {
    let words: Vec<_> = words.iter().map(ToString::to_string).collect();
    let (socket, input) = (server.folder.path().join("api.sock"), input.to_string());
    let run = move || run(&socket, &words, &input);
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    Said {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn run(socket: &Path, words: &[String], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_plastron-server"))
        .arg("entry")
        .args(words)
        .arg("--socket-path")
        .arg(socket)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that reads nothing has closed it.
    stdin.write_all(input.as_bytes()).ok();
    drop(stdin);
    child.wait_with_output().unwrap()
}

impl Said {
    #[track_caller]
    fn check(&self, code: i32, out: &str, err: &str) {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        assert!(self.out.contains(out), "{}", self.out);
        assert!(self.err.contains(err), "{}", self.err);
    }
}

fn listed(path: &str, uid: u32) -> Value {
    json!({
        "spiffe_id": format!("spiffe://example.org{path}"),
        "parent_id": "spiffe://example.org/rack",
        "selectors": [{"type": "unix", "value": format!("uid:{uid}")}],
    })
}

const NOTHING: Value = Value::Null;

#[tokio::test(flavor = "multi_thread")]
async fn entries_go_through_files_and_back() {
    let server = start("").await;
    // More than one batch.
    let entries: Vec<_> = (0..450).map(|uid| listed("/db", uid)).collect();
    let file = json!({ "entries": entries });
    let create = ["create", "--data", "-"];
    entry(&server, &create, &file)
        .await
        .check(0, "450 entries created", "");
    let again = entry(&server, &create, &file).await;
    again.check(1, "0 entries created", "450 of 450 could not be created");
    assert_eq!(again.err.lines().count(), 451);
    again.check(
        1,
        "",
        "entries[449] spiffe://example.org/db: similar entry already exists\n",
    );

    let shown = entry(&server, &["show", "--output", "json"], &NOTHING).await;
    let mut shown: Value = serde_json::from_str(&shown.out).unwrap();
    for entry in shown["entries"].as_array_mut().unwrap() {
        entry["hint"] = "blue".into();
    }
    let update = ["update", "--data", "-"];
    entry(&server, &update, &shown)
        .await
        .check(0, "450 entries updated", "");
    entry(&server, &update, &file)
        .await
        .check(1, "", "entries[0]: has no id");
    let blue = entry(&server, &["count", "--hint", "blue"], &NOTHING).await;
    blue.check(0, "450 registration entries", "");

    let mut ids: Vec<_> = shown["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["id"].clone())
        .collect();
    ids.push("nobody".into());
    let deleted = entry(&server, &["delete", "--file", "-"], &json!({ "ids": ids })).await;
    deleted.check(1, "450 entries deleted", "nobody: entry not found");
    deleted.check(1, "", "1 of 451 could not be deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_twice_or_not_at_all_is_refused() {
    let server = start("").await;
    let both = [
        "create",
        "--data",
        "-",
        "--spiffe-id",
        "spiffe://example.org/db",
        "--selector",
        "a:b",
    ];
    entry(&server, &both, &NOTHING)
        .await
        .check(2, "", "cannot be used with");
    entry(&server, &["create"], &NOTHING)
        .await
        .check(2, "", "--spiffe-id");
    entry(
        &server,
        &["create", "--spiffe-id", "spiffe://example.org/db"],
        &NOTHING,
    )
    .await
    .check(2, "", "--selector");
    entry(
        &server,
        &["update", "--spiffe-id", "spiffe://example.org/db"],
        &NOTHING,
    )
    .await
    .check(2, "", "--entry-id");
    entry(&server, &["delete"], &NOTHING)
        .await
        .check(2, "", "--entry-id");
    let create = ["create", "--data", "-"];
    entry(&server, &create, &json!({"entries": []}))
        .await
        .check(1, "", "names no entry");
    let wrong = json!({"entries": [{"spiffeid": "x"}]});
    entry(&server, &create, &wrong)
        .await
        .check(1, "", "cannot read `-`: entries[0].spiffeid: unknown field");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_applied() {
    let server = start("").await;
    let file = json!({"entries": [listed("/db", 1), listed("/web", 2)]});
    let dry = ["apply", "-f", "-", "--prune", "--dry-run"];
    let apply = ["apply", "-f", "-", "--prune"];
    entry(&server, &dry, &file)
        .await
        .check(2, "+ spiffe://example.org/db", "");
    entry(&server, &["count"], &NOTHING)
        .await
        .check(0, "0 registration entries", "");
    entry(&server, &apply, &file)
        .await
        .check(0, "2 to create, 0 to update, 0 to delete", "");
    entry(&server, &dry, &file)
        .await
        .check(0, "0 to create, 0 to update, 0 to delete, 2 unchanged", "");

    let mut changed = json!({"entries": [listed("/db", 1)]});
    changed["entries"][0]["x509_svid_ttl"] = 60.into();
    entry(&server, &apply[..3], &changed)
        .await
        .check(0, "x509_svid_ttl: none → 60", "");
    entry(&server, &dry, &changed)
        .await
        .check(2, "- spiffe://example.org/web", "");
    let elsewhere = [&apply[..], &["--parent-id", "spiffe://example.org/other"]].concat();
    entry(&server, &elsewhere, &changed)
        .await
        .check(0, "0 to delete, 1 unchanged", "");
    entry(&server, &apply, &changed).await.check(0, "1 to delete", "");
    let shown = entry(&server, &["show"], &NOTHING).await;
    shown.check(0, "Found 1 entries", "");
    shown.check(0, "Reached by    : no agent at present", "");

    // What the server refuses is said with its place, and nothing is removed then.
    let mut refused = json!({"entries": [listed("/new", 7)]});
    refused["entries"][0]["x509_svid_ttl"] = (-1).into();
    let said = entry(&server, &apply, &refused).await;
    said.check(1, "1 to delete", "entries[0]: failed to convert entry");
    entry(&server, &["count"], &NOTHING)
        .await
        .check(0, "1 registration entries", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_come_over_from_another_server() {
    let (spire, server) = (start("").await, start("").await);
    let file = json!({"entries": [listed("/db", 1), listed("/web", 2)]});
    entry(&spire, &["create", "--data", "-"], &file)
        .await
        .check(0, "2 entries created", "");
    let socket = spire.folder.path().join("api.sock");
    let import = ["import-spire", "--spire-socket", socket.to_str().unwrap()];
    let dry = [&import[..], &["--dry-run"]].concat();
    entry(&server, &dry, &NOTHING)
        .await
        .check(0, "2 entries would be created, 0 are here", "");
    entry(&server, &import, &NOTHING)
        .await
        .check(0, "2 entries created, 0 are here already", "");
    entry(&server, &import, &NOTHING)
        .await
        .check(0, "0 entries created, 2 are here already", "");
    let ids = async |server| {
        let shown = entry(server, &["show", "--output", "json"], &NOTHING).await;
        let shown: Value = serde_json::from_str(&shown.out).unwrap();
        let ids = shown["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["id"].to_string());
        let mut ids: Vec<_> = ids.collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&server).await, ids(&spire).await);
}
