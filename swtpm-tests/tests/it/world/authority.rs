use std::time::SystemTime;

use proto::spire::api::{
    server::bundle::v1::{GetBundleRequest, bundle_client::BundleClient},
    types,
};
use serde_json::Value;
use svid::{Bundle, Timestamp, TrustDomain, X509Authority, jwt, x509};
use swtpm_tests::World;

use super::meetings::{Chain, DB, Pair, WEB};

pub(super) fn order(world: &World, kind: &str, action: &str, authority_id: &str) -> Value {
    let mut words = vec!["localauthority", kind, action];
    if !authority_id.is_empty() {
        words.extend(["--authority-id", authority_id]);
    }
    world.cli(&words)
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

/// The bundle, as the server answers it.
pub(super) async fn bundle(world: &World) -> types::Bundle {
    let socket = world.server_socket();
    let (client, connection) = edge::grpc::connect(&socket).await.unwrap();
    let mut client = BundleClient::new(client);
    let answered = client.get_bundle(GetBundleRequest::default());
    tokio::select! {
        answered = answered => answered.unwrap().into_inner(),
        () = connection => panic!("the connection ended"),
    }
}

async fn verified(world: &World, chain: &Chain) -> Result<(), x509::Refused> {
    let roots = bundle(world).await.x509_authorities.into_iter();
    let roots = roots.map(|root| X509Authority {
        certificate: root.asn1.into(),
        tainted: root.tainted,
    });
    let bundle = Bundle {
        x509_authorities: roots.collect(),
        ..Bundle::empty(TrustDomain::parse("example.org").unwrap())
    };
    let now = Timestamp::from(SystemTime::now());
    x509::verify(chain, |_| Some(&bundle), now).map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_is_replaced_by_force_and_no_handshake_fails() {
    let world = World::start();
    let (web, mut db) = (world.agent(&world.token()), world.agent(&world.token()));
    let _entries = [world.entry(web.id(), WEB, &[]), world.entry(db.id(), DB, &[])];
    web.daemon().wait_for("SVID ready");
    db.daemon().wait_for("SVID ready");
    let pair = Pair::of(&web, &db).await;
    let old_svids = pair.meet().await;
    let mut meetings = pair.keep_meeting();

    let old = text(&order(&world, "x509", "show", "")["active"]["authority_id"]);
    meetings.until_both_show(&old).await;
    let prepared = order(&world, "x509", "prepare", "");
    let new = text(&prepared["prepared_authority"]["authority_id"]);
    let _activated = order(&world, "x509", "activate", &new);
    let _tainted = order(&world, "x509", "taint", &old);
    let took = meetings.until_both_show(&new).await;
    println!("SVIDs were replaced {took:?} after the taint");
    for chain in &old_svids {
        verified(&world, chain).await.unwrap();
    }
    web.daemon().wait_for("Agent SVID renewed");
    db.daemon().wait_for("Agent SVID renewed");

    let _revoked = order(&world, "x509", "revoke", &old);
    for chain in &old_svids {
        assert!(matches!(
            verified(&world, chain).await,
            Err(x509::Refused::Chain(_))
        ));
    }
    // The server's own certificate, and the agent's, rest on what is left.
    db.restart();
    db.daemon().wait_for("Session opened");
    meetings.end();
    assert_eq!(web.daemon().count("Session ended"), 0);
    assert_eq!(web.daemon().count("\"Attested\""), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_revoked_jwt_authority_signed_verifies_no_more() {
    let world = World::start();
    let mint = || {
        let words = ["jwt", "mint", "--spiffe-id", WEB, "--audience", "db"];
        text(&world.cli(&words)["svid"]["token"])
    };
    let key = |token: &str| jwt::JwtSvid::parse(token).unwrap().key_id;
    let verified = async |token: &str| {
        let keys = bundle(&world).await.jwt_authorities.into_iter();
        let keys = keys.map(|key| svid::JwtAuthority {
            key_id: key.key_id,
            public_key: key.public_key,
            expires_at: None,
            tainted: key.tainted,
        });
        let bundle = Bundle {
            jwt_authorities: keys.collect(),
            ..Bundle::empty(TrustDomain::parse("example.org").unwrap())
        };
        let now = Timestamp::from(SystemTime::now());
        jwt::verify(token, "db", |_| Some(&bundle), now).map(drop)
    };

    let before = mint();
    let old = text(&order(&world, "jwt", "show", "")["active"]["authority_id"]);
    assert_eq!(key(&before), old);
    let prepared = order(&world, "jwt", "prepare", "");
    let new = text(&prepared["prepared_authority"]["authority_id"]);
    let _activated = order(&world, "jwt", "activate", &new);
    let after = mint();
    assert_eq!(key(&after), new);
    let _tainted = order(&world, "jwt", "taint", &old);
    verified(&before).await.unwrap();
    let _revoked = order(&world, "jwt", "revoke", &old);
    assert!(matches!(
        verified(&before).await,
        Err(jwt::Refused::UnknownKey(_))
    ));
    verified(&after).await.unwrap();
}

#[test]
fn operators_turn_the_log_and_let_agents_go() {
    let world = World::start();
    let set = world.cli(&["logger", "set", "--level", "trace"]);
    assert_eq!(
        (&set["current_level"], &set["launch_level"]),
        (&"TRACE".into(), &"DEBUG".into())
    );
    assert_eq!(world.cli(&["logger", "reset"])["current_level"], "DEBUG");
    assert_eq!(world.cli(&["logger", "get"])["current_level"], "DEBUG");

    let agent = world.agent(&world.token());
    assert_eq!(world.cli(&["agent", "count"])["count"], 1);
    assert_eq!(
        world.cli(&["agent", "count", "--can-reattest", "true"])["count"],
        0
    );
    // An agent that attested by token can't attest again: it is never purged.
    let purged = world.cli(&["agent", "purge", "--expired-for", "0"]);
    assert_eq!(purged["expired_agents"], Value::Array(Vec::new()));
    let _banned = world.cli(&["agent", "ban", "--spiffe-id", agent.id()]);
    agent.daemon().wait_for("Server withdrew this host's standing");
    assert_eq!(world.cli(&["agent", "count", "--banned", "true"])["count"], 1);
}
