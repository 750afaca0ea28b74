//! The packages, installed into a root of their own: nothing of this machine changes.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

const AGENT: &str = "plastron-agent";
const SERVER: &str = "plastron-server";

/// What `command` prints; it has to succeed.
#[track_caller]
fn said(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = [&output.stdout[..], &output.stderr]
        .map(String::from_utf8_lossy)
        .concat();
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

/// Both packages, made of the programs as tests have them.
fn make(folder: &Path) -> [PathBuf; 2] {
    let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
    xtask.args(["deb", "--profile", "dev", "--out"]).arg(folder);
    said(xtask.env("SOURCE_DATE_EPOCH", "1795338000"));
    [AGENT, SERVER].map(|name| {
        let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let mut made = files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(name));
        made.next().unwrap()
    })
}

/// A root with nothing but dpkg's books in it.
struct Root(TempDir);

impl Root {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        for folder in ["info", "updates", "triggers"] {
            fs::create_dir_all(root.path().join("var/lib/dpkg").join(folder)).unwrap();
        }
        fs::write(root.path().join("var/lib/dpkg/status"), "").unwrap();
        Self(root)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Packages that this one needs are not in the root; scripts run here, and keep to the root.
    #[track_caller]
    fn dpkg(&self, words: &[&str]) -> String {
        let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
        let mut command = Command::new(if is_root { "dpkg" } else { "fakeroot" });
        if !is_root {
            command.arg("dpkg");
        }
        command.arg("--root").arg(self.0.path());
        command.args(["--force-script-chrootless", "--force-depends", "--force-confold"]);
        said(command.args(words))
    }

    fn holds(&self, name: &str) -> bool {
        self.path(name).exists()
    }
}

fn check_package(package: &Path, name: &str, config: &str, depends: &[&str]) {
    let control = said(Command::new("dpkg-deb").arg("--info").arg(package));
    for wanted in [format!("Package: {name}\n").as_str(), "Maintainer: ", "Depends: "]
        .iter()
        .chain(depends)
    {
        assert!(control.contains(wanted), "{wanted}: {control}");
    }
    let content = said(Command::new("dpkg-deb").arg("--contents").arg(package));
    assert!(
        content.lines().all(|line| line.contains(" root/root ")),
        "{content}"
    );
    for file in [
        format!("-rwxr-xr-x usr/bin/{name}").as_str(),
        &format!("-rw-r--r-- etc/plastron/{config}"),
        &format!("-rw-r--r-- usr/lib/systemd/system/{name}.service"),
        &format!("-rw-r--r-- usr/lib/sysusers.d/{name}.conf"),
        &format!("-rw-r--r-- usr/lib/tmpfiles.d/{name}.conf"),
        &format!("-rw-r--r-- usr/share/bash-completion/completions/{name}"),
        &format!("-rw-r--r-- usr/share/doc/{name}/README.md"),
        &format!("-rw-r--r-- usr/share/doc/{name}/changelog.gz"),
        &format!("-rw-r--r-- usr/share/doc/{name}/copyright"),
        &format!("-rw-r--r-- usr/share/fish/vendor_completions.d/{name}.fish"),
        &format!("-rw-r--r-- usr/share/man/man8/{name}.8.gz"),
        &format!("-rw-r--r-- usr/share/man/man8/{name}-run.8.gz"),
        &format!("-rw-r--r-- usr/share/zsh/vendor-completions/_{name}"),
    ] {
        let (mode, path) = file.split_once(' ').unwrap();
        let is_it = |line: &&str| line.starts_with(mode) && line.ends_with(&format!(" ./{path}"));
        assert!(content.lines().any(|line| is_it(&line)), "{file}: {content}");
    }
    for example in ["policy.toml", "tpm-advisories.toml"] {
        let path = format!(" ./usr/share/doc/{name}/examples/{example}");
        let is_there = content.lines().any(|line| line.ends_with(&path));
        assert_eq!(is_there, name == SERVER, "{path}: {content}");
    }
}

/// systemd's judgement of the unit as it is installed, with the program where it is.
fn verify_unit(root: &Root, name: &str) {
    let unit = fs::read_to_string(root.path(&format!("usr/lib/systemd/system/{name}.service"))).unwrap();
    let program = root.path(&format!("usr/bin/{name}"));
    let unit = unit.replace(&format!("=/usr/bin/{name} "), &format!("={} ", program.display()));
    // Pages and documents may be excluded by this machine's dpkg.
    let unit: String = unit
        .lines()
        .filter(|line| !line.starts_with("Documentation="))
        .map(|line| format!("{line}\n"))
        .collect();
    let folder = TempDir::new().unwrap();
    let copy = folder.path().join(format!("{name}.service"));
    fs::write(&copy, unit).unwrap();
    said(
        Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(copy),
    );
}

fn check_life(root: &Root, package: &Path, name: &str, config: &str) {
    let package = package.to_str().unwrap();
    let (config, state) = (format!("etc/plastron/{config}"), format!("var/lib/{name}"));
    root.dpkg(&["--install", package]);
    let program = root.path(&format!("usr/bin/{name}"));
    let version = said(Command::new(&program).arg("--version"));
    assert_eq!(version.trim(), format!("{name} {}", env!("CARGO_PKG_VERSION")));
    verify_unit(root, name);
    let users = fs::read_to_string(root.path("etc/passwd")).unwrap();
    assert!(users.contains(&format!("{name}:")), "{users}");
    let mode = fs::metadata(root.path(&state)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);

    // What the operator wrote, and what the service keeps, live on.
    let edited = "# Mine.\n";
    fs::write(root.path(&config), edited).unwrap();
    fs::write(root.path(&state).join("kept"), "").unwrap();
    root.dpkg(&["--install", package]);
    assert_eq!(fs::read_to_string(root.path(&config)).unwrap(), edited);
    root.dpkg(&["--remove", name]);
    assert!(!program.exists());
    assert!(root.holds(&config) && root.holds(&format!("{state}/kept")));
    root.dpkg(&["--purge", name]);
    assert!(!root.holds(&config) && !root.holds(&state));
}

#[test]
fn the_packages_are_installed_upgraded_removed_and_purged() {
    let (first, second) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (made, again) = (make(first.path()), make(second.path()));
    for (one, other) in made.iter().zip(&again) {
        assert!(
            fs::read(one).unwrap() == fs::read(other).unwrap(),
            "{} differs",
            one.display()
        );
    }
    let [agent, server] = made;
    check_package(
        &agent,
        AGENT,
        "agent.toml",
        &["libtss2-tcti-device0 |", "libtss2-esys-", "libc6 (>= "],
    );
    check_package(&server, SERVER, "server.toml", &["libc6 (>= "]);
    let root = Root::new();
    check_life(&root, &agent, AGENT, "agent.toml");
    check_life(&root, &server, SERVER, "server.toml");
}

#[test]
fn the_copyright_file_has_the_licence_of_the_vendors_roots() {
    let copyright = include_str!("../../deploy/debian/copyright");
    let licence = include_str!("../../attest/roots/LICENSE.BSD-3-Clause");
    let holder = licence
        .lines()
        .find_map(|line| line.strip_prefix("Copyright (c) "));
    assert!(copyright.contains(&format!("\nCopyright: {}\n", holder.unwrap())));
    // An empty line is a dot there, and every line begins with a space.
    let (_, terms) = licence.split_once("Redistribution").unwrap();
    let lines = terms.lines().map(|line| if line.is_empty() { "." } else { line });
    let terms = format!(" Redistribution{}\n", lines.collect::<Vec<_>>().join("\n "));
    assert!(copyright.ends_with(&terms), "{terms}");
}
