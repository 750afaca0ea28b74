use std::time::SystemTime;

use proto::spire::api::{
    server::svid::v1::{MintJwtsvidRequest, svid_client::SvidClient},
    types::{Jwtsvid, Spiffeid},
};
use svid::{Timestamp, jwt};
use tonic::{Code, Status};

use crate::server::{Running, start};

async fn mint(server: &Running, path: &str, audience: &[&str], ttl: i32) -> Result<Jwtsvid, Status> {
    let id = Spiffeid {
        trust_domain: "example.org".into(),
        path: path.into(),
    };
    let request = MintJwtsvidRequest {
        id: Some(id),
        audience: audience.iter().map(ToString::to_string).collect(),
        ttl,
    };
    let answered = SvidClient::new(server.client.clone())
        .mint_jwtsvid(request)
        .await?;
    Ok(answered.into_inner().svid.unwrap())
}

async fn check(settings: &str, ttl: i32, lives: i64, issuer: Option<&str>) {
    let server = start(settings).await;
    let minted = mint(&server, "/web", &["db", "cache"], ttl).await.unwrap();
    let bundle = server.jwt_bundle().await;
    let now = Timestamp::from(SystemTime::now());
    let verified = jwt::verify(&minted.token, "cache", |_| Some(&bundle), now).unwrap();
    let svid = verified.svid();
    assert_eq!(svid.id.to_string(), "spiffe://example.org/web");
    assert_eq!(minted.expires_at - minted.issued_at, lives);
    assert_eq!(svid.expires_at.as_unix(), minted.expires_at);
    assert_eq!(svid.claims.get("iss").and_then(|iss| iss.as_str()), issuer);
    assert_eq!(svid.claims.get("jti"), None);
    let audit = server.audit();
    assert!(audit.contains("jwt_svid_minted") && audit.contains(&svid.key_id));
    assert!(!audit.contains(&minted.token));
}

#[tokio::test]
async fn tokens_are_minted_for_every_kind_of_key() {
    check("", 0, 300, None).await;
    check("jwt_key_type = \"ec-p384\"", 60, 60, None).await;
    check("jwt_key_type = \"rsa-2048\"", 0, 300, None).await;
}

#[tokio::test]
async fn settings_decide_what_is_not_asked_for() {
    let settings = "default_jwt_svid_ttl = \"90s\"\njwt_issuer = \"https://issuer.example.org\"";
    check(settings, 0, 90, Some("https://issuer.example.org")).await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let server = start("ca_ttl = \"6h\"").await;
    let code = async |path: &str, audience: &[&str], ttl| {
        let minted = mint(&server, path, audience, ttl).await;
        minted.map_or_else(|status| status.code(), |_| Code::Ok)
    };
    assert_eq!(code("/web", &[], 0).await, Code::InvalidArgument);
    assert_eq!(code("/web", &[""], 0).await, Code::InvalidArgument);
    assert_eq!(code("/web", &["a"; 65], 0).await, Code::InvalidArgument);
    assert_eq!(code("", &["a"], 0).await, Code::InvalidArgument);
    assert_eq!(code("/spire/server", &["a"], 0).await, Code::InvalidArgument);
    assert_eq!(code("/web", &["a"], -1).await, Code::InvalidArgument);
    // No token outlives the key that signed it.
    let long = mint(&server, "/web", &["a"], 8 * 3600).await.unwrap();
    assert!((21_590..=21_600).contains(&(long.expires_at - long.issued_at)));
}
