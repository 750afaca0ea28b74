//! A server whose authorities are signed by a CA in files.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::Value;
use swtpm_tests::{World, go_client, run};
use x509_parser::{extensions::ParsedExtension, prelude::FromDer};

use super::{
    authority::{bundle, order, text},
    meetings::{DB, Pair, WEB},
};

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// A CA that an operator has: a root, and perhaps one below it that signs.
struct Upstream {
    root: Issuer,
    below: Option<Issuer>,
}

impl Upstream {
    fn new(name: &str) -> Self {
        let root = CertifiedIssuer::self_signed(params(name), KeyPair::generate().unwrap()).unwrap();
        Self { root, below: None }
    }

    fn with_one_below(self) -> Self {
        let key = KeyPair::generate().unwrap();
        let below = CertifiedIssuer::signed_by(params("below"), key, &self.root).unwrap();
        Self {
            below: Some(below),
            ..self
        }
    }

    /// Subject key identifier of the root, in hex.
    fn root_id(&self) -> String {
        let (_, root) = x509_parser::certificate::X509Certificate::from_der(self.root.der()).unwrap();
        let mut extensions = root.iter_extensions();
        let id = extensions.find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(hex::encode(id.0)),
            _ => None,
        });
        id.unwrap()
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

fn certificate(issuer: &Issuer) -> String {
    pem::encode(&pem::Pem::new("CERTIFICATE", issuer.der().to_vec()))
}

fn private(issuer: &Issuer) -> String {
    pem::encode(&pem::Pem::new("PRIVATE KEY", issuer.key().serialize_der()))
}

/// The files of a CA, and the plugin's table.
struct Files(PathBuf);

impl Files {
    fn new() -> Self {
        Self(swtpm_tests::new_dir())
    }

    fn put(&self, upstream: &Upstream) {
        let signer = upstream.below.as_ref().unwrap_or(&upstream.root);
        let (key, path) = (private(signer), self.0.join("key.pem"));
        fs::write(&path, key).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(self.0.join("ca.pem"), certificate(signer)).unwrap();
        fs::write(self.0.join("roots.pem"), certificate(&upstream.root)).unwrap();
    }

    fn table(&self) -> String {
        let dir = self.0.display();
        format!(
            r#"[plugins.upstream-disk]
cert_file_path = "{dir}/ca.pem"
key_file_path = "{dir}/key.pem"
bundle_file_path = "{dir}/roots.pem"
"#
        )
    }
}

fn error(world: &World, words: &[&str]) -> String {
    let outcome = world.outcome(words);
    assert!(!outcome.status.success());
    String::from_utf8(outcome.stderr).unwrap()
}

fn upstreamauthority(world: &World, action: &str, id: &str) -> Value {
    world.cli(&["upstreamauthority", action, "--subject-key-id", id])
}

/// How many certificates an SVID comes with.
fn minted_chain(world: &World) -> usize {
    let minted = world.cli(&["x509", "mint", "--spiffe-id", WEB]);
    let chain = text(&minted["x509_svid"]);
    chain.matches("BEGIN CERTIFICATE").count()
}

async fn roots(world: &World) -> Vec<Vec<u8>> {
    let roots = bundle(world).await.x509_authorities.into_iter();
    roots.map(|root| root.asn1).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_authority_is_replaced_and_no_handshake_fails() {
    let files = Files::new();
    let (first, second) = (Upstream::new("first"), Upstream::new("second").with_one_below());
    files.put(&first);
    let world = World::with_plugins(&files.table());
    assert_eq!(roots(&world).await, [first.root.der().to_vec()]);
    let (web, db) = (world.agent(&world.token()), world.agent(&world.token()));
    let _entries = [world.entry(web.id(), WEB, &[]), world.entry(db.id(), DB, &[])];
    web.daemon().wait_for("SVID ready");
    db.daemon().wait_for("SVID ready");
    let pair = Pair::of(&web, &db).await;
    // The SVID, and the authority below the root that the bundle holds.
    assert!(pair.meet().await.iter().all(|chain| chain.len() == 2));
    let mut meetings = pair.keep_meeting();

    // Files that can't be used leave everything as it is.
    let shown = order(&world, "x509", "show", "");
    let active = &shown["active"];
    assert_eq!(active["upstream_authority_subject_key_id"], first.root_id());
    fs::write(files.0.join("key.pem"), private(&second.root)).unwrap();
    let refused = error(&world, &["localauthority", "x509", "prepare"]);
    assert!(
        refused.contains("is not the key of the first certificate"),
        "{refused}"
    );
    let old = text(&active["authority_id"]);
    let refused = error(
        &world,
        &["localauthority", "x509", "taint", "--authority-id", &old],
    );
    assert!(refused.contains("rests on the upstream authority"), "{refused}");

    files.put(&second);
    let prepared = order(&world, "x509", "prepare", "");
    let new = text(&prepared["prepared_authority"]["authority_id"]);
    let refused = error(
        &world,
        &["upstreamauthority", "taint", "--subject-key-id", &first.root_id()],
    );
    assert!(refused.contains("stands behind"), "{refused}");
    let _activated = order(&world, "x509", "activate", &new);
    let _tainted = upstreamauthority(&world, "taint", &first.root_id());
    meetings.until_both_show(&second.root_id()).await;
    web.daemon().wait_for("Agent SVID renewed");
    db.daemon().wait_for("Agent SVID renewed");
    let _revoked = upstreamauthority(&world, "revoke", &first.root_id());
    assert_eq!(roots(&world).await, [second.root.der().to_vec()]);
    meetings.once_more().await;
    meetings.end();
}

#[test]
fn others_verify_what_rests_on_an_upstream_authority() {
    let files = Files::new();
    files.put(&Upstream::new("root").with_one_below());
    let mut world = World::with_plugins(&files.table());
    let agent = world.agent(&world.token());
    let _entry = world.entry(agent.id(), WEB, &["--x509-svid-ttl", "10"]);
    agent.daemon().wait_for("SVID ready");
    let mut client = go_client("source");
    let report = run(client.env("SPIFFE_ENDPOINT_SOCKET", agent.endpoint()));
    let report: Value = serde_json::from_str(&report).unwrap();
    for meeting in ["before", "after"] {
        assert_eq!(report[meeting]["client_saw"], WEB);
    }
    // Minted ones have the whole chain, too: the SVID, the authority, the one that signed it.
    assert_eq!(minted_chain(&world), 3);

    // The authority is still the same when the server starts anew.
    let before = order(&world, "x509", "show", "");
    world.restart_server();
    agent.daemon().wait_for_more("Session opened", 2);
    assert_eq!(order(&world, "x509", "show", ""), before);
    assert_eq!(minted_chain(&world), 3);
}
