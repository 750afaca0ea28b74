use rcgen::{CertificateParams, KeyPair};
use rustls::{ServerConfig, version::TLS13};
use rustls_pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;

const SECRET: &str = "sixteen bytes or more";

fn url(text: &str) -> Result<Url, toml::de::Error> {
    let table: toml::Table = format!("url = {text:?}\nsecret_path = \"s\"").parse()?;
    table.try_into::<Config>().map(|config| config.url)
}

/// A configuration for `url`, whose files are in `folder`.
fn config(url_text: &str, folder: &TempDir) -> Config {
    let secret_path = folder.path().join("secret");
    fs::write(&secret_path, format!("{SECRET}\n")).unwrap();
    Config {
        url: url(url_text).unwrap(),
        secret_path,
        ca_path: folder.path().join("ca.pem"),
    }
}

#[test]
fn urls_are_read_and_shown_without_their_path() {
    for (text, shown, port) in [
        (
            "https://hooks.example.org/a?b=c",
            "https://hooks.example.org",
            443,
        ),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080", 8080),
        ("http://[::1]/x", "http://[::1]", 80),
    ] {
        let url = url(text).unwrap();
        assert_eq!((url.to_string().as_str(), url.port), (shown, port));
    }
    for text in [
        "",
        "hooks.example.org",
        "ftp://a/b",
        "https://",
        "https://user@host/s3cret",
        "/path",
    ] {
        let error = url(text).unwrap_err().to_string();
        assert!(
            error.contains("write `https://HOST[:PORT]/PATH`"),
            "{text}: {error}"
        );
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[test]
fn files_that_can_not_serve_are_refused() {
    let folder = TempDir::new().unwrap();
    let config = config("https://localhost/", &folder);
    let refused = || Poster::open(&config).unwrap_err();
    assert!(matches!(refused(), WebhookError::Read { path, .. } if path == config.ca_path));
    fs::write(&config.ca_path, "no certificates").unwrap();
    assert!(matches!(refused(), WebhookError::Ca(_)));
    fs::write(&config.secret_path, "  short  \n").unwrap();
    assert!(matches!(refused(), WebhookError::Secret(_)));
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    pem::encode(&pem::Pem::new("CERTIFICATE", certificate.to_vec()))
}

/// Reads one request, and answers it with `status`. The request as it came.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, status: &str) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"}") {
        let mut some = [0; 1024];
        let count = stream.read(&mut some).await.unwrap();
        assert_ne!(count, 0, "the request ended early");
        request.extend_from_slice(&some[..count]);
    }
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    String::from_utf8(request).unwrap()
}

#[tokio::test]
async fn a_message_is_a_signed_post() {
    let folder = TempDir::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let poster = Poster::open(&config(&format!("http://{address}/hook?x=1"), &folder)).unwrap();
    let body = r#"{"event":"host_stale"}"#;

    let served = async { serve(listener.accept().await.unwrap().0, "204 No Content").await };
    let (posted, request) = tokio::join!(poster.post(body.into()), served);

    posted.unwrap();
    assert!(request.starts_with("POST /hook?x=1 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("host: {address}\r\n")), "{request}");
    assert!(request.ends_with(&format!("\r\n\r\n{body}")), "{request}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let expected = hmac::sign(&key, body.as_bytes());
    let digits: String = expected
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let signature = format!("plastron-signature: sha256={digits}\r\n");
    assert!(request.contains(&signature), "{request}");
}

#[tokio::test]
async fn what_is_not_taken_did_not_arrive() {
    let folder = TempDir::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let poster = Poster::open(&config(&format!("http://{address}/"), &folder)).unwrap();
    let served = async { serve(listener.accept().await.unwrap().0, "503 Service Unavailable").await };
    let (posted, _) = tokio::join!(poster.post("{}".into()), served);
    assert!(matches!(posted, Err(PostError::Refused(status)) if status == 503));
    // It hangs up.
    let (posted, _) = tokio::join!(poster.post("{}".into()), async {
        drop(listener.accept().await.unwrap());
    });
    assert!(
        matches!(posted, Err(PostError::Connect(_) | PostError::Http(_))),
        "{posted:?}"
    );
    drop(listener);
    assert!(matches!(
        poster.post("{}".into()).await,
        Err(PostError::Connect(_))
    ));
}

#[tokio::test]
async fn over_tls_the_listener_has_to_lead_to_the_roots() {
    let folder = TempDir::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let chain = vec![certificate.der().clone()];
    let server = ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let config = config(&format!("https://localhost:{port}/"), &folder);

    fs::write(&config.ca_path, pem(certificate.der())).unwrap();
    let poster = Poster::open(&config).unwrap();
    let served = async {
        let (tcp, _) = listener.accept().await.unwrap();
        serve(acceptor.accept(tcp).await.unwrap(), "200 OK").await
    };
    let (posted, _) = tokio::join!(poster.post("{}".into()), served);
    posted.unwrap();

    let other = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    fs::write(&config.ca_path, pem(params.self_signed(&other).unwrap().der())).unwrap();
    let poster = Poster::open(&config).unwrap();
    let refused = async {
        let (tcp, _) = listener.accept().await.unwrap();
        acceptor.accept(tcp).await.is_err()
    };
    let (posted, _) = tokio::join!(poster.post("{}".into()), refused);
    assert!(matches!(posted, Err(PostError::Tls(_))), "{posted:?}");
}
