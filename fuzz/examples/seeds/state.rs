//! What server and agent keep on their disks.

use std::fs;

use agent::sealed::file::KeyInFile;
use attest::Name;
use edge::Clock;
use fuzz::{parts::join, targets::state::SEALED_KEY};
use plugin_api::{Sealed, SealedKey, Sealing};
use prost::Message;
use proto::{
    plastron::{agent::v1 as session, backup::v1 as backup, store::v1 as stored},
    spire::api::types,
};
use server::{
    backup::{Part, Writer},
    journal::{Journal, Record},
    store::frame,
};

use super::{names, seed, wire};

pub(crate) fn write() {
    let entry = stored::Entry {
        entry: Some(wire::entry()),
    };
    record("entry", b"entry/8bc4a0cf", &entry.encode_to_vec());
    record("agent", b"agent//spire/agent/tpm/x", &agent().encode_to_vec());
    record("host", b"host/one", &host().encode_to_vec());
    record("policy", b"policy/rack-7", &policy().encode_to_vec());
    let log = stored::EventLog {
        content: super::testdata("eventlogs/vm-sdboot-type1.bin"),
    };
    record(
        "event_log",
        &[b"event_log/".as_slice(), &[1; 32]].concat(),
        &log.encode_to_vec(),
    );
    let token = stored::JoinToken {
        expires_at: 2_000_000_000,
    };
    record(
        "token",
        &[b"token/".as_slice(), &[1; 32]].concat(),
        &token.encode_to_vec(),
    );
    let authorities = authorities().encode_to_vec();
    record("authorities", b"authorities", &authorities);
    seed("store_authorities", "full", authorities);
    journal();
    backup();
    let kept = r#"{"chain":["AQID","BAUG"],"key":"BwgJ"}"#;
    seed("kept_svid", "full", kept);
    sealed();
    configs();
}

/// What an agent keeps over a restart, and the file that it keeps it in.
fn sealed() {
    let svid = session::SealedSvid {
        entry_id: wire::entry().id,
        spiffe_id: "spiffe://example.org/db".into(),
        dns_names: vec!["db.example.org".into()],
        chain: vec![1; 40].into(),
        key: vec![2; 40],
        not_before: 1_700_000_000,
        not_after: 1_700_003_600,
        renew_at: 1_700_001_800,
        signed_by: vec![3; 20],
        revision: 3,
    };
    let state = session::SealedState {
        written_at: 1_700_000_100,
        bundle: Some(wire::bundle(&names::bundle())),
        crls: vec![vec![4; 30].into()],
        entries: vec![wire::entry()],
        svids: vec![svid],
    };
    let content = state.encode_to_vec();
    seed("sealed_content", "full", &content);
    let pcrs: attest::PcrSelection = "sha256:0,2,4,7-9,14".parse().unwrap();
    let key = KeyInFile {
        sealed: Sealed {
            public: vec![5; 46],
            private: vec![6; 126],
            pcrs: pcrs.clone(),
            parent: Some(Name::parse(&[&[0, 0x0b], &[7; 32][..]].concat()).unwrap()),
        },
        sealing: Sealing::new(pcrs, [8; 32]).unwrap(),
    };
    let trust_domain = svid::TrustDomain::parse("example.org").unwrap();
    let file = key.close(&SealedKey::new(SEALED_KEY), content.into(), &trust_domain);
    seed("sealed_file", "full", file.unwrap());
}

fn record(name: &str, key: &[u8], value: &[u8]) {
    seed("store_record", name, [join(&[key]), value.into()].concat());
    seed(
        "store_frame",
        name,
        [join(&[key]), frame::close(key, value)].concat(),
    );
}

