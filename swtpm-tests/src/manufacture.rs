//! Making TPMs: seeds, endorsement keys, certificates.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, OnceLock},
};

use attest::wire::Public;

use crate::{
    ca::Ca,
    swtpm::{Options, Swtpm},
    tool::{new_dir, run},
};

/// swtpm's file for what a TPM keeps without power.
const STATE: &str = "tpm2-00.permall";

/// The state of a named TPM, manufactured once for each process.
pub(crate) fn manufactured(options: &Options) -> PathBuf {
    static STATES: OnceLock<Mutex<HashMap<Options, PathBuf>>> = OnceLock::new();
    let mut states = STATES.get_or_init(Mutex::default).lock().unwrap();
    states
        .entry(options.clone())
        .or_insert_with(|| {
            let dir = new_dir();
            manufacture(options, &dir);
            dir
        })
        .clone()
}

/// Makes a TPM, whose state goes into `dir`.
pub(crate) fn manufacture(options: &Options, dir: &Path) {
    let banks: Vec<_> = options.banks.iter().map(ToString::to_string).collect();
    let mut command = Command::new("swtpm_setup");
    command.args(["--tpm2", "--overwrite", "--pcr-banks", &banks.join(",")]);
    command.arg("--tpmstate").arg(dir);
    command.arg("--config").arg(Ca::get().setup_configuration());
    if options.certificates {
        command.args(["--create-ek-cert", "--create-platform-cert", "--lock-nvram"]);
    }
    run(&mut command);
    if options.p256_certificate {
        add_p256_certificate(dir);
    }
}

/// swtpm_setup 0.7 makes certificates for RSA-2048 and P-384 alone.
fn add_p256_certificate(dir: &Path) {
    let scratch = new_dir();
    copy(dir, &scratch);
    let mut tpm = Swtpm::power_on(Options::default(), scratch);
    let ek = tpm.create_ek("ecc");
    tpm.certify(&Public::parse(&ek).unwrap(), 0x01C0_000A);
    tpm.power_off();
    copy(tpm.state_dir(), dir);
}

/// Copies a TPM's state.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::copy(from.join(STATE), to.join(STATE)).unwrap();
}
