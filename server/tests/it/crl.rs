use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use edge::{
    Clock,
    grpc::Client,
    tls::{Expected, Identity, client_config},
};
use proto::{
    plastron::revocation::v1::{Crl, ListCrlsRequest, revocation_client::RevocationClient},
    spire::api::{
        server::{
            agent::v1::{
                AgentX509svidParams, AttestAgentRequest, BanAgentRequest, CreateJoinTokenRequest,
                DeleteAgentRequest,
                agent_client::AgentClient,
                attest_agent_request::{Params, Step},
                attest_agent_response,
            },
            entry::v1::{BatchCreateEntryRequest, entry_client::EntryClient},
            localauthority::v1::{PrepareX509AuthorityRequest, local_authority_client::LocalAuthorityClient},
            svid::v1::{BatchNewX509svidRequest, NewX509svidParams, svid_client::SvidClient},
        },
        types::{AttestationData, Entry, Selector, Spiffeid, X509svid},
    },
};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{CertificateDer, ServerName};
use svid::x509::{SerialNumber, X509Svid};
use tokio::net::TcpStream;
use tonic::Status;
use x509_parser::{prelude::FromDer, revocation_list::CertificateRevocationList, x509::ReasonCode};

use crate::server::{Running, start};

/// An agent that attested by join token, and its key.
struct Agent {
    svid: X509svid,
    key: KeyPair,
}

fn csr(key: &KeyPair) -> Vec<u8> {
    let request = CertificateParams::default().serialize_request(key).unwrap();
    request.der().to_vec()
}

async fn attest(server: &Running) -> Agent {
    let mut client = AgentClient::new(server.client.clone());
    let token = CreateJoinTokenRequest {
        ttl: 600,
        ..CreateJoinTokenRequest::default()
    };
    let token = client.create_join_token(token).await.unwrap().into_inner().value;
    let key = KeyPair::generate().unwrap();
    let params = Params {
        data: Some(AttestationData {
            r#type: "join_token".into(),
            payload: token.into(),
        }),
        params: Some(AgentX509svidParams { csr: csr(&key) }),
    };
    let message = AttestAgentRequest {
        step: Some(Step::Params(params)),
    };
    let answers = client.attest_agent(tokio_stream::once(message)).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let svid = match answer.step.unwrap() {
        attest_agent_response::Step::Result(result) => result.svid,
        attest_agent_response::Step::Challenge(_) => None,
    };
    Agent {
        svid: svid.unwrap(),
        key,
    }
}

/// An SVID of a workload that `agent` asks for over TLS.
async fn workload(server: &Running, agent: &Agent) -> Result<X509svid, Status> {
    let entry = Entry {
        spiffe_id: Some(Spiffeid {
            trust_domain: "example.org".into(),
            path: "/db".into(),
        }),
        parent_id: agent.svid.id.clone(),
        selectors: vec![Selector {
            r#type: "unix".into(),
            value: "uid:1".into(),
        }],
        ..Entry::default()
    };
    let request = BatchCreateEntryRequest {
        entries: vec![entry],
        output_mask: None,
    };
    let created = EntryClient::new(server.client.clone())
        .batch_create_entry(request)
        .await?;
    let entry_id = created.into_inner().results.remove(0).entry.unwrap().id;

    let chain = agent
        .svid
        .cert_chain
        .iter()
        .cloned()
        .map(CertificateDer::from)
        .collect();
    let identity = Identity::new(chain, &agent.key.serialize_der()).unwrap();
    let expected = Expected::Anyone("spiffe://example.org/spire/server".parse().unwrap());
    let config = client_config(expected, Some(&identity), Clock::system()).unwrap();
    let tcp = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let tls = tokio_rustls::TlsConnector::from(config)
        .connect(name, tcp)
        .await
        .unwrap();
    let (client, connection) = Client::start(tls).await.unwrap();
    let driver = tokio::spawn(connection);
    let params = vec![NewX509svidParams {
        entry_id,
        csr: csr(&KeyPair::generate().unwrap()),
    }];
    let request = BatchNewX509svidRequest { params };
    let signed = SvidClient::new(client).batch_new_x509svid(request).await?;
    driver.abort();
    Ok(signed.into_inner().results.remove(0).svid.unwrap())
}

