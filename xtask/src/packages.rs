//! Debian packages: what is missing is installed, and named.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::run::run;

/// What building needs.
pub(crate) const BUILD: &[&str] = &["build-essential", "libtss2-dev", "pkg-config"];
/// What packaging needs beside that.
pub(crate) const DEB: &[&str] = &["binutils", "git"];
/// What the demonstration needs beside that.
pub(crate) const DEMO: &[&str] = &["libtss2-tcti-swtpm0", "openssl", "swtpm", "swtpm-tools"];
/// What the tests need beside that.
pub(crate) const TEST: &[&str] = &[
    "faketime",
    "libtss2-tcti-device0",
    "libtss2-tcti-mssim0",
    "libtss2-tcti-swtpm0",
    "python3-venv",
    "strace",
    "swtpm",
    "swtpm-tools",
    "systemd",
    "tpm2-tools",
];
/// What guests need that boot for real, beside that.
pub(crate) const GUESTS: &[&str] = &[
    "binutils",
    "busybox-static",
    "cpio",
    "dosfstools",
    "fdisk",
    "kmod",
    "mtools",
    "netcat-openbsd",
    "openssl",
    "ovmf",
    "qemu-system-x86",
    "sbsigntool",
    "systemd-boot-efi",
    "zstd",
];

/// Installs those of `packages` that are missing.
///
/// # Errors
///
/// They can't be installed; the error says how to do it by hand.
pub(crate) fn ensure(packages: &[&str]) -> Result<()> {
    let missing: Vec<_> = packages
        .iter()
        .copied()
        .filter(|package| !is_installed(package))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("Installing {}", missing.join(" "));
    let by_hand = || format!("install by hand: apt-get install {}", missing.join(" "));
    update().with_context(by_hand)?;
    let install = ["install", "-y", "-qq", "--no-install-recommends"];
    apt_get(&[&install[..], &missing[..]].concat()).with_context(by_hand)
}

/// Learns which packages there are.
///
/// # Errors
///
/// It can't be found out.
pub(crate) fn update() -> Result<()> {
    apt_get(&["update", "-qq"])
}

fn is_installed(package: &str) -> bool {
    let asked = Command::new("dpkg-query")
        .args(["-W", "-f", "${Status}", package])
        .stderr(Stdio::null())
        .output();
    asked.is_ok_and(|answer| answer.stdout == b"install ok installed")
}

/// As root, or by sudo, which asks for a password where there is somebody to ask.
fn apt_get(words: &[&str]) -> Result<()> {
    let is_root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|answer| answer.stdout == b"0\n");
    let mut command = Command::new(if is_root { "apt-get" } else { "sudo" });
    if !is_root {
        if Command::new("sudo")
            .arg("-V")
            .stdout(Stdio::null())
            .status()
            .is_err()
        {
            bail!("this needs root, and there is no sudo");
        }
        command.arg("apt-get");
    }
    run(command.args(words).env("DEBIAN_FRONTEND", "noninteractive"))
}
