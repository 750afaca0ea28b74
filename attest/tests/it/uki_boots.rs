//! What is predicted of a unified kernel image, compared with what booting it left in a TPM. The images themselves are
//! too large to be kept: their parts are known by `sha256sums-inputs.txt`, from which the boots were made.

use attest::{Digest, HashAlg, event_log::PHASES, uki::predict_pcr11};

use crate::fixtures::pcrs;

const OSREL: &str = "ID=vmtest\nNAME=\"vmtest\"\nVERSION_ID=1\n";
const CMDLINE: &str = "console=ttyS0,115200 rootfstype=ramfs ima_policy=tcb ima_hash=sha256 quiet panic=-1";
/// SHA-256 of Debian's kernels 6.1.0-56-cloud-amd64, 6.1.0-53-cloud-amd64 and 6.1.0-56-amd64, and of the initrds.
const KERNEL_56C: &str = "51349501a3d1ff83836437d2b365fd2d57f2feb8642d315e5181dec23d4c3275";
const KERNEL_53C: &str = "26cb804f0a0a8878e5ab560391962aee89c344f5b8faebe0329f65c507a03483";
const KERNEL_56G: &str = "26f2e57c99338feaf71c46fa4babdc7e1a6c115943002d109fdb746667104f5f";
const INITRD_56C: &str = "1173641e86fbc62569e32a14e7fe6f98b8cf2ac3b6c29272d99bddd2654f61e1";
const INITRD_53C: &str = "1eca6b499e180695d1e054ae3a8ecb0b0c7e3d9c2075984bf5a5a6e46696452f";
const INITRD_56G: &str = "e8f6c83e787916fc4b51c27add455e7c9b33e68f299e1e36cca7bfb46e7284e1";
const INITRD_ROOT: &str = "6d785d3ca7cc781900b4c2920bdd2562bbb852bd94d4a289b3208a5d8a29b798";

fn check(boot: &str, [kernel, initrd]: [&str; 2], cmdline: &str, phases: &[&str]) {
    let file = |hex: &str| -> Digest { hex::decode(hex).unwrap().into_iter().collect() };
    let text = |text: &str| HashAlg::Sha256.digest(&[text.as_bytes()]);
    let sections = [
        (".linux", file(kernel)),
        (".osrel", text(OSREL)),
        (".cmdline", text(cmdline)),
        (".initrd", file(initrd)),
    ];
    let sections = sections.iter().map(|(name, digest)| (*name, digest));
    let predicted = predict_pcr11(HashAlg::Sha256, sections, phases);
    assert_eq!(
        pcrs(boot).values.get(HashAlg::Sha256, 11),
        Some(&predicted),
        "{boot}"
    );
}

#[test]
fn predicts_pcr_11_of_each_boot() {
    let cloud = [KERNEL_56C, INITRD_56C];
    for boot in [
        "vm-nosb-56c",
        "vm-nosb-56c-again",
        "vm-sb-56c",
        "vm-sb-snakeoil-smm",
        "vm-mem512",
    ] {
        check(boot, cloud, CMDLINE, &[]);
    }
    check(
        "vm-sb-56c-cmd2",
        cloud,
        &format!("{CMDLINE} vmtest.changed=1"),
        &[],
    );
    check("vm-nosb-53c", [KERNEL_53C, INITRD_53C], CMDLINE, &[]);
    check("vm-nosb-56g-openNET", [KERNEL_56G, INITRD_56G], CMDLINE, &[]);
    // systemd, without an initrd of its own, came as far as `ready`.
    let root = "console=ttyS0,115200 ima_policy=tcb systemd.show_status=1 panic=-1 net.ifnames=0";
    check("vm-sb-systemd", [KERNEL_56C, INITRD_ROOT], root, &PHASES[2..4]);
}
