//! Messages with every field.

use prost::Message;
use proto::{
    plastron::{agent::v1 as session, attest::v1 as tpm},
    spire::api::types,
};
use svid::Bundle;

use super::{names, seed};

pub(crate) fn write() {
    texts();
    let hello = hello();
    let quote = quote();
    let evidence = tpm::Evidence {
        hello: hello.encode_to_vec().into(),
        quote: Some(quote.clone()),
        certification: Some(Box::new(tpm::Certification {
            public: vec![10; 86].into(),
            attest: vec![11; 120].into(),
            signature: vec![12; 72].into(),
        })),
    };
    seed("tpm_hello", "full", hello.encode_to_vec());
    seed("tpm_evidence", "full", evidence.encode_to_vec());
    challenges();
    answers(quote);
    let entry = entry();
    seed("server_entry", "full", entry.encode_to_vec());
    seed("agent_entry", "full", entry.encode_to_vec());
    let bundle = bundle(&names::bundle());
    seed("agent_bundle", "full", bundle.encode_to_vec());
    agent_messages(evidence);
    server_messages(entry, bundle);
    proxy_headers();
}

/// As load balancers send them, the second with something of theirs.
fn proxy_headers() {
    let header = |command_and_family: [u8; 2], rest: &[u8]| {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [b"\r\n\r\n\0\r\nQUIT\n", &command_and_family[..], &length, rest].concat()
    };
    let v4 = [192, 0, 2, 7, 10, 0, 0, 1, 0x1f, 0x90, 0x1f, 0x91];
    seed("proxy_header", "tcp4", header([0x21, 0x11], &v4));
    seed(
        "proxy_header",
        "tcp4_more",
        header([0x21, 0x11], &[&v4[..], &[0xee, 0, 2, 1, 2]].concat()),
    );
    seed("proxy_header", "tcp6", header([0x21, 0x21], &[7; 36]));
    seed("proxy_header", "unix", header([0x21, 0x31], &[b'/'; 216]));
    seed("proxy_header", "local", header([0x20, 0], &[]));
}

fn hello() -> tpm::Hello {
    tpm::Hello {
        endorsement_keys: vec![tpm::EndorsementKey {
            public: vec![1; 90].into(),
            certificate: vec![2; 40].into(),
            chain: vec![vec![3; 20].into()],
        }],
        attestation_key: vec![4; 86].into(),
        selection: vec![selection()],
        logs: vec![tpm::LogDigest {
            kind: tpm::LogKind::EventLog.into(),
            sha256: vec![5; 32].into(),
            size: 30_000,
        }],
        agent_version: "0.1.0".into(),
    }
}

const fn selection() -> tpm::PcrSelection {
    tpm::PcrSelection {
        hash_alg: 0x0b,
        pcrs: 0x43ff,
    }
}

fn quote() -> tpm::Quote {
    tpm::Quote {
        attest: vec![6; 129].into(),
        signature: vec![7; 72].into(),
        values: vec![tpm::PcrValue {
            hash_alg: 0x0b,
            index: 7,
            digest: vec![8; 32].into(),
        }],
    }
}

fn challenges() {
    let activate = tpm::Activate {
        endorsement_key_name: vec![9; 34].into(),
        credential_blob: vec![10; 68].into(),
        secret: vec![11; 68].into(),
    };
    let need = tpm::Need {
        nonce: vec![12; 32].into(),
        selection: vec![selection()],
        logs: vec![tpm::LogKind::EventLog.into(), tpm::LogKind::Ima.into()],
        list_from: Some(tpm::ListOffset {
            entries: 60,
            bytes: 5_000,
        }),
    };
    let steps = [
        ("activate", tpm::challenge::Step::Activate(activate)),
        ("need", tpm::challenge::Step::Need(need)),
    ];
    for (name, step) in steps {
        seed(
            "tpm_challenge",
            name,
            tpm::Challenge { step: Some(step) }.encode_to_vec(),
        );
    }
}

fn answers(quote: tpm::Quote) {
    let supplied = tpm::Supplied {
        quote: Some(quote),
        logs: vec![
            tpm::Log {
                kind: tpm::LogKind::EventLog.into(),
                content: vec![13; 64].into(),
                offset: 0,
                more: false,
            },
            tpm::Log {
                kind: tpm::LogKind::Ima.into(),
                content: vec![14; 64].into(),
                offset: 60,
                more: true,
            },
        ],
        command_line: b"quiet panic=-1".to_vec().into(),
    };
    let steps = [
        ("credential", tpm::answer::Step::Credential(vec![14; 32].into())),
        ("supplied", tpm::answer::Step::Supplied(supplied)),
    ];
    for (name, step) in steps {
        seed(
            "tpm_answer",
            name,
            tpm::Answer { step: Some(step) }.encode_to_vec(),
        );
    }
}

