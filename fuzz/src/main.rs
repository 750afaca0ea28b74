//! The fuzzer: libFuzzer, running the target that `PLASTRON_FUZZ_TARGET` names. `cargo xtask fuzz` builds it so that
//! it sees coverage, and runs it; built in the ordinary way, it mutates blindly.

#![no_main]

use std::sync::LazyLock;

use fuzz::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<&Target> = LazyLock::new(chosen);

fuzz_target!(
    init: {
        let _chosen = *TARGET;
    },
    |bytes: &[u8]| (TARGET.run)(bytes)
);

/// Ends the process if there is no such target: fuzzing nothing would look like success. With `list` it prints
/// all names, with the longest input of each.
fn chosen() -> &'static Target {
    let name = std::env::var("PLASTRON_FUZZ_TARGET").unwrap_or_default();
    if let Some(target) = fuzz::target(&name) {
        return target;
    }
    for target in TARGETS {
        let seeds = target.seed_folders();
        let seeds: Vec<_> = seeds.iter().map(|folder| folder.to_string_lossy()).collect();
        println!("{}\t{}\t{}", target.name, target.max_len, seeds.join("\t"));
    }
    std::process::exit(if name == "list" { 0 } else { 2 })
}
