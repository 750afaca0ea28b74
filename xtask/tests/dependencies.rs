//! Dependencies point one way: what each of our crates must never reach, not even through others.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

use std::collections::{BTreeSet, HashMap};

use cargo_metadata::{CargoOpt, DependencyKind, Metadata, MetadataCommand, PackageId};

fn metadata() -> Metadata {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let options = ["--locked", "--offline", "--filter-platform", &platform].map(Into::into);
    MetadataCommand::new()
        .manifest_path(manifest)
        .features(CargoOpt::AllFeatures)
        .other_options(options)
        .exec()
        .unwrap()
}

/// The names of all crates that `package` reaches in a build of it, without its tests.
fn reached(metadata: &Metadata, package: &str) -> BTreeSet<String> {
    let names: HashMap<&PackageId, &str> = metadata
        .packages
        .iter()
        .map(|package| (&package.id, package.name.as_str()))
        .collect();
    let nodes: HashMap<_, _> = metadata
        .resolve
        .as_ref()
        .unwrap()
        .nodes
        .iter()
        .map(|node| (&node.id, node))
        .collect();
    let start = metadata
        .workspace_packages()
        .into_iter()
        .find(|found| found.name.as_str() == package);
    let mut open = vec![&start.unwrap().id];
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        let normal = nodes[id].deps.iter().filter(|dependency| {
            dependency
                .dep_kinds
                .iter()
                .any(|kind| kind.kind == DependencyKind::Normal)
        });
        for dependency in normal {
            if seen.insert(names[&dependency.pkg].to_owned()) {
                open.push(&dependency.pkg);
            }
        }
    }
    seen
}

fn check(package: &str, never: &[&str]) {
    let reached = reached(&metadata(), package);
    let wrong: Vec<_> = never.iter().filter(|name| reached.contains(**name)).collect();
    assert!(wrong.is_empty(), "{package} reaches {wrong:?}");
}

#[test]
fn the_server_reaches_no_tpm_library_and_no_agent() {
    check("server", &["tss-esapi", "tss-esapi-sys", "tpm", "agent"]);
}

#[test]
fn the_agent_reaches_no_server_and_no_store() {
    check("agent", &["server", "redb", "sled"]);
}

#[test]
fn pure_crates_reach_no_runtime_and_no_edge() {
    for package in ["svid", "attest"] {
        check(
            package,
            &[
                "tokio",
                "tonic",
                "hyper",
                "edge",
                "proto",
                "plugin-api",
                "tracing",
                "chrono",
                "rustix",
                "nix",
            ],
        );
    }
}

/// Clocks and files are in the standard library: there it is clippy that refuses them.
#[test]
fn pure_crates_refuse_clock_and_files() {
    for package in ["svid", "attest"] {
        let path = format!("{}/../{package}/clippy.toml", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        for method in [
            "std::time::SystemTime::now",
            "std::time::Instant::now",
            "std::fs::File",
            "std::fs::OpenOptions",
            "std::fs::metadata",
            "std::fs::read",
            "std::net::TcpStream",
            "std::net::UdpSocket",
            "std::path::Path::exists",
            "std::process::Command",
        ] {
            assert!(text.contains(method), "{package}/clippy.toml allows {method}");
        }
    }
}

#[test]
fn plugins_know_the_plugin_api_and_not_each_other() {
    let metadata = metadata();
    let plugins: Vec<_> = metadata
        .workspace_packages()
        .into_iter()
        .filter(|package| package.manifest_path.as_str().contains("/plugins/"))
        .map(|package| package.name.to_string())
        .filter(|name| name != "plugin-api" && name != "plugin-catalog")
        .collect();
    assert!(plugins.len() >= 4, "{plugins:?}");
    for plugin in &plugins {
        let mut never: Vec<&str> = plugins
            .iter()
            .map(String::as_str)
            .filter(|other| other != plugin)
            .collect();
        never.extend(["plugin-catalog", "server", "agent"]);
        check(plugin, &never);
    }
}
