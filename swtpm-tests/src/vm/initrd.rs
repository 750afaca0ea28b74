//! The initial file system: the agent, a shell, and what they need.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use super::{SERVER, kernel::Kernel};
use crate::{
    tool::{new_dir, require, run},
    world::program,
};

/// The file system of this process's guests with `kernel`. It is made once.
pub(super) fn of(kernel: &Kernel) -> PathBuf {
    static MADE: Mutex<BTreeMap<PathBuf, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap();
    made.entry(kernel.image.clone())
        .or_insert_with(|| {
            let root = Root(new_dir());
            root.fill(kernel);
            let packed = root.pack();
            fs::remove_dir_all(root.0).unwrap();
            packed
        })
        .clone()
}

/// A tree that becomes the guest's.
struct Root(PathBuf);

/// What the kernel starts. It ends with the shell, and the guest with it.
const INIT: &str = include_str!("init.sh");
/// One program that is every tool, and needs no library.
const BUSYBOX: &str = "/bin/busybox";
/// libtss2 opens it by its name.
const TCTI: &str = "libtss2-tcti-device.so.0";

impl Root {
    fn fill(&self, kernel: &Kernel) {
        for folder in [
            "dev",
            "proc",
            "sys",
            "run",
            "tmp",
            "mnt",
            "lib/modules",
            "var/lib/plastron-agent",
        ] {
            fs::create_dir_all(self.0.join(folder)).unwrap();
        }
        require(BUSYBOX);
        self.copy(Path::new(BUSYBOX), "bin/busybox");
        symlink("busybox", self.0.join("bin/sh")).unwrap();
        for (number, module) in kernel.modules().iter().enumerate() {
            let name = module.file_name().unwrap().to_str().unwrap();
            self.copy(module, &format!("lib/modules/{number:02}-{name}"));
        }
        self.add_agent();
        self.write("etc/passwd", "root:x:0:0:root:/:/bin/sh\n");
        self.write("etc/group", "root:x:0:\n");
        self.write("etc/plastron/agent.toml", &configuration());
        self.write("init", INIT);
        fs::set_permissions(self.0.join("init"), PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// With the libraries that it needs, where it looks for them.
    fn add_agent(&self) {
        let agent = self.0.join("usr/bin/plastron-agent");
        fs::create_dir_all(agent.parent().unwrap()).unwrap();
        strip(&program("plastron-agent"), &agent);
        let agent_needs = libraries(&agent);
        let folder = agent_needs
            .iter()
            .find(|path| path.to_string_lossy().contains("libtss2"));
        let tcti = folder.expect("libtss2").with_file_name(TCTI);
        assert!(
            tcti.exists(),
            "`{}` is missing: apt-get install libtss2-tcti-device0",
            tcti.display()
        );
        let mut all: BTreeSet<_> = agent_needs.into_iter().chain(libraries(&tcti)).collect();
        all.insert(tcti);
        for path in all {
            let inside = path.strip_prefix("/").unwrap().to_str().unwrap();
            self.copy(&path, inside);
        }
    }

    fn copy(&self, from: &Path, to: &str) {
        let to = self.0.join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// The archive that the kernel unpacks.
    fn pack(&self) -> PathBuf {
        ["cpio", "zstd"].into_iter().for_each(require);
        let folder = new_dir();
        let script = "set -e; find . -mindepth 1 -print0 | LC_ALL=C sort --zero-terminated >\"$0/list\"; \
                      cpio --null --create --format=newc --owner=0:0 --quiet <\"$0/list\" >\"$0/archive\"; \
                      zstd --quiet -3 --rm -o \"$0/initrd\" \"$0/archive\"";
        let mut shell = Command::new("sh");
        run(shell.args(["-c", script]).arg(&folder).current_dir(&self.0));
        folder.join("initrd")
    }
}

/// Copies a program without its symbols, which are most of it.
pub(super) fn strip(program: &Path, to: &Path) {
    let mut strip = Command::new("strip");
    run(strip.arg("-o").arg(to).arg(program));
}

/// The libraries that a program is linked with, and the linker itself, as lines such as
/// `libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f…)` tell.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let printed = run(Command::new("ldd").arg(program));
    let paths = printed
        .split_whitespace()
        .filter(|word| word.starts_with('/') && !word.ends_with(':'));
    paths.map(Into::into).collect()
}

/// `agent.toml`. The bundle is brought by who installs the host.
fn configuration() -> String {
    let (address, port) = SERVER;
    format!(
        r#"[agent]
trust_domain = "example.org"
server_address = "{address}"
server_port = {port}
trust_bundle_path = "/etc/plastron/bundle.pem"
log_format = "json"
log_level = "debug"
[plugins.node-tpm]
"#
    )
}
