//! Debian's kernels, and the modules of them that a guest needs.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A kernel as its package has it.
#[derive(Debug)]
pub(super) struct Kernel {
    /// Its folder of modules.
    modules: PathBuf,
    /// The kernel itself.
    pub(super) image: PathBuf,
}

/// What is not built in: disk, network and console of the emulator, the file system of an EFI system partition.
const MODULES: [&str; 7] = [
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_console",
    "vfat",
    "nls_ascii",
    "nls_cp437",
];

impl Kernel {
    /// The one for virtual machines: what guests boot if nothing else is said.
    pub(super) fn usual() -> Self {
        Self::find("linux-cloud-amd64")
    }

    /// The one for any PC: the same sources, built otherwise.
    pub(super) fn other() -> Self {
        Self::find("linux-amd64")
    }

    /// One that `cargo xtask guests` gets.
    fn find(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../target/tools")
            .join(name);
        let image = only(&folder.join("boot"), "vmlinuz-");
        let release = image.file_name().unwrap().to_str().unwrap();
        let release = release.strip_prefix("vmlinuz-").unwrap();
        Self {
            modules: folder.join("lib/modules").join(release),
            image,
        }
    }

    /// The modules, each after those that it needs.
    pub(super) fn modules(&self) -> Vec<PathBuf> {
        let list = fs::read_to_string(self.modules.join("modules.dep")).unwrap();
        let mut ordered = Vec::new();
        for name in MODULES {
            let (module, needed) = needs(&list, name);
            // The first that it needs is the last to be loaded.
            for path in needed.rsplit(' ').chain([module]).filter(|path| !path.is_empty()) {
                let path = self.modules.join(path);
                if !ordered.contains(&path) {
                    ordered.push(path);
                }
            }
        }
        ordered
    }
}

/// The path of a module, and of those that it needs.
fn needs<'a>(list: &'a str, name: &str) -> (&'a str, &'a str) {
    let file = format!("/{name}.ko");
    let mut lines = list.lines().filter_map(|line| line.split_once(':'));
    let (module, needed) = lines
        .find(|(module, _)| module.contains(&file))
        .unwrap_or_else(|| panic!("the kernel has no module {name}"));
    (module, needed.trim())
}

/// The file in `folder` whose name begins with `prefix`.
fn only(folder: &Path, prefix: &str) -> PathBuf {
    let files = fs::read_dir(folder).unwrap_or_else(|error| {
        panic!(
            "no kernel in {} ({error}): `cargo xtask guests` gets it",
            folder.display()
        )
    });
    let mut paths = files.map(|file| file.unwrap().path());
    paths
        .find(|path| path.file_name().unwrap().to_string_lossy().starts_with(prefix))
        .unwrap_or_else(|| panic!("no kernel in {}", folder.display()))
}
