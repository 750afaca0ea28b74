//! Tools that are not installed: had once, in the target folder.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    packages,
    run::{cargo, root, run},
};

/// The version that `deny.toml` was written for.
const DENY: &str = "0.20.2";

/// Licences, sources and banned crates, as `deny.toml` says; known vulnerabilities where their list can be had.
///
/// # Errors
///
/// A dependency is not allowed, or the tool can't be built.
pub(crate) fn deny() -> Result<()> {
    let tools = root().join("target/tools").join(format!("cargo-deny-{DENY}"));
    let tool = tools.join("bin/cargo-deny");
    if !tool.exists() {
        println!("Building cargo-deny {DENY}, once");
        let version = format!("cargo-deny@{DENY}");
        let install = [
            "install",
            "--quiet",
            "--locked",
            "--debug",
            "--no-default-features",
            &version,
            "--root",
        ];
        run(cargo(&install)
            .arg(&tools)
            .env("CARGO_TARGET_DIR", tools.join("target")))?;
        // Objects of some gigabytes that nothing needs any more.
        std::fs::remove_dir_all(tools.join("target"))?;
    }
    let locked = ["--locked", "--workspace"];
    run(in_root(&tool).args(locked).args([
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ]))?;
    if run(in_root(&tool).args(["fetch", "db"])).is_err() {
        println!("advisories NOT CHECKED: their database can't be reached");
        return Ok(());
    }
    run(in_root(&tool)
        .args(locked)
        .args(["check", "--disable-fetch", "advisories"]))
}

fn in_root(tool: &Path) -> Command {
    let mut command = Command::new(tool);
    command.current_dir(root());
    command
}

/// A release of Go that builds the clients under `swtpm-tests/clients/go`, and the oldest that does.
const GO: &str = "1.26.0";
const OLDEST_GO: (u32, u32) = (1, 24);
/// SHA-256 of its archives at the Go module proxy.
const GO_SHA256: [(&str, &str, &str); 2] = [
    (
        "aarch64",
        "arm64",
        "4c3f961bc257ff52e7a425166f9f75015f645dff071d01a81823455ffe646609",
    ),
    (
        "x86_64",
        "amd64",
        "38461905b98c59173672814302e222ab43b652274bc0c95817b08b71ab66b705",
    ),
];

/// The folder to put before `PATH`, so that `go` is recent enough; `None` if it is already. Debian's is too old: the
/// toolchain comes from the Go module proxy, once.
///
/// # Errors
///
/// It can't be had.
pub(crate) fn go() -> Result<Option<PathBuf>> {
    if installed_go().is_some_and(|version| version >= OLDEST_GO) {
        return Ok(None);
    }
    let tools = root().join("target/tools").join(format!("go-{GO}"));
    if !tools.exists() {
        packages::ensure(&["ca-certificates", "curl", "unzip"])?;
        println!("Downloading Go {GO}, once: there is none of {OLDEST_GO:?} or later");
        download_go(&tools)?;
    }
    Ok(Some(tools.join("bin")))
}

/// Such as `go version go1.26.8 linux/amd64`.
fn installed_go() -> Option<(u32, u32)> {
    let output = Command::new("go").arg("version").output().ok()?;
    let printed = String::from_utf8(output.stdout).ok()?;
    let mut numbers = printed.split_once(" go")?.1.split(['.', ' ']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn download_go(tools: &Path) -> Result<()> {
    let ours = |(cpu, ..): &&(&str, &str, &str)| *cpu == std::env::consts::ARCH;
    let (_, cpu, sha256) = GO_SHA256
        .iter()
        .find(ours)
        .context("Go is not downloaded for this processor")?;
    let name = format!("v0.0.1-go{GO}.linux-{cpu}");
    let scratch = tempfile::tempdir_in(root().join("target"))?;
    let archive = scratch.path().join("go.zip");
    let url = format!("https://proxy.golang.org/golang.org/toolchain/@v/{name}.zip");
    run(Command::new("curl")
        .args(["--fail", "--silent", "--show-error", "--location", "--output"])
        .arg(&archive)
        .arg(url))?;
    let sum = scratch.path().join("sum");
    std::fs::write(&sum, format!("{sha256}  {}\n", archive.display()))?;
    run(Command::new("sha256sum").args(["--quiet", "--check"]).arg(&sum))?;
    run(Command::new("unzip")
        .arg("-q")
        .arg(&archive)
        .arg("-d")
        .arg(scratch.path()))?;
    let unpacked = scratch
        .path()
        .join("golang.org")
        .join(format!("toolchain@{name}"));
    // A module's archive has no permissions.
    run(Command::new("chmod")
        .args(["-R", "+x"])
        .arg(unpacked.join("bin"))
        .arg(unpacked.join("pkg/tool")))?;
    std::fs::create_dir_all(tools.parent().context("the folder of tools has a parent")?)?;
    Ok(std::fs::rename(unpacked, tools)?)
}

/// Packages that lead to Debian's newest kernels, for virtual machines and for any PC, and where each is put.
const KERNELS: [(&str, &str); 2] = [
    ("linux-image-cloud-amd64", "linux-cloud-amd64"),
    ("linux-image-amd64", "linux-amd64"),
];

/// Debian's kernels for guests that boot for real, unpacked, with the list of what their modules need. Nothing is
/// installed. On other processors there are no such guests.
///
/// # Errors
///
/// They can't be had.
pub(crate) fn kernels() -> Result<()> {
    let tools = root().join("target/tools");
    let missing: Vec<_> = KERNELS
        .into_iter()
        .map(|(package, name)| (package, tools.join(name)))
        .filter(|(_, folder)| !folder.exists())
        .collect();
    if std::env::consts::ARCH != "x86_64" || missing.is_empty() {
        return Ok(());
    }
    packages::update()?;
    std::fs::create_dir_all(tools)?;
    missing
        .iter()
        .try_for_each(|(package, folder)| kernel(package, folder))
}

/// The newest kernel that `leading` leads to, in `folder`.
fn kernel(leading: &str, folder: &Path) -> Result<()> {
    let package = newest_kernel(leading)?;
    println!("Downloading {package}, once");
    let scratch = tempfile::tempdir_in(root().join("target"))?;
    // Apt gives up root for a download where it can; what it warns of where it can't is no matter.
    run(Command::new("apt-get")
        .args(["download", "-qq", &package])
        .current_dir(&scratch))?;
    let tree = scratch.path().join("tree");
    run(Command::new("dpkg-deb")
        .arg("--extract")
        .arg(only_file(scratch.path())?)
        .arg(&tree))?;
    if !tree.join("lib").exists() {
        // Since Debian 13.
        std::os::unix::fs::symlink("usr/lib", tree.join("lib"))?;
    }
    let release = package.trim_start_matches("linux-image-");
    run(Command::new("/usr/sbin/depmod").arg("-b").arg(&tree).arg(release))?;
    Ok(std::fs::rename(tree, folder)?)
}

/// Such as `linux-image-6.1.0-56-cloud-amd64`: the archive keeps the newest alone for long.
fn newest_kernel(leading: &str) -> Result<String> {
    let asked = Command::new("apt-cache").args(["depends", leading]).output();
    let output = asked.context("cannot run `apt-cache`: guests boot Debian's kernels")?;
    let printed = String::from_utf8(output.stdout)?;
    let needed = printed
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "));
    Ok(needed
        .with_context(|| format!("the archive has no {leading}"))?
        .to_owned())
}

fn only_file(folder: &Path) -> Result<PathBuf> {
    let file = std::fs::read_dir(folder)?
        .next()
        .context("nothing was downloaded")?;
    Ok(file?.path())
}
