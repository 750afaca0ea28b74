//! Evidence of a TPM in software: a quote by its attestation key, over PCRs that the log of a real machine
//! explains.

use attest::{
    AttestationKey, Binding, EvidenceKind, HashAlg, PcrSelection, PcrValues, Quote, Reject, SelectedQuote,
    VerifiedPcrs, VerifiedQuote, event_log::EventLog,
};
use aws_lc_rs::signature::EcdsaKeyPair;

use crate::{
    fixtures::{event_log, pcrs},
    tpm::{Area, SHA256, Said, Statement, quoted, sign, signing_key},
};

/// What the evidence is about.
pub(crate) const BINDING: Binding<'static> = Binding {
    kind: EvidenceKind::Attest,
    exporter: &[1; 32],
    nonce: &[2; 32],
    csr: b"csr",
    hello: &[3; 32],
};
/// PCRs that the log explains.
pub(crate) const QUOTED: u32 = 0x1ff;
/// TPM_RH_ENDORSEMENT.
pub(crate) const ENDORSEMENT: u32 = 0x4000_000b;

/// All that a prover sends, and what it was asked for.
#[derive(Clone)]
pub(crate) struct Evidence {
    pub(crate) ak: Vec<u8>,
    pub(crate) statement: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    pub(crate) log: Vec<u8>,
    pub(crate) wanted: PcrSelection,
    pub(crate) claimed: Option<PcrValues>,
}

impl Evidence {
    /// A ThinkPad's log, and a quote over its PCRs.
    pub(crate) fn good() -> Self {
        Self::changed(|_| ())
    }

    /// The same with another statement.
    pub(crate) fn changed(change: impl FnOnce(&mut Statement)) -> Self {
        let key = signing_key();
        let mut statement = statement(&key, &values());
        change(&mut statement);
        Self::of(&key, &statement)
    }

    /// The same with a quote over other values.
    pub(crate) fn over(values: &PcrValues) -> Self {
        let key = signing_key();
        Self::of(&key, &statement(&key, values))
    }

    /// The same with a statement by this key.
    pub(crate) fn of(key: &EcdsaKeyPair, statement: &Statement) -> Self {
        let statement = statement.marshal();
        Self {
            ak: Area::attestation(key).marshal(),
            signature: sign(key, &statement),
            statement,
            log: event_log("guard-good-1.eventlog.bin"),
            wanted: selection(HashAlg::Sha256, QUOTED),
            claimed: None,
        }
    }

    /// Verifies all of it: the key is taken for the TPM's.
    pub(crate) fn verify(&self) -> Result<VerifiedPcrs, Reject> {
        self.selected()?
            .explain(&EventLog::parse(&self.log)?, self.claimed.as_ref())
    }

    /// Verifies that the quote covers what is wanted.
    pub(crate) fn selected(&self) -> Result<SelectedQuote, Reject> {
        self.quote()?.over(&self.wanted)
    }

    /// Verifies the quote alone.
    pub(crate) fn quote(&self) -> Result<VerifiedQuote, Reject> {
        let ak = AttestationKey::parse(&self.ak)?;
        let public = ak.public().clone();
        let ak = ak.remembered(&public)?;
        Quote::parse(&self.statement, &self.signature)?.verify(&ak, &BINDING)
    }
}

/// The values that the ThinkPad's TPM had.
pub(crate) fn values() -> PcrValues {
    pcrs("guard-good-1").values
}

/// PCRs of one bank.
pub(crate) fn selection(alg: HashAlg, mask: u32) -> PcrSelection {
    let set = (0..24).filter(|index| mask & 1 << index != 0).collect();
    PcrSelection::new(vec![(alg, set)]).unwrap()
}

/// A good statement by `key` over these values.
pub(crate) fn statement(key: &EcdsaKeyPair, values: &PcrValues) -> Statement {
    let digest = values.digest(&selection(HashAlg::Sha256, QUOTED), HashAlg::Sha256);
    Statement {
        magic: 0xff54_4347,
        kind: 0x8018,
        signer: qualified_name(key, ENDORSEMENT),
        extra_data: BINDING.extra_data().into(),
        said: Said::default(),
        attested: quoted(&[(SHA256, QUOTED)], digest.as_bytes()),
    }
}

/// The Qualified Name of a key as a primary of a hierarchy.
pub(crate) fn qualified_name(key: &EcdsaKeyPair, hierarchy: u32) -> Vec<u8> {
    let name = name_of(&Area::attestation(key).marshal());
    let digest = HashAlg::Sha256.digest(&[&hierarchy.to_be_bytes(), &name]);
    [&SHA256.to_be_bytes(), digest.as_bytes()].concat()
}

/// The Name of a public area.
pub(crate) fn name_of(public: &[u8]) -> Vec<u8> {
    let digest = HashAlg::Sha256.digest(&[public]);
    [&SHA256.to_be_bytes(), digest.as_bytes()].concat()
}
