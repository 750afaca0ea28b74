//! Debian packages of both programs, made by `dpkg-deb` from a tree. The same sources give the same bytes.

mod control;
mod tree;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use clap::Args;

use self::tree::Tree;
use crate::{
    man, packages,
    run::{root, run as run_command},
};

/// What is packaged, and where to.
#[derive(Args)]
pub(crate) struct Options {
    /// Profile to build the programs with.
    #[arg(long, default_value = "release")]
    profile: String,
    /// Folder for the packages.
    #[arg(long, value_name = "FOLDER", default_value = "target/debian")]
    out: PathBuf,
}

/// A package.
struct Package {
    name: &'static str,
    /// Its file in `deploy/config`.
    config: &'static str,
    summary: &'static str,
    description: &'static str,
    /// What it opens while it runs, so that the linker does not know.
    opens: &'static [&'static str],
    /// Annotated examples in `deploy`.
    examples: &'static [&'static str],
}

const PACKAGES: [Package; 2] = [
    Package {
        name: "plastron-agent",
        config: "agent.toml",
        summary: "SPIFFE identities for the workloads of this host",
        description: "Proves this host to a Plastron server by its TPM, and serves the SPIFFE Workload API.",
        opens: &["libtss2-tcti-device0"],
        examples: &[],
    },
    Package {
        name: "plastron-server",
        config: "server.toml",
        summary: "attests hosts and issues SPIFFE identities",
        description: "Signs for a SPIFFE trust domain: attests hosts by their TPM, and issues SVIDs to workloads.",
        opens: &[],
        examples: &["policy.toml", "tpm-advisories.toml"],
    },
];

/// `cargo xtask deb`.
///
/// # Errors
///
/// A program can't be built, or a package can't be made.
pub(crate) fn run(options: &Options) -> Result<()> {
    packages::ensure(&[packages::BUILD, packages::DEB].concat())?;
    let programs = man::build(&options.profile)?;
    let out = root().join(&options.out);
    std::fs::create_dir_all(&out)?;
    for package in &PACKAGES {
        let made = make(package, &programs, &out).with_context(|| package.name)?;
        println!("{}", made.display());
    }
    Ok(())
}

fn make(package: &Package, programs: &Path, out: &Path) -> Result<PathBuf> {
    let tree = Tree::new()?;
    fill(package, programs, &tree)?;
    let architecture = said(Command::new("dpkg").arg("--print-architecture"))?;
    let control = control::control(package, &tree, architecture.trim())?;
    tree.add("DEBIAN/control", control.as_bytes(), 0o644)?;
    let version = env!("CARGO_PKG_VERSION");
    let made = out.join(format!("{}_{version}_{}.deb", package.name, architecture.trim()));
    run_command(
        Command::new("dpkg-deb")
            .args(["--root-owner-group", "-Zxz", "-z2", "--build"])
            .arg(tree.path())
            .arg(&made)
            .env("SOURCE_DATE_EPOCH", epoch()?)
            .stdout(std::process::Stdio::null()),
    )?;
    Ok(made)
}

/// Puts everything but the control file into `tree`.
fn fill(package: &Package, programs: &Path, tree: &Tree) -> Result<()> {
    let (name, deploy) = (package.name, root().join("deploy"));
    let program = tree.copy(&programs.join(name), &format!("usr/bin/{name}"), 0o755)?;
    run_command(
        Command::new("strip")
            .args(["--strip-unneeded", "--remove-section=.comment"])
            .arg(program),
    )?;
    let units = deploy.join("systemd");
    for (from, to) in [
        (
            format!("{name}.service"),
            format!("usr/lib/systemd/system/{name}.service"),
        ),
        (
            format!("{name}.sysusers.conf"),
            format!("usr/lib/sysusers.d/{name}.conf"),
        ),
        (
            format!("{name}.tmpfiles.conf"),
            format!("usr/lib/tmpfiles.d/{name}.conf"),
        ),
    ] {
        tree.copy(&units.join(from), &to, 0o644)?;
    }
    let config = format!("etc/plastron/{}", package.config);
    tree.copy(&deploy.join("config").join(package.config), &config, 0o644)?;
    tree.add("DEBIAN/conffiles", format!("/{config}\n").as_bytes(), 0o644)?;
    for script in ["postinst", "prerm", "postrm"] {
        let text = std::fs::read_to_string(deploy.join("debian").join(script))?;
        let text = text.replace("@NAME@", name);
        tree.add(&format!("DEBIAN/{script}"), text.as_bytes(), 0o755)?;
    }
    documents(name, tree)?;
    for example in package.examples {
        let to = format!("usr/share/doc/{name}/examples/{example}");
        tree.copy(&deploy.join(example), &to, 0o644)?;
    }
    of_program(name, &programs.join(name), tree)
}

fn documents(name: &str, tree: &Tree) -> Result<()> {
    let folder = format!("usr/share/doc/{name}");
    let copyright = root().join("deploy/debian/copyright");
    tree.copy(&copyright, &format!("{folder}/copyright"), 0o644)?;
    tree.copy(&root().join("README.md"), &format!("{folder}/README.md"), 0o644)?;
    let changelog = tree.copy(
        &root().join("CHANGELOG.md"),
        &format!("{folder}/changelog"),
        0o644,
    )?;
    gzip(&changelog)
}

/// What the program writes about itself.
fn of_program(name: &str, program: &Path, tree: &Tree) -> Result<()> {
    let pages = tempfile::tempdir()?;
    man::write(program, pages.path())?;
    for page in std::fs::read_dir(pages.path())? {
        let page = page?;
        let to = format!("usr/share/man/man8/{}", page.file_name().to_string_lossy());
        gzip(&tree.copy(&page.path(), &to, 0o644)?)?;
    }
    for (shell, to) in [
        ("bash", format!("usr/share/bash-completion/completions/{name}")),
        ("fish", format!("usr/share/fish/vendor_completions.d/{name}.fish")),
        ("zsh", format!("usr/share/zsh/vendor-completions/_{name}")),
    ] {
        let script = said(Command::new(program).args(["completions", shell]))?;
        tree.add(&to, script.as_bytes(), 0o644)?;
    }
    Ok(())
}

/// Without name and time in it.
fn gzip(path: &Path) -> Result<()> {
    run_command(Command::new("gzip").args(["-9", "--no-name"]).arg(path))
}

/// The time that files are dated: what the caller says, or else that of the last commit.
fn epoch() -> Result<String> {
    if let Ok(epoch) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(epoch);
    }
    let committed = said(
        Command::new("git")
            .args(["log", "-1", "--format=%ct"])
            .current_dir(root()),
    );
    let hint = "set SOURCE_DATE_EPOCH: there is no commit to date the packages by";
    Ok(committed.context(hint)?.trim().to_owned())
}

/// What a command prints.
///
/// # Errors
///
/// It can't be started, or fails.
fn said(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = command.output().with_context(|| format!("cannot run {shown}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{shown} failed: {}", complaint.trim());
    Ok(String::from_utf8(output.stdout)?)
}
