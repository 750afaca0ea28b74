//! A TPM in this very process, as far as a prover needs one. It says what it is told to say: for load, for
//! properties, and for evidence that no TPM would give; never the only proof that a check works.

mod credential;
pub mod platform;
pub mod structures;
pub mod vendor;

use attest::{HashAlg, Name, PcrSelection, PcrSet, PcrValues};
use aws_lc_rs::{
    agreement::{ECDH_P256, PrivateKey},
    signature::EcdsaKeyPair,
};
use plugin_api::{
    Activation, RawCertification, RawQuote, Sealed, SealedKey, Sealing, TpmDevice, TpmEk, TpmError,
    TpmIdentity, TpmKey,
};
use svid::TrustDomain;
use zeroize::Zeroizing;

use structures::{Area, Said, Statement, quoted, sign, signing_key, sized};

/// A TPM with a P-256 endorsement key (template L-2) and one attestation key.
pub struct SoftwareTpm {
    ek: PrivateKey,
    ek_area: Area,
    ak: EcdsaKeyPair,
    /// The attestation key's public area, as it is shown.
    pub ak_area: Area,
    /// The values of its PCRs.
    pub values: PcrValues,
    /// Its active banks.
    pub banks: Vec<HashAlg>,
    /// The certificate that it shows for its endorsement key.
    pub certificate: Option<Vec<u8>>,
    /// What it says of itself; each quote takes a millisecond.
    pub said: Said,
    /// How many quotes it made.
    pub quotes: usize,
    /// The keys that it made for SVIDs, and their public areas as they are shown.
    pub keys: Vec<(EcdsaKeyPair, Area)>,
    /// What it does to a statement before it signs it.
    pub alter: fn(&mut Statement),
}

/// TPM_RH_ENDORSEMENT.
const ENDORSEMENT: u32 = 0x4000_000b;

impl Default for SoftwareTpm {
    fn default() -> Self {
        let ek = PrivateKey::generate(&ECDH_P256).unwrap();
        let point = ek.compute_public_key().unwrap();
        let ak = signing_key();
        Self {
            ek_area: Area::endorsement_of(point.as_ref()),
            ek,
            ak_area: Area::attestation(&ak),
            ak,
            values: PcrValues::default(),
            banks: vec![HashAlg::Sha256],
            certificate: None,
            said: Said {
                clock: 1_000_000,
                ..Said::default()
            },
            quotes: 0,
            keys: Vec::new(),
            alter: |_| (),
        }
    }
}

impl SoftwareTpm {
    /// A TPM whose PCRs have these values.
    #[must_use]
    pub fn with(values: PcrValues) -> Self {
        Self {
            values,
            ..Self::default()
        }
    }

    /// TPMT_PUBLIC of the endorsement key.
    #[must_use]
    pub fn endorsement_key(&self) -> Vec<u8> {
        self.ek_area.marshal()
    }

    fn qualified_name(&self) -> Vec<u8> {
        let name = name_of(&self.ak_area.marshal());
        let digest = HashAlg::Sha256.digest(&[&ENDORSEMENT.to_be_bytes(), &name]);
        [&structures::SHA256.to_be_bytes(), digest.as_bytes()].concat()
    }

    /// What is selected of the active banks.
    fn active(&self, selection: &PcrSelection) -> Vec<(HashAlg, PcrSet)> {
        let banks = selection.banks();
        banks.filter(|(alg, _)| self.banks.contains(alg)).collect()
    }

    fn statement(&self, extra_data: &[u8; 32], selection: &PcrSelection) -> Statement {
        let selection = PcrSelection::new(self.active(selection)).unwrap_or_default();
        let digest = self.values.digest(&selection, HashAlg::Sha256);
        let banks: Vec<_> = selection
            .banks()
            .map(|(alg, set)| (alg.to_tpm(), set.mask()))
            .collect();
        self.says(0x8018, extra_data, quoted(&banks, digest.as_bytes()))
    }

