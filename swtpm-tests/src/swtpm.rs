//! One software TPM.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use attest::HashAlg;

use crate::{
    log::Measured,
    manufacture::{copy, manufacture, manufactured},
    ports,
    process::spawn,
    tool::new_dir,
    wire::{self, Control},
};

/// How a TPM is manufactured and started.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Options {
    /// Active PCR banks.
    pub banks: Vec<HashAlg>,
    /// Whether there are endorsement keys with certificates: RSA-2048 (L-1) and P-384 (H-3).
    pub certificates: bool,
    /// Whether there is a certificate for the P-256 endorsement key (L-2), too.
    pub p256_certificate: bool,
    /// How it starts.
    pub startup: Startup,
    /// All TPMs of one name and equal options start as the same TPM: same seeds, same keys. That saves a second.
    pub name: Option<&'static str>,
}

/// How a TPM is started; PCR 0 begins accordingly (PC Client PFP §3.3.3).
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub enum Startup {
    /// From locality 0.
    #[default]
    Locality0,
    /// From locality 3: PCR 0 ends in 03.
    Locality3,
    /// After a hardware root of trust measured this: PCR 0 is extended by its digest, from a value that ends in 04.
    Locality4(Vec<u8>),
}

/// A software TPM that runs. Dropping it ends it and removes its state.
#[derive(Debug)]
pub struct Swtpm {
    options: Options,
    dir: PathBuf,
    port: u16,
    process: Option<Child>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            banks: vec![HashAlg::Sha256],
            certificates: true,
            p256_certificate: false,
            startup: Startup::Locality0,
            name: None,
        }
    }
}

impl Swtpm {
    /// A TPM of its own, with the default options.
    #[must_use]
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    /// A TPM with these options.
    #[must_use]
    pub fn with(options: Options) -> Self {
        let dir = new_dir();
        match options.name {
            None => manufacture(&options, &dir),
            Some(_) => copy(&manufactured(&options), &dir),
        }
        Self::power_on(options, dir)
    }

    /// Another TPM in the state that this one is in: a cloned disk, as far as a TPM goes.
    #[must_use]
    pub fn clone_state(&self) -> Self {
        let dir = new_dir();
        copy(&self.dir, &dir);
        Self::power_on(self.options.clone(), dir)
    }

    /// How libtss2 finds it.
    #[must_use]
    pub fn tcti(&self) -> String {
        tcti(self.port)
    }

    /// Port of its commands; that of the control channel is the next.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Where its state is.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.dir
    }

    /// Cuts its power, and starts it again with what it had in NV memory.
    pub fn power_cycle(&mut self) {
        self.power_off();
        self.process =
            Some(spawn(&self.dir, self.port, &self.options.startup).expect("its ports are still free"));
        self.startup();
    }

    /// Cuts its power. Connections to it are refused until [`Swtpm::power_cycle`].
    pub fn power_off(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Has it answer nothing, and keep its connections.
    ///
    /// # Panics
    ///
    /// It does not run.
    pub fn hang(&self) {
        self.signal("STOP");
    }

    /// Has it go on after [`Swtpm::hang`].
    ///
    /// # Panics
    ///
    /// It does not run.
    pub fn go_on(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let process = self.process.as_ref().expect("a TPM that has power").id();
        let mut kill = Command::new("kill");
        crate::run(kill.arg(format!("-{name}")).arg(process.to_string()));
    }

    /// Extends a PCR of one bank.
    pub fn extend(&self, pcr: u8, bank: HashAlg, digest: &[u8]) {
        self.extend_all(pcr.into(), &[(bank, digest.to_vec())]);
    }

    /// Extends a PCR of several banks at once; banks that are not active are passed over.
    pub fn extend_all(&self, pcr: u32, digests: &[(HashAlg, Vec<u8>)]) {
        let response = wire::command(self.port, &wire::extend(pcr, digests));
        assert_eq!(response[6..10], [0; 4], "TPM2_PCR_Extend failed");
    }

    /// Extends its PCRs as the machine of a captured log did.
    ///
    /// # Panics
    ///
    /// The TPM was not started from the locality that the log tells. Logs from locality 4 can't be replayed: that
    /// takes what the hardware measured, and they have its digest only.
    pub fn replay(&self, log: &Measured) {
        let locality = log.startup_locality.unwrap_or(0);
        assert_eq!(
            locality,
            self.options.startup.locality(),
            "start the TPM as the log says"
        );
        for extend in &log.extends {
            self.extend_all(extend.pcr, &extend.digests);
        }
    }

    /// Starts the TPM whose state is in `dir`.
    pub(crate) fn power_on(options: Options, dir: PathBuf) -> Self {
        let start = || {
            let port = ports::random();
            Some((port, spawn(&dir, port, &options.startup)?))
        };
        let (port, process) = (0..ports::ATTEMPTS)
            .find_map(|_| start())
            .expect("a free pair of ports");
        let tpm = Self {
            options,
            dir,
            port,
            process: Some(process),
        };
        tpm.startup();
        tpm
    }

    /// What firmware does before the first measurement, where swtpm does not do it by itself.
    fn startup(&self) {
        let control = |message, payload: &[u8]| wire::control(self.port + 1, message, payload);
        match &self.options.startup {
            Startup::Locality0 => return,
            Startup::Locality3 => control(Control::SetLocality, &[3]),
            Startup::Locality4(measured) => {
                let len = u32::try_from(measured.len()).unwrap().to_be_bytes();
                control(Control::HashStart, &[]);
                control(Control::HashData, &[&len[..], measured].concat());
                control(Control::HashEnd, &[]);
            }
        }
        let response = wire::command(self.port, &wire::STARTUP_CLEAR);
        assert_eq!(response[6..10], [0; 4], "TPM2_Startup failed");
        control(Control::SetLocality, &[0]);
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        self.power_off();
        fs::remove_dir_all(&self.dir).ok();
    }
}

impl Startup {
    const fn locality(&self) -> u8 {
        match self {
            Self::Locality0 => 0,
            Self::Locality3 => 3,
            Self::Locality4(_) => 4,
        }
    }
}

pub(crate) fn tcti(port: u16) -> String {
    format!("swtpm:host=127.0.0.1,port={port}")
}
