//! Unified kernel images: systemd's stub with kernel, initial file system and command line as sections of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use super::{initrd, kernel::Kernel};
use crate::tool::{new_dir, run};

/// A kernel image, signed so that our firmware starts it, or not. Dropping it removes it.
#[derive(Debug)]
pub struct Uki {
    dir: PathBuf,
}

/// What every image has in its command line. `panic=-1`: a guest that panics ends. `no_timer_check`: one that is
/// emulated on a busy machine may see no tick of its timer in time, and would panic.
const COMMAND_LINE: &str = "console=ttyS0,115200 quiet panic=-1 no_timer_check";
const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
/// Key and certificate of the owner of the firmware's keys, as Debian ships them for tests.
const KEY: &str = "/usr/share/ovmf/PkKek-1-snakeoil.key";
const CERTIFICATE: &str = "/usr/share/ovmf/PkKek-1-snakeoil.pem";
/// Sections begin at pages.
const PAGE: u64 = 4096;

impl Uki {
    /// An image of Debian's kernel for virtual machines, with these words added to its command line.
    #[must_use]
    pub fn with(words: &str) -> Self {
        Self::of(&Kernel::usual(), words)
    }

    /// An image of another kernel: Debian's for any PC.
    #[must_use]
    pub fn of_another_kernel() -> Self {
        Self::of(&Kernel::other(), "")
    }

    /// The image that nobody signed: our firmware does not start it.
    #[must_use]
    pub fn unsigned() -> Self {
        let uki = Self { dir: new_dir() };
        uki.fill(&Kernel::usual(), "");
        uki
    }

    fn of(kernel: &Kernel, words: &str) -> Self {
        let uki = Self { dir: new_dir() };
        uki.fill(kernel, words);
        let unsigned = uki.dir.join("unsigned.efi");
        fs::rename(uki.path(), &unsigned).unwrap();
        sign(&unsigned, &uki.path());
        fs::remove_file(unsigned).unwrap();
        uki
    }

    fn fill(&self, kernel: &Kernel, words: &str) {
        let write = |name: &str, content: &str| {
            let path = self.dir.join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let release = "ID=plastron\nNAME=\"Plastron's test guest\"\nVERSION_ID=1\n";
        let sections = [
            (".osrel", write("osrel", release)),
            (
                ".cmdline",
                write("cmdline", format!("{COMMAND_LINE} {words}").trim_end()),
            ),
            (".linux", kernel.image.clone()),
            (".initrd", initrd::of(kernel)),
        ];
        add_sections(&sections, &self.path());
    }

    /// The file that boots.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.join("uki.efi")
    }
}

impl Drop for Uki {
    fn drop(&mut self) {
        // What stays is removed by the next run.
        fs::remove_dir_all(&self.dir).ok();
    }
}

/// Copies the stub to `image`, with sections added behind its own.
fn add_sections(sections: &[(&str, PathBuf)], image: &Path) {
    let mut objcopy = Command::new("objcopy");
    let mut address = end_of_stub();
    for (name, file) in sections {
        address = address.next_multiple_of(PAGE);
        objcopy.arg("--add-section");
        objcopy.arg(format!("{name}={}", file.display()));
        objcopy.arg("--change-section-vma");
        objcopy.arg(format!("{name}={address:#x}"));
        address += fs::metadata(file).unwrap().len();
    }
    run(objcopy.arg(STUB).arg(image));
}

/// The address behind the stub's sections, as lines such as `6 .sbat 000000e2 0000000000019000 …` tell.
fn end_of_stub() -> u64 {
    assert!(
        Path::new(STUB).exists(),
        "`{STUB}` is missing: apt-get install systemd-boot-efi"
    );
    let printed = run(Command::new("objdump").args(["--section-headers", STUB]));
    let end = |line: &str| {
        let mut words = line.split_whitespace();
        let _number: u32 = words.next()?.parse().ok()?;
        let _name = words.next()?;
        let mut hex = || u64::from_str_radix(words.next()?, 16).ok();
        Some(hex()? + hex()?)
    };
    printed
        .lines()
        .filter_map(end)
        .max()
        .expect("a stub with sections")
}

/// Signs an image so that firmware with Debian's test keys starts it.
fn sign(image: &Path, signed: &Path) {
    let mut sbsign = Command::new("sbsign");
    sbsign.arg("--key").arg(key()).args(["--cert", CERTIFICATE]);
    run(sbsign.arg("--output").arg(signed).arg(image));
}

/// The key without its password, which everybody knows.
fn key() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        assert!(
            Path::new(KEY).exists(),
            "`{KEY}` is missing: apt-get install ovmf"
        );
        let path = new_dir().join("key.pem");
        let mut openssl = Command::new("openssl");
        openssl.args(["pkey", "-passin", "pass:snakeoil", "-in", KEY, "-out"]);
        run(openssl.arg(&path));
        path
    })
}