    fn says(&self, kind: u16, extra_data: &[u8; 32], attested: Vec<u8>) -> Statement {
        Statement {
            magic: 0xff54_4347,
            kind,
            signer: self.qualified_name(),
            extra_data: extra_data.to_vec(),
            said: self.said,
            attested,
        }
    }

    /// The key that a context stands for.
    fn key(&self, key: &TpmKey) -> &(EcdsaKeyPair, Area) {
        &self.keys[usize::from(key.context[0])]
    }
}

impl TpmDevice for SoftwareTpm {
    fn identify(&mut self, _trust_domain: &TrustDomain) -> Result<TpmIdentity, TpmError> {
        let ek = TpmEk {
            public: self.endorsement_key(),
            certificate: self.certificate.clone(),
            chain: Vec::new(),
        };
        Ok(TpmIdentity {
            endorsement_keys: vec![ek],
            attestation_key: self.ak_area.marshal(),
        })
    }

    fn quote(&mut self, extra_data: &[u8; 32], selection: &PcrSelection) -> Result<RawQuote, TpmError> {
        self.quotes += 1;
        self.said.clock += 1;
        let mut statement = self.statement(extra_data, selection);
        (self.alter)(&mut statement);
        let attest = statement.marshal();
        Ok(RawQuote {
            signature: sign(&self.ak, &attest),
            attest,
        })
    }

    fn activate(&mut self, activation: &Activation) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let ak = Name::parse(&name_of(&self.ak_area.marshal())).unwrap();
        credential::recover(&self.ek, &ak, activation)
            .map(Zeroizing::new)
            .ok_or(TpmError::Credential)
    }

    fn read_pcrs(&mut self, selection: &PcrSelection) -> Result<PcrValues, TpmError> {
        let active = PcrSelection::new(self.active(selection)).unwrap_or_default();
        Ok(self.values.select(&active))
    }

    fn create_key(&mut self) -> Result<TpmKey, TpmError> {
        let key = signing_key();
        let area = Area::signing(&key);
        let made = TpmKey {
            public: area.marshal(),
            context: vec![u8::try_from(self.keys.len()).unwrap()],
        };
        self.keys.push((key, area));
        Ok(made)
    }

    fn sign(&mut self, key: &TpmKey, message: &[u8]) -> Result<Vec<u8>, TpmError> {
        Ok(sign(&self.key(key).0, message))
    }

    fn certify(&mut self, key: &TpmKey, extra_data: &[u8; 32]) -> Result<RawCertification, TpmError> {
        self.said.clock += 1;
        let name = sized(&name_of(&self.key(key).1.marshal()));
        let mut statement = self.says(0x8017, extra_data, [name.clone(), name].concat());
        (self.alter)(&mut statement);
        let attest = statement.marshal();
        Ok(RawCertification {
            signature: sign(&self.ak, &attest),
            attest,
        })
    }

    /// Hides nothing: who reads what it returns has the key.
    fn seal(&mut self, key: &SealedKey, sealing: &Sealing) -> Result<Sealed, TpmError> {
        Ok(Sealed {
            public: sealing.pcr_digest().to_vec(),
            private: key.to_vec(),
            pcrs: sealing.pcrs().clone(),
            parent: None,
        })
    }

    fn unseal(&mut self, sealed: &Sealed) -> Result<Option<SealedKey>, TpmError> {
        let held = self.values.digest(&sealed.pcrs, HashAlg::Sha256);
        let key = sealed.private.as_slice().try_into().ok();
        Ok(key
            .filter(|_| held.as_bytes() == sealed.public)
            .map(Zeroizing::new))
    }
}

fn name_of(public: &[u8]) -> Vec<u8> {
    let digest = HashAlg::Sha256.digest(&[public]);
    [&structures::SHA256.to_be_bytes(), digest.as_bytes()].concat()
}