async fn crls(server: &Running) -> Vec<Crl> {
    let mut client = RevocationClient::new(server.client.clone());
    client
        .list_crls(ListCrlsRequest {})
        .await
        .unwrap()
        .into_inner()
        .crls
}

/// The only CRL, when it names `count` certificates.
async fn crl_of(server: &Running, count: u32) -> Crl {
    let reached = async {
        loop {
            let crl = crls(server).await.remove(0);
            if crl.revoked_count == count {
                return crl;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reached)
        .await
        .unwrap()
}

fn serial(svid: &X509svid) -> Vec<u8> {
    let leaf = CertificateDer::from(svid.cert_chain.first().unwrap().as_slice());
    X509Svid::parse(&leaf).unwrap().serial.as_bytes().to_vec()
}

/// What a CRL says, sorted; serial numbers without leading zeros.
fn said(crl: &Crl) -> Vec<(Vec<u8>, ReasonCode)> {
    let (rest, parsed) = CertificateRevocationList::from_der(&crl.der).unwrap();
    assert!(rest.is_empty());
    assert_eq!(parsed.crl_number().unwrap().to_string(), crl.number.to_string());
    let mut said: Vec<_> = parsed
        .iter_revoked_certificates()
        .map(|one| {
            let serial = SerialNumber::from_bytes(one.raw_serial());
            (serial.as_bytes().to_vec(), one.reason_code().unwrap().1)
        })
        .collect();
    said.sort_by(|one, other| one.0.cmp(&other.0));
    said
}

fn sorted(svids: &[&X509svid], reason: ReasonCode) -> Vec<(Vec<u8>, ReasonCode)> {
    let mut said: Vec<_> = svids.iter().map(|svid| (serial(svid), reason)).collect();
    said.sort_by(|one, other| one.0.cmp(&other.0));
    said
}

#[tokio::test]
async fn what_a_banned_agent_was_given_is_on_the_crl_of_its_authority() {
    let server = start("").await;
    let empty = crl_of(&server, 0).await;
    assert_eq!(said(&empty), []);
    let banned = attest(&server).await;
    let signed = workload(&server, &banned).await.unwrap();
    let other = attest(&server).await;
    let last_end = banned.svid.expires_at.max(signed.expires_at);

    let mut client = AgentClient::new(server.client.clone());
    let id = banned.svid.id.clone();
    client.ban_agent(BanAgentRequest { id }).await.unwrap();
    let crl = crl_of(&server, 2).await;
    assert_eq!(
        said(&crl),
        sorted(&[&banned.svid, &signed], ReasonCode::PrivilegeWithdrawn)
    );
    assert!(crl.number > empty.number);
    assert!(crl.next_update >= last_end);
    assert_eq!(crl.authority_id, empty.authority_id);

    // Who is evicted later joins them.
    let id = other.svid.id.clone();
    client.delete_agent(DeleteAgentRequest { id }).await.unwrap();
    let next = crl_of(&server, 3).await;
    let evicted = (serial(&other.svid), ReasonCode::CessationOfOperation);
    assert!(said(&next).contains(&evicted));
    assert!(next.number > crl.number);
}

#[tokio::test]
async fn an_authority_has_a_crl_when_it_is_published_and_each_is_in_a_file() {
    let server = start("").await;
    let mut client = LocalAuthorityClient::new(server.client.clone());
    let prepared = client
        .prepare_x509_authority(PrepareX509AuthorityRequest {})
        .await;
    let prepared = prepared
        .unwrap()
        .into_inner()
        .prepared_authority
        .unwrap()
        .authority_id;
    let crls = crls(&server).await;
    assert_eq!(crls.len(), 2);
    assert!(crls.iter().any(|crl| crl.authority_id == prepared));
    for crl in crls {
        let path = server
            .folder
            .path()
            .join(format!("data/crl/{}.crl", crl.authority_id));
        let written = async {
            while !path.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), written)
            .await
            .unwrap();
        assert_eq!(fs::read(&path).unwrap(), crl.der);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    }
}