fn id(path: &str) -> types::Spiffeid {
    types::Spiffeid {
        trust_domain: "example.org".into(),
        path: path.into(),
    }
}

/// An entry with every field.
pub(crate) fn entry() -> types::Entry {
    types::Entry {
        id: "8bc4a0cf-7a1e-4a9f-8d9d-2f5e6a5d7f10".into(),
        spiffe_id: Some(id("/db")),
        parent_id: Some(id("/host/one")),
        selectors: vec![types::Selector {
            r#type: "unix".into(),
            value: "uid:1000".into(),
        }],
        x509_svid_ttl: 3600,
        federates_with: vec!["other.org".into()],
        admin: true,
        downstream: true,
        expires_at: 4_000_000_000,
        dns_names: vec!["db.example.org".into()],
        revision_number: 3,
        store_svid: false,
        jwt_svid_ttl: 300,
        hint: "db".into(),
        created_at: 1_700_000_000,
        additional_attributes: Some(types::entry::AdditionalAttributes {
            disable_x509_svid_prefetch: true,
            jwt_svid_include_jti: true,
        }),
    }
}

pub(crate) fn bundle(bundle: &Bundle) -> types::Bundle {
    let roots = bundle.x509_authorities.iter().map(|root| types::X509Certificate {
        asn1: root.certificate.to_vec(),
        tainted: false,
    });
    let keys = bundle.jwt_authorities.iter().map(|key| types::JwtKey {
        public_key: key.public_key.clone(),
        key_id: key.key_id.clone(),
        expires_at: 4_000_000_000,
        tainted: true,
    });
    types::Bundle {
        trust_domain: "example.org".into(),
        x509_authorities: roots.collect(),
        jwt_authorities: keys.collect(),
        refresh_hint: 300,
        sequence_number: 7,
        wit_authorities: vec![],
    }
}

/// To which PCRs state may be sealed.
pub(crate) fn sealing() -> session::Sealing {
    session::Sealing {
        pcrs: vec![tpm::PcrSelection {
            hash_alg: 0x0b,
            pcrs: 0x4395,
        }],
        pcr_digest: vec![17; 32],
    }
}

fn agent_messages(evidence: tpm::Evidence) {
    use session::agent_message::Message as Kind;
    let open = session::Open {
        evidence: Some(evidence),
        agent_version: "0.1.0".into(),
        known: vec![session::KnownEntry {
            id: "one".into(),
            revision_number: 3,
        }],
    };
    let messages = [
        ("open", Kind::Open(open)),
        ("ack", Kind::Ack(session::Ack { revision: 9 })),
    ];
    for (name, message) in messages {
        let message = session::AgentMessage {
            message: Some(message),
        };
        seed("agent_message", name, message.encode_to_vec());
    }
}

fn server_messages(entry: types::Entry, bundle: types::Bundle) {
    use session::server_message::Message as Kind;
    let update = session::Update {
        revision: 9,
        bundle: Some(bundle),
        entries: vec![entry],
        removed_entry_ids: vec!["two".into()],
        more: true,
        crls: Some(session::Crls::default()),
    };
    let withdrawal = session::Withdrawal {
        code: "agent_banned".into(),
        reason: "an administrator banned the agent".into(),
    };
    let welcome = session::Welcome {
        endorsement_key_name: vec![15; 34],
        sealing: Some(sealing()),
    };
    let question = session::Question {
        round: 7,
        need: vec![16; 40],
        sealing: Some(sealing()),
    };
    let messages = [
        ("welcome", Kind::Welcome(welcome)),
        ("update", Kind::Update(update)),
        ("withdrawal", Kind::Withdrawal(withdrawal)),
        ("question", Kind::Question(question)),
    ];
    for (name, message) in messages {
        let message = session::ServerMessage {
            message: Some(message),
        };
        seed("server_message", name, message.encode_to_vec());
    }
}

/// What SPIRE's command line filters agents by, and what the kernel says of a process.
fn texts() {
    seed("go_time", "offset", "2026-11-22 10:00:00 +0100 +01");
    seed("go_time", "utc", "1999-12-31 23:59:59 +0000 UTC");
    let ids = "Uid:\t1000\t1000\t1000\t1000\nGid:\t1000\t1000\t1000\t1000";
    seed(
        "proc_status",
        "groups",
        format!(
            "Name:\tcat\nUmask:\t0022\n{ids}\nFDSize:\t256\nGroups:\t4 24 27 1000 4294967294 \nNStgid:\t7\n"
        ),
    );
    seed("proc_status", "none", "Name:\tGroups:\nGroups:\t \n");
}