fn agent() -> stored::Agent {
    let svid = |n: u8| stored::AgentSvid {
        serial: vec![n; 16],
        not_after: 2_000_000_000,
    };
    stored::Agent {
        path: "/spire/agent/tpm/x".into(),
        attestation_type: "tpm".into(),
        current: Some(svid(1)),
        next: Some(svid(2)),
        banned: true,
        can_reattest: true,
        selectors: vec![types::Selector {
            r#type: "tpm".into(),
            value: "host:one".into(),
        }],
        agent_version: "0.1.0".into(),
        attested_at: 1_700_000_000,
        host_id: "one".into(),
    }
}

fn policy() -> stored::Policy {
    let text = "format = 1\nname = \"rack-7\"\nversion = 3\n[[pcr]]\nindex = 15\nvalues = []\n";
    stored::Policy {
        newest_version: 4,
        is_default: true,
        generations: vec![stored::PolicyGeneration {
            text: text.into(),
            enforced: true,
            since: 1_700_000_004,
            applied_at: 1_700_000_003,
            applied_by: "local uid=0 pid=1".into(),
            signed: true,
        }],
    }
}

fn host() -> stored::Host {
    let appraised = stored::Appraised {
        reset_count: 3,
        restart_count: 1,
        clock: 12345,
        clock_safe: true,
        firmware_version: 7,
        selection: vec![stored::Selection {
            hash_alg: 0x0b,
            pcrs: 0x43ff,
        }],
        event_log_sha256: vec![3; 32],
        values: vec![stored::PcrValue {
            hash_alg: 0x0b,
            index: 7,
            digest: vec![4; 32],
        }],
        pcr_digest: vec![8; 32],
        kernel_list: Some(stored::KernelList {
            reset_count: 3,
            entries: 60,
            bytes: 5_000,
            violations: 1,
            values: vec![stored::PcrValue {
                hash_alg: 0x0b,
                index: 10,
                digest: vec![9; 32],
            }],
        }),
        policy_generation: 7,
        event_log_kept: true,
        policies: vec![stored::PolicyStanding {
            name: "rack-7".into(),
            since: 1_700_000_003,
            judgements: vec![stored::PolicyJudgement {
                generation: "ab".repeat(32),
                version: 2,
                enforced: true,
                differences: vec!["PCR 4: expected a, found b".into()],
                more: 1,
            }],
        }],
        selectors: vec!["secure_boot:on".into()],
    };
    let verdict = stored::Verdict {
        finding: stored::Finding::Quarantined.into(),
        since: 1_700_000_002,
        generation: 3,
        code: "log_mismatch".into(),
        difference: "PCR 4".into(),
    };
    stored::Host {
        verdict: Some(verdict),
        id: "one".into(),
        name: "rack 7".into(),
        enrolled: true,
        endorsement_keys: vec![stored::EndorsementKey {
            hash: vec![5; 32],
            name: [&[0, 0x0b][..], &[6; 32]].concat(),
            issuer: "CN=Vendor".into(),
            serial_number: vec![7; 8],
            certificate_verified: true,
            issuer_key: vec![9; 32],
            attributes: Some(stored::TpmAttributes {
                manufacturer: "id:53544D20".into(),
                model: "ST33".into(),
                version: "id:00010102".into(),
            }),
        }],
        created_at: 1_700_000_000,
        last_attested_at: 1_700_000_001,
        last_address: "192.0.2.1:1234".into(),
        appraised: Some(appraised),
        agent_path: "/spire/agent/tpm/x".into(),
        revision: 4,
        policies: vec!["rack-7".into()],
        ..stored::Host::default()
    }
}

fn authorities() -> stored::Authorities {
    let bundle = names::bundle();
    let x509 = bundle.x509_authorities.iter().map(|root| stored::X509Authority {
        key_id: "x509-a".into(),
        certificate: root.certificate.to_vec(),
        state: stored::AuthorityState::Active.into(),
        tainted: false,
        published_at: 1_700_000_000,
        published_sequence: 1,
        upstream_root_id: String::new(),
        upstream_chain: Vec::new(),
    });
    let jwt = bundle.jwt_authorities.iter().map(|key| stored::JwtAuthority {
        key_id: "jwt-a".into(),
        public_key: key.public_key.clone(),
        jwt_key_id: key.key_id.clone(),
        state: stored::AuthorityState::Prepared.into(),
        tainted: true,
        published_at: 1_700_000_000,
        not_after: 2_000_000_000,
        published_sequence: 2,
        not_before: 1_600_000_000,
    });
    stored::Authorities {
        x509: x509.collect(),
        jwt: jwt.collect(),
        sequence: 3,
    }
}

