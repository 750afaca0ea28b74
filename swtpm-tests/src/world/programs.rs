//! The programs under test, and the clients that test them: each is built once.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use crate::tool::{self, Limit};

/// Where `plastron-server` or `plastron-agent` is; built from what the sources are now.
pub(crate) fn program(name: &str) -> PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(build).join(name)
}

/// Runs `plastron-server` with `words`, without a server, whatever comes of it.
///
/// # Panics
///
/// It can't be started.
#[must_use]
pub fn server_cli(words: &[&str]) -> Output {
    Command::new(program("plastron-server"))
        .args(words)
        .output()
        .unwrap()
}

/// Runs the Go client `name` of `clients/go`.
///
/// # Panics
///
/// Go is missing, or the client can't be built.
#[must_use]
pub fn go_client(name: &str) -> Command {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    let built = DIR.get_or_init(|| {
        let dir = profile_dir().join("clients");
        let mut go = Command::new("go");
        go.arg("-C").arg(source("go")).args(["build", "-o"]);
        go.arg(dir.join("")).arg("./...");
        tool::run_within(Limit::Build, go.env("GOTOOLCHAIN", "local"));
        dir
    });
    Command::new(built.join(name))
}

/// Runs a script of `clients/python`, with the packages that it requires.
///
/// # Panics
///
/// Python is missing, or the packages can't be installed.
#[must_use]
pub fn python_client(script: &str) -> Command {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    let python = PYTHON.get_or_init(|| {
        let dir = profile_dir().join("clients").join("python");
        let python = dir.join("bin").join("python");
        let venv = ["-m", "venv"];
        tool::run_within(Limit::Build, Command::new("python3").args(venv).arg(&dir));
        let install = ["-m", "pip", "install", "--quiet", "--requirement"];
        let requirements = source("python").join("requirements.txt");
        tool::run_within(
            Limit::Build,
            Command::new(&python).args(install).arg(requirements),
        );
        python
    });
    let mut command = Command::new(python);
    command.arg(source("python").join(script));
    command
}

/// A folder of `clients`.
fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}

fn build() -> PathBuf {
    let dir = profile_dir();
    let profile = match dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package=server", "--package=agent"]);
    cargo.args(["--profile", profile, "--target-dir"]);
    cargo.arg(dir.parent().unwrap());
    tool::run_within(Limit::Build, cargo.current_dir(env!("CARGO_MANIFEST_DIR")));
    dir
}

/// The folder of `target` that the test itself is in.
fn profile_dir() -> PathBuf {
    let test = env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().to_owned()
}
