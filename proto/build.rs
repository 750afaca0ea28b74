//! Compiles the `.proto` files of this folder: with protox, so that no `protoc` is needed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;
use prost_types::FileDescriptorSet;

const FILES: &[&str] = &[
    "google/rpc/error_details.proto",
    "google/rpc/status.proto",
    "grpc/health/v1/health.proto",
    "plastron/admin/v1/admin.proto",
    "plastron/agent/v1/sealed.proto",
    "plastron/agent/v1/session.proto",
    "plastron/attest/v1/tpm.proto",
    "plastron/backup/v1/backup.proto",
    "plastron/host/v1/host.proto",
    "plastron/policy/v1/policy.proto",
    "plastron/revocation/v1/revocation.proto",
    "plastron/store/v1/store.proto",
    "spiffe/workload/workload.proto",
    "spire/api/server/agent/v1/agent.proto",
    "spire/api/server/bundle/v1/bundle.proto",
    "spire/api/server/debug/v1/debug.proto",
    "spire/api/server/entry/v1/entry.proto",
    "spire/api/server/localauthority/v1/localauthority.proto",
    "spire/api/server/logger/v1/logger.proto",
    "spire/api/server/svid/v1/svid.proto",
    "spire/api/server/trustdomain/v1/trustdomain.proto",
    "spire/api/types/status.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    for folder in ["google", "grpc", "plastron", "spiffe", "spire"] {
        println!("cargo::rerun-if-changed={}", root.join(folder).display());
    }
    let descriptors = protox::compile(FILES, [&root])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), bare(&descriptors).encode_to_vec())?;
    fs::write(out.join("methods.rs"), methods(&descriptors))?;
    tonic_prost_build::configure()
        .build_transport(false)
        .codec_path("crate::Codec")
        .generate_default_stubs(true)
        .boxed(".plastron.attest.v1.Evidence.certification")
        .bytes(".plastron.attest.v1")
        .bytes(".plastron.agent.v1.Crls")
        .bytes(".plastron.agent.v1.SealedState.crls")
        .bytes(".plastron.agent.v1.SealedSvid.chain")
        .bytes(".plastron.revocation.v1.Crl")
        .bytes(".X509SVID")
        .bytes(".X509SVIDResponse.crl")
        .bytes(".X509BundlesResponse")
        .bytes(".JWTBundlesResponse")
        .compile_fds(descriptors)?;
    Ok(())
}

/// The descriptors without the comments and places of their source, which are most of them.
fn bare(descriptors: &FileDescriptorSet) -> FileDescriptorSet {
    let mut bare = descriptors.clone();
    for file in &mut bare.file {
        file.source_code_info = None;
    }
    bare
}

/// The paths of all methods, in order, as a Rust expression.
fn methods(descriptors: &FileDescriptorSet) -> String {
    let mut paths = Vec::new();
    for file in &descriptors.file {
        for service in &file.service {
            let service_name = match file.package() {
                "" => service.name().to_owned(),
                package => format!("{package}.{}", service.name()),
            };
            let of_service = service.method.iter();
            paths.extend(of_service.map(|method| format!("/{service_name}/{}", method.name())));
        }
    }
    paths.sort_unstable();
    format!("&{paths:?}")
}
