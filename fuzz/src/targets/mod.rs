//! The table of targets, and their functions by crate.

pub mod attest;
pub mod config;
pub mod evidence;
pub mod join_token;
pub mod local;
pub mod policy;
pub mod sessions;
pub mod state;
pub mod svid;
pub mod tpm;
pub mod wire;

use ::svid::TrustDomain;
use proto::plastron::{agent::v1 as session, attest::v1 as messages, store::v1 as stored};

use crate::Target;

const KB: usize = 1024;

/// All targets, by crate.
pub const TARGETS: &[Target] = &[
    // attest
    target("ak", attest::ak, 2 * KB),
    target("ca_certificate", attest::ca_certificate, 8 * KB),
    target("captured", attest::captured, 4 * KB),
    target("credential", attest::credential, 2 * KB),
    target("ek", attest::ek, 2 * KB),
    target("ek_certificate", attest::ek_certificate, 8 * KB),
    target("ek_chain", attest::ek_chain, 16 * KB),
    target("ek_hash", attest::ek_hash, 256),
    seeded(
        "event_log",
        attest::event_log,
        96 * KB,
        "attest/testdata/eventlogs",
    ),
    target("evidence", evidence::run, 64 * KB),
    seeded("ima_list", attest::ima_list, 128 * KB, "attest/testdata/ima"),
    target("name", attest::name, 256),
    target("pcr_file", attest::pcr_file, 8 * KB),
    target("pcr_selection", attest::pcr_selection, 256),
    seeded(
        "platform_certificate",
        attest::platform_certificate,
        8 * KB,
        "attest/testdata/ek/platform",
    ),
    target("policy", policy::text, 16 * KB),
    seeded(
        "policy_learned",
        policy::learned,
        96 * KB,
        "attest/testdata/eventlogs",
    ),
    target("public", attest::public, 2 * KB),
    target("quote", attest::quote, 2 * KB),
    target("signature", attest::signature, 2 * KB),
    target("statement", attest::statement, 2 * KB),
    target("uki", policy::uki, 16 * KB),
    // svid
    target("bundle_jwks", svid::bundle_jwks, 16 * KB),
    target("certificate_request", svid::certificate_request, 4 * KB),
    target("dns_name", svid::dns_name, 512),
    target("jwt_svid", svid::jwt_svid, 4 * KB),
    target("public_key", svid::public_key, 2 * KB),
    target("selector", svid::selector, 512),
    target("spiffe_id", svid::spiffe_id, 4 * KB),
    target("trust_domain", svid::trust_domain, 512),
    target("x509_svid", svid::x509_svid, 8 * KB),
    // Messages.
    target("agent_bundle", wire::agent_bundle, 8 * KB),
    target("agent_entry", wire::agent_entry, 4 * KB),
    target("agent_message", wire::message::<session::AgentMessage>, 4 * KB),
    target("go_time", wire::go_time, 256),
    target("local_stream", local::authorities, 4 * KB),
    target("new_host", wire::new_host, 4 * KB),
    target("proxy_header", wire::proxy_header, 2 * KB),
    target("server_entry", wire::server_entry, 4 * KB),
    target("proc_status", local::proc_status, 4 * KB),
    target("server_message", wire::message::<session::ServerMessage>, 8 * KB),
    target("tpm_answer", wire::message::<messages::Answer>, 8 * KB),
    target("tpm_challenge", wire::message::<messages::Challenge>, 8 * KB),
    target("tpm_evidence", wire::message::<messages::Evidence>, 8 * KB),
    target("tpm_hello", wire::message::<messages::Hello>, 4 * KB),
    // Plugins.
    target("tpm_attestor", tpm::run, 8 * KB),
    target(
        "tpm_sessions",
        sessions::run,
        sessions::MAX_STEPS * sessions::STEP,
    ),
    target("join_token", join_token::run, 512),
    // Files.
    seeded("agent_config", config::agent, 16 * KB, "deploy/config"),
    target("audit_record", wire::message::<stored::AuditRecord>, 4 * KB),
    target("backup", state::backup, 16 * KB),
    target("entry_list", state::entry_list, 8 * KB),
    target("expanded_config", config::expanded, 4 * KB),
    target("host_list", state::host_list, 8 * KB),
    target("journal", state::journal, 16 * KB),
    target("keys_file", state::keys_file, 8 * KB),
    target("kept_svid", state::kept_svid, 8 * KB),
    target("sealed_content", state::sealed_content, 8 * KB),
    target("sealed_file", state::sealed_file, 8 * KB),
    seeded("server_config", config::server, 16 * KB, "deploy/config"),
    target("store_authorities", state::authorities, 8 * KB),
    target("store_frame", state::frame, 4 * KB),
    target("store_record", state::record, 8 * KB),
    target("trust_bundle", state::trust_bundle, 16 * KB),
];

const fn target(name: &'static str, run: fn(&[u8]), max_len: usize) -> Target {
    Target {
        name,
        run,
        max_len,
        seeds: None,
    }
}

const fn seeded(name: &'static str, run: fn(&[u8]), max_len: usize, seeds: &'static str) -> Target {
    Target {
        seeds: Some(seeds),
        ..target(name, run, max_len)
    }
}

/// A trust domain for targets that need one.
fn example_org() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap_or_else(|error| panic!("{error}"))
}
