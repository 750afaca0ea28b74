//! A TPM whose driver lies, from the moment at which the host is changed.

use std::fs;

use agent::attest::Prover;
use attest::{HashAlg, PcrSelection, PcrValues, event_log::EventLog};
use node_tpm::{AgentConfig, TpmProver};
use plugin_api::{
    Activation, RawCertification, RawQuote, Sealed, SealedKey, Sealing, TpmDevice, TpmError, TpmIdentity,
    TpmKey,
};
use svid::TrustDomain;
use swtpm_tests::SoftwareTpm;
use zeroize::Zeroizing;

use crate::trust_domain;

/// What is said of a host that is changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lie {
    /// What another TPM says, which has the PCRs that this one had.
    Foreign,
    /// What the TPM said before.
    Old,
    /// The truth of every other PCR.
    Partial,
    /// Nothing.
    Silence,
}

/// The PCR by which the host is changed, and what it was.
#[derive(Clone)]
pub(crate) struct Pcr(String);

/// The host's TPM, and what it takes to lie.
struct Liar {
    lie: Lie,
    pcr: Pcr,
    tpm: tpm::Handle,
    before: Option<RawQuote>,
    /// With the PCRs that the log explains.
    other: SoftwareTpm,
}

const CHANGED: u8 = 4;

impl Lie {
    pub(crate) fn parse(word: &str) -> Self {
        match word {
            "foreign" => Self::Foreign,
            "old" => Self::Old,
            "partial" => Self::Partial,
            "silence" => Self::Silence,
            _ => panic!("`{word}` is no lie"),
        }
    }
}

impl Pcr {
    /// As it is now.
    pub(crate) fn watch() -> Self {
        Self(Self::read())
    }

    pub(crate) fn is_changed(&self) -> bool {
        Self::read() != self.0
    }

    fn read() -> String {
        fs::read_to_string(format!("/sys/class/tpm/tpm0/pcr-sha256/{CHANGED}")).unwrap()
    }
}

/// The agent's prover on such a TPM.
pub(crate) fn prover(lie: Lie, pcr: &Pcr) -> Prover {
    let config = AgentConfig::default();
    let log = EventLog::parse(&fs::read(&config.event_log_path).unwrap()).unwrap();
    let mut liar = Some(Liar {
        lie,
        pcr: pcr.clone(),
        tpm: tpm::open(tpm::Config::default()).unwrap(),
        before: None,
        other: SoftwareTpm::with(log.replay(HashAlg::Sha256).unwrap()),
    });
    let open = Box::new(move || -> Result<Box<dyn TpmDevice>, TpmError> {
        Ok(Box::new(liar.take().ok_or(TpmError::Stopped)?))
    });
    Prover::new(Box::new(TpmProver::new(config, trust_domain(), open)))
}

impl TpmDevice for Liar {
    fn identify(&mut self, trust_domain: &TrustDomain) -> Result<TpmIdentity, TpmError> {
        self.tpm.identify(trust_domain)
    }

    fn quote(&mut self, extra_data: &[u8; 32], selection: &PcrSelection) -> Result<RawQuote, TpmError> {
        if self.pcr.is_changed() {
            return match self.lie {
                Lie::Foreign => self.other.quote(extra_data, selection),
                Lie::Old => Ok(self.before.clone().unwrap()),
                Lie::Partial => self.tpm.quote(extra_data, &without(selection)),
                Lie::Silence => Err(TpmError::Stopped),
            };
        }
        let quote = self.tpm.quote(extra_data, selection)?;
        self.before = Some(quote.clone());
        Ok(quote)
    }

    fn activate(&mut self, activation: &Activation) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        self.tpm.activate(activation)
    }

    fn read_pcrs(&mut self, selection: &PcrSelection) -> Result<PcrValues, TpmError> {
        if self.pcr.is_changed() {
            return self.other.read_pcrs(selection);
        }
        self.tpm.read_pcrs(selection)
    }

    fn create_key(&mut self) -> Result<TpmKey, TpmError> {
        self.tpm.create_key()
    }

    fn sign(&mut self, key: &TpmKey, message: &[u8]) -> Result<Vec<u8>, TpmError> {
        self.tpm.sign(key, message)
    }

    fn certify(&mut self, key: &TpmKey, extra_data: &[u8; 32]) -> Result<RawCertification, TpmError> {
        self.tpm.certify(key, extra_data)
    }

    fn seal(&mut self, key: &SealedKey, sealing: &Sealing) -> Result<Sealed, TpmError> {
        self.tpm.seal(key, sealing)
    }

    fn unseal(&mut self, sealed: &Sealed) -> Result<Option<SealedKey>, TpmError> {
        self.tpm.unseal(sealed)
    }
}

fn without(selection: &PcrSelection) -> PcrSelection {
    let banks = selection.banks();
    let rest = banks.map(|(alg, pcrs)| (alg, pcrs.iter().filter(|pcr| *pcr != CHANGED).collect()));
    PcrSelection::new(rest.collect()).unwrap()
}
