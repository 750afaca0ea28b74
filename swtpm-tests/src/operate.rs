//! What people do to TPMs, with tpm2-tools.

use std::{fs, process::Command};

use attest::wire::Public;

use crate::{
    ca::Ca,
    swtpm::Swtpm,
    tool::{self, new_dir, run},
};

impl Swtpm {
    /// Runs a program of tpm2-tools against it, such as `&["tpm2_clear"]`, and returns what that printed. Objects
    /// that it leaves loaded are flushed.
    pub fn tool(&self, command: &[&str]) -> String {
        let printed = self.tool_unflushed(command);
        self.tool_unflushed(&["tpm2_flushcontext", "--transient-object"]);
        printed
    }

    /// As [`Swtpm::tool`], but what it leaves loaded stays so.
    pub fn tool_unflushed(&self, command: &[&str]) -> String {
        run(&mut self.command(command))
    }

    /// As [`Swtpm::tool`], but says whether it succeeded.
    pub fn try_tool(&self, command: &[&str]) -> bool {
        tool::require(command[0]);
        let succeeded = self.command(command).output().unwrap().status.success();
        self.tool_unflushed(&["tpm2_flushcontext", "--transient-object"]);
        succeeded
    }

    /// Puts the TPM into dictionary-attack lockout, by a wrong password for a key.
    pub fn lock_out(&self) {
        let dir = new_dir();
        let file = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        let key = file("key");
        self.tool(&[
            "tpm2_dictionarylockout",
            "-s",
            "-n",
            "1",
            "-t",
            "3600",
            "-l",
            "3600",
        ]);
        self.tool(&[
            "tpm2_createprimary",
            "-C",
            "o",
            "-G",
            "ecc",
            "-p",
            "right",
            "-c",
            &key,
        ]);
        let (public, private) = (file("public"), file("private"));
        let wrong = [
            "tpm2_create",
            "-C",
            &key,
            "-P",
            "wrong",
            "-u",
            &public,
            "-r",
            &private,
        ];
        assert!(!self.try_tool(&wrong));
        let properties = self.tool(&["tpm2_getcap", "properties-variable"]);
        assert!(
            properties.contains("inLockout:                 1"),
            "{properties}"
        );
        fs::remove_dir_all(dir).unwrap();
    }

    /// Writes a file next to the TPM's state, for its tools, and returns its path.
    #[must_use]
    pub fn write_file(&self, name: &str, content: &[u8]) -> String {
        let path = self.state_dir().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Stores a certificate of `key`, issued by our CA, at an NV index.
    pub fn certify(&self, key: &Public, nv_index: u32) {
        self.write_nv(nv_index, &Ca::get().certify_key(key));
    }

    /// Defines an NV index with the attributes that those of certificates have, and writes it.
    pub fn write_nv(&self, nv_index: u32, content: &[u8]) {
        let dir = new_dir();
        let file = dir.join("content");
        fs::write(&file, content).unwrap();
        let (index, size) = (format!("{nv_index:#x}"), content.len().to_string());
        let attributes = "ppwrite|writedefine|ppread|ownerread|authread|no_da|platformcreate";
        self.tool(&["tpm2_nvdefine", &index, "-C", "p", "-s", &size, "-a", attributes]);
        self.tool(&["tpm2_nvwrite", &index, "-C", "p", "-i", file.to_str().unwrap()]);
        fs::remove_dir_all(dir).unwrap();
    }

    /// TPMT_PUBLIC of the endorsement key that tpm2_createek makes for an algorithm, `rsa` or `ecc`.
    #[must_use]
    pub fn create_ek(&self, algorithm: &str) -> Vec<u8> {
        let dir = new_dir();
        let file = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        let (context, public) = (file("context"), file("public"));
        self.tool(&[
            "tpm2_createek",
            "-G",
            algorithm,
            "-c",
            &context,
            "-u",
            &public,
            "-f",
            "tss",
        ]);
        let public = fs::read(&public).unwrap();
        fs::remove_dir_all(dir).unwrap();
        public[2..].to_vec()
    }

    fn command(&self, command: &[&str]) -> Command {
        let mut tool = Command::new(command[0]);
        tool.args(&command[1..]);
        tool.env("TPM2TOOLS_TCTI", self.tcti())
            .env("TSS2_LOG", "all+NONE");
        tool
    }
}