/// A file that a server wrote, whole and torn.
fn journal() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, thread) = Journal::open(folder.path().into(), Clock::system()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for n in 0..3 {
        let record = Record::new("svid_issued", &"spiffe://example.org/spire/agent/x").with("serial_num", &n);
        runtime.block_on(journal.append(vec![record])).unwrap();
    }
    drop(journal);
    thread.join().unwrap();
    let file = fs::read_dir(folder.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let bytes = fs::read(file).unwrap();
    seed("journal", "torn", &bytes[..bytes.len() - 20]);
    let audit = stored::AuditRecord {
        sequence: 1,
        at: 1_700_000_000_000_000_000,
        event: "svid_issued".into(),
        actor: "server".into(),
        fields: vec![stored::Field {
            name: "serial_num".into(),
            value: "0a".into(),
        }],
    };
    seed("audit_record", "full", audit.encode_to_vec());
    seed("journal", "whole", bytes);
}

/// A backup with a record of each kind, whole and cut short.
fn backup() {
    let header = backup::Header {
        created_at: 1_700_000_000,
        server_version: "0.1.0".into(),
        trust_domain: "example.org".into(),
        store_format: 1,
    };
    let entry = stored::Entry {
        entry: Some(wire::entry()),
    };
    let token = stored::JoinToken {
        expires_at: 2_000_000_000,
    };
    let records = [
        (b"agent//spire/agent/tpm/x".to_vec(), agent().encode_to_vec()),
        (b"authorities".to_vec(), authorities().encode_to_vec()),
        (b"entry/8bc4a0cf".to_vec(), entry.encode_to_vec()),
        (b"host/one".to_vec(), host().encode_to_vec()),
        ([b"token/".as_slice(), &[1; 32]].concat(), token.encode_to_vec()),
    ];
    let mut writer = Writer::new(Vec::new(), header).unwrap();
    for (key, value) in records {
        writer.part(Part::Record(backup::Record { key, value })).unwrap();
    }
    let file = br#"{"version":1,"keys":{}}"#.to_vec();
    writer.part(Part::Keys(backup::Keys { file })).unwrap();
    let trail = backup::Trail {
        next_sequence: 4,
        hash: vec![7; 32],
    };
    writer.part(Part::Trail(trail)).unwrap();
    let (bytes, _) = writer.end(9).unwrap();
    seed("backup", "cut", &bytes[..bytes.len() - 20]);
    seed("backup", "whole", bytes);
}

fn configs() {
    let server = "[server]\ntrust_domain = \"example.org\"\nca_ttl = \"7d\"\nadmin_ids = [\"spiffe://a/b\"]\n[plugins.node-join-token]\n";
    seed("server_config", "short", server);
    seed(
        "server_config",
        "override",
        format!("{server}\n--set server.bind_prot=1"),
    );
    let agent = "[agent]\ntrust_domain = \"td\"\nserver_address = \"s\"\ninsecure_bootstrap = true\njoin_token = \"t\"\n";
    seed("agent_config", "short", agent);
    seed(
        "agent_config",
        "override",
        format!("{agent}\n--set agent.server_port=\"x\""),
    );
    seed(
        "expanded_config",
        "variables",
        "[server]\ntrust_domain = \"$A\"\ndata_dir = \"${A_DIR}/data\"\n# costs $$5, $, ${\n",
    );
    let missing = "[server]\n\nsocket_path = \"/run/${NAME}/api.sock\"\n";
    seed("expanded_config", "missing", missing);
}
