//! The maker of our TPMs: a root and an issuing CA for each test process, and what they certify.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use attest::wire::{Curve, Public, PublicKey};

use crate::tool::{new_dir, run};

/// Files of the CA.
pub(crate) struct Ca {
    dir: PathBuf,
}

impl Ca {
    /// The one of this process. Its keys are made with the first certificate, and here, so that no two TPMs that
    /// are manufactured at once make them.
    pub(crate) fn get() -> &'static Self {
        static CA: OnceLock<Ca> = OnceLock::new();
        CA.get_or_init(|| {
            let ca = Self { dir: new_dir() };
            ca.write_configuration();
            ca.certify(&format!("x={0},y={0},id=secp256r1", "00".repeat(31) + "01"));
            ca
        })
    }

    /// For swtpm_setup's `--config`.
    pub(crate) fn setup_configuration(&self) -> PathBuf {
        self.dir.join("setup.conf")
    }

    /// The DER certificate of an endorsement key.
    pub(crate) fn certify_key(&self, key: &Public) -> Vec<u8> {
        self.certify(&match &key.key {
            PublicKey::Ecc(key) => {
                let curve = match key.curve {
                    Curve::P256 => "secp256r1",
                    Curve::P384 => "secp384r1",
                    Curve::P521 => "secp521r1",
                };
                format!("x={},y={},id={curve}", hex(&key.x), hex(&key.y))
            }
            PublicKey::Rsa(key) => hex(&key.modulus),
        })
    }

    fn certify(&self, key: &str) -> Vec<u8> {
        let out = new_dir();
        let mut command = Command::new("swtpm_localca");
        command.args(["--type", "ek", "--tpm2", "--vmid", "test", "--ek", key]);
        command.args([
            "--tpm-spec-family",
            "2.0",
            "--tpm-spec-level",
            "0",
            "--tpm-spec-revision",
            "164",
        ]);
        command.args(["--tpm-manufacturer", "id:00001014", "--tpm-model", "swtpm"]);
        command.args(["--tpm-version", "id:20191023"]);
        command.arg("--dir").arg(&out);
        command.arg("--configfile").arg(self.dir.join("localca.conf"));
        command.arg("--optsfile").arg(self.dir.join("options"));
        run(&mut command);
        let certificate = fs::read(out.join("ek.cert")).unwrap();
        fs::remove_dir_all(out).unwrap();
        certificate
    }

    fn write_configuration(&self) {
        let dir = self.dir.display();
        let write = |name: &str, content: String| fs::write(self.dir.join(name), content).unwrap();
        write(
            "localca.conf",
            format!(
                "statedir = {dir}\nsigningkey = {dir}/signkey.pem\nissuercert = {dir}/issuercert.pem\n\
                 certserial = {dir}/certserial\n"
            ),
        );
        write(
            "options",
            "--platform-manufacturer Plastron\n--platform-version 1\n--platform-model Test\n".into(),
        );
        write(
            "setup.conf",
            format!(
                "create_certs_tool = swtpm_localca\ncreate_certs_tool_config = {dir}/localca.conf\n\
                 create_certs_tool_options = {dir}/options\nactive_pcr_banks = sha256\n"
            ),
        );
    }
}

/// The CA that certified the endorsement keys of this process's TPMs: root and issuing CA, in DER.
#[must_use]
pub fn ca_certificates() -> Vec<Vec<u8>> {
    let dir = &Ca::get().dir;
    ["swtpm-localca-rootca-cert.pem", "issuercert.pem"]
        .map(|file| read_pem(&dir.join(file)))
        .into()
}

/// Writes them into a new folder, as a server's `ek_roots` names it.
///
/// # Panics
///
/// The folder is there already, or can't be made.
pub fn write_ca_certificates(folder: &Path) {
    fs::create_dir(folder).unwrap();
    for (number, der) in ca_certificates().iter().enumerate() {
        fs::write(folder.join(format!("{number}.der")), der).unwrap();
    }
}

fn read_pem(path: &Path) -> Vec<u8> {
    pem::parse(fs::read(path).unwrap()).unwrap().into_contents()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
