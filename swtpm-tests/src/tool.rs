//! Other people's programs.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// How long a program may take.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    /// It builds something: half an hour on a cold cache.
    Build,
    /// It does one thing: a minute.
    Run,
}

/// Runs a program to its end, and returns what it printed.
///
/// # Panics
///
/// It is missing (the panic names the Debian package), fails, or takes more than a minute.
pub fn run(command: &mut Command) -> String {
    run_within(Limit::Run, command)
}

/// Runs a program to its end, which may be further away.
pub(crate) fn run_within(limit: Limit, command: &mut Command) -> String {
    let seconds = match limit {
        Limit::Build => "1800",
        Limit::Run => "60",
    };
    let program = command.get_program().to_owned();
    require(program.to_str().unwrap());
    let mut limited = Command::new("timeout");
    limited
        .args(["--kill-after=5", seconds])
        .arg(&program)
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        limited.env(name, value.unwrap());
    }
    if let Some(dir) = command.get_current_dir() {
        limited.current_dir(dir);
    }
    let output = limited.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?} failed: {}\n{printed}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
    );
    printed
}

/// Fails unless a program is installed.
pub(crate) fn require(program: &str) {
    let path = Path::new(program);
    let how = match path.file_name().and_then(|name| name.to_str()) {
        Some("go") => "`cargo xtask test` gets one that is recent enough".into(),
        other => format!("apt-get install {}", package(other.unwrap_or_default())),
    };
    let dirs = env::var_os("PATH").unwrap_or_default();
    // What is absolute stays what it is when it is joined.
    let found = env::split_paths(&dirs).any(|dir| dir.join(path).exists());
    assert!(found, "`{program}` is missing: {how}");
}

/// The Debian package with a program.
fn package(program: &str) -> &'static str {
    match program {
        "busybox" => "busybox-static",
        "cpio" => "cpio",
        "kill" => "procps",
        "mcopy" | "mmd" => "mtools",
        "mkfs.vfat" => "dosfstools",
        "nc.openbsd" => "netcat-openbsd",
        "nsenter" | "setpriv" | "unshare" => "util-linux",
        "objcopy" | "objdump" | "strip" => "binutils",
        "openssl" => "openssl",
        "python3" => "python3-venv",
        "qemu-system-x86_64" => "qemu-system-x86",
        "sbsign" => "sbsigntool",
        "sfdisk" => "fdisk",
        "swtpm" => "swtpm",
        "swtpm_setup" | "swtpm_localca" => "swtpm-tools",
        "zstd" => "zstd",
        _ => "tpm2-tools",
    }
}

/// Where this process keeps its files.
static OURS: OnceLock<PathBuf> = OnceLock::new();

/// Keeps this process's files in `dir`, which is the caller's to remove; otherwise they are below the folder for
/// temporary files until the next run.
///
/// # Panics
///
/// There are files elsewhere already.
pub fn work_in(dir: &Path) {
    OURS.set(dir.to_owned()).expect("no files yet");
}

/// A new, empty directory. Those of test processes that are gone are removed on the way.
pub fn new_dir() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let ours = OURS.get_or_init(|| {
        let all = env::temp_dir().join("plastron-swtpm");
        fs::create_dir_all(&all).unwrap();
        remove_orphans(&all);
        all.join(process::id().to_string())
    });
    let dir = ours.join(COUNT.fetch_add(1, Ordering::Relaxed).to_string());
    fs::create_dir_all(&dir).unwrap();
    dir
}

fn remove_orphans(all: &Path) {
    for dir in fs::read_dir(all).unwrap().flatten() {
        if !Path::new("/proc").join(dir.file_name()).exists() {
            // Another test process may be at it, too.
            fs::remove_dir_all(dir.path()).ok();
        }
    }
}
