//! Quotes of other systems, for whoever judges them without a server: any nonce, and attestation keys that others made.
//!
//! What is proven here is a type of its own, with which no host attests: [`VerifiedQuote`](crate::VerifiedQuote) is about
//! one connection and by a key of ours.

mod forms;

use aws_lc_rs::constant_time;

use crate::{
    HashAlg, Name, Part, PcrSelection, PcrSet, PcrValues, Reject, VerifiedPcrs, ak,
    event_log::{self, EventLog},
    ima::{self, MeasurementList, Progress},
    signing, strength,
    wire::{Attest, Attested, ClockInfo, Curve, Public, PublicKey, Scheme, Signature},
};

/// An attestation key that somebody else made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CapturedKey {
    key: PublicKey,
    /// Of a bare key the attributes are not known.
    public: Option<Public>,
}

/// A quote as it was captured.
#[derive(Clone, Debug)]
pub struct CapturedQuote {
    statement: Vec<u8>,
    attest: Attest,
    selection: PcrSelection,
    pcr_digest: Box<[u8]>,
    signature: Vec<u8>,
}

/// What a captured key signed, about a nonce. Only [`CapturedQuote::verify`] makes one.
#[derive(Clone, Debug)]
pub struct SignedQuote {
    /// Clock and reset counts.
    pub clock: ClockInfo,
    /// Vendor's firmware version.
    pub firmware_version: u64,
    /// Whether the key is a primary of the endorsement hierarchy; unknown if only the key itself is. In any other
    /// hierarchy the TPM obfuscates clock, counts and firmware version (30, 44).
    pub is_endorsed: Option<bool>,
    selection: PcrSelection,
    pcr_digest: Box<[u8]>,
    hash: HashAlg,
}

impl CapturedKey {
    /// Reads a TPM2B_PUBLIC, a TPMT_PUBLIC, or a SubjectPublicKeyInfo in DER, and checks that nobody can compute the key
    /// (9, 10), and that the TPM signs nothing with it that is not its own (17, 19, 23). Of a SubjectPublicKeyInfo the
    /// latter is not known, and so not checked.
    ///
    /// # Errors
    ///
    /// [`Reject::Malformed`], or the first check that fails.
    pub fn parse(bytes: &[u8]) -> Result<Self, Reject> {
        let read = match Public::parse(unsized_area(bytes)) {
            Ok(public) => {
                ak::check_essential(&public)?;
                Self {
                    key: public.key.clone(),
                    public: Some(public),
                }
            }
            Err(error) => Self {
                key: forms::subject_public_key(bytes)
                    .ok_or(Reject::Malformed(Part::AttestationKey, error))?,
                public: None,
            },
        };
        let fixed = scheme(&read.key);
        // A restricted key fixes its scheme, and SHA-1 is no hash to sign with.
        if read.public.is_some() && fixed == Scheme::Null || hash(fixed) == Some(HashAlg::Sha1) {
            return Err(Reject::SignatureScheme);
        }
        strength::check(&read.key).map_err(|_| Reject::AkWeak)?;
        Ok(read)
    }

    /// Its Name, if its attributes are known.
    #[must_use]
    pub fn name(&self) -> Option<Name> {
        self.public.as_ref().map(Public::name)
    }

    /// What kind of key it is.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match &self.key {
            PublicKey::Ecc(key) => match key.curve {
                Curve::P256 => "ECC P-256",
                Curve::P384 => "ECC P-384",
                Curve::P521 => "ECC P-521",
            },
            PublicKey::Rsa(_) => "RSA",
        }
    }

    /// Verifies a signature (23, 24), and gives the hash that was signed with. A plain one says no scheme: it is that of
    /// the key, or any, first that whose digests are as long as `pcr_digest`.
    fn verify(&self, statement: &[u8], pcr_digest: &[u8], signature: &[u8]) -> Result<HashAlg, Reject> {
        let candidates = match Signature::parse(signature) {
            Ok(signature) => vec![signature],
            Err(error) => forms::plain(&self.key, signature, pcr_digest.len())
                .ok_or(Reject::Malformed(Part::Signature, error))?,
        };
        // The first says why: it is the likeliest.
        let mut refused = None;
        for signature in candidates {
            match self.verify_one(statement, &signature) {
                Ok(hash) => return Ok(hash),
                Err(reject) => refused = refused.or(Some(reject)),
            }
        }
        Err(refused.unwrap_or(Reject::SignatureInvalid))
    }

    fn verify_one(&self, statement: &[u8], signature: &Signature) -> Result<HashAlg, Reject> {
        let (named, hash) = match signature {
            Signature::Ecdsa { hash, .. } => (Scheme::Ecdsa(*hash), *hash),
            Signature::RsaPss { hash, .. } => (Scheme::RsaPss(*hash), *hash),
            Signature::RsaSsa { hash, .. } => (Scheme::RsaSsa(*hash), *hash),
        };
        let mut key = self.key.clone();
        let (PublicKey::Ecc(crate::wire::EccKey { scheme, .. })
        | PublicKey::Rsa(crate::wire::RsaKey { scheme, .. })) = &mut key;
        if *scheme == Scheme::Null {
            *scheme = named;
        }
        signing::verify(&key, statement, signature)?;
        Ok(hash)
    }
}

const fn scheme(key: &PublicKey) -> Scheme {
    match key {
        PublicKey::Ecc(key) => key.scheme,
        PublicKey::Rsa(key) => key.scheme,
    }
}

const fn hash(scheme: Scheme) -> Option<HashAlg> {
    match scheme {
        Scheme::Ecdsa(hash) | Scheme::RsaPss(hash) | Scheme::RsaSsa(hash) => Some(hash),
        Scheme::Null => None,
    }
}

impl CapturedQuote {
    /// Reads a TPMS_ATTEST, with or without its size, and the signature that came with it: a TPMT_SIGNATURE, or what
    /// tpm2-tools call plain, which is DER for ECDSA and the bare number for RSA (28, 29).
    ///
    /// # Errors
    ///
    /// The statement is malformed, the TPM did not make it, or it is no quote.
    pub fn parse(statement: &[u8], signature: &[u8]) -> Result<Self, Reject> {
        let statement = unsized_area(statement);
        let attest = Attest::parse(statement).map_err(|error| Reject::Malformed(Part::Statement, error))?;
        if attest.magic != Attest::MAGIC {
            return Err(Reject::AttestMagic);
        }
        let Attested::Quote {
            selection,
            pcr_digest,
        } = attest.attested.clone()
        else {
            return Err(Reject::AttestType);
        };
        Ok(Self {
            statement: statement.into(),
            attest,
            selection,
            pcr_digest,
            signature: signature.into(),
        })
    }

    /// What it says that it is over. Nobody has shown who says so.
    #[must_use]
    pub const fn claimed_selection(&self) -> &PcrSelection {
        &self.selection
    }

    /// Verifies it: about exactly this nonce, signed by `key`, and over PCRs of a bank that counts (23, 24, 31, 34, 37).
    ///
    /// # Errors
    ///
    /// The first check that fails.
    pub fn verify(self, key: &CapturedKey, nonce: &[u8]) -> Result<SignedQuote, Reject> {
        constant_time::verify_slices_are_equal(&self.attest.extra_data, nonce)
            .map_err(|_| Reject::ExtraData)?;
        let hash = key.verify(&self.statement, &self.pcr_digest, &self.signature)?;
        let endorsed = key.name().and_then(|name| name.qualified_under_endorsement());
        let quote = SignedQuote {
            clock: self.attest.clock,
            firmware_version: self.attest.firmware_version,
            is_endorsed: endorsed.map(|signer| *signer.as_bytes() == *self.attest.qualified_signer),
            selection: self.selection,
            pcr_digest: self.pcr_digest,
            hash,
        };
        quote.check_banks()?;
        Ok(quote)
    }
}

impl SignedQuote {
    /// Which PCRs it covers.
    #[must_use]
    pub const fn selection(&self) -> &PcrSelection {
        &self.selection
    }

    /// The values that `log` explains, if they are what was signed (34, 36, 37, 46). `claimed` serves to name the PCR
    /// that is not explained.
    ///
    /// # Errors
    ///
    /// As [`event_log::explain`].
    pub fn explain(&self, log: &EventLog, claimed: Option<&PcrValues>) -> Result<PcrValues, Reject> {
        event_log::explain(&self.selection, &self.pcr_digest, self.hash, claimed, log)
    }

    /// The values that the kernel's `list` explains together with the firmware's `log`, if they are what was signed (34, 36,
    /// 37, 46, 56): all of IMA's PCR is the list's, all else the log's.
    ///
    /// # Errors
    ///
    /// As [`event_log::replays`] and [`ima::explain`].
    pub fn explain_list(&self, list: &MeasurementList, log: Option<&EventLog>) -> Result<PcrValues, Reject> {
        let banks = self.selection.banks();
        let banks = banks.map(|(alg, pcrs)| (alg, pcrs.iter().filter(|pcr| *pcr != ima::PCR).collect()));
        let firmware = PcrSelection::new(banks.collect()).map_err(|_| Reject::PcrSelection)?;
        let ways = match log {
            Some(log) => event_log::replays(&firmware, None, log, PcrSet::default())?,
            None => vec![PcrValues::default()],
        };
        let boot = Progress::of_boot(self.clock.reset_count);
        let mut refused = Reject::ImaUnexplained(0);
        for others in ways {
            let quoted = ima::Quoted::Digest {
                selection: &self.selection,
                pcr_digest: &self.pcr_digest,
                hash: self.hash,
                others: &others,
            };
            match ima::explain(list.clone(), 0, &boot, boot.reset_count(), &quoted) {
                Ok(proven) => return self.matches(&others.with(proven.progress().pcrs())),
                Err(reject) => refused = reject,
            }
        }
        Err(refused)
    }

    /// Checks that it signs `values`, and that firmware extended those that are firmware's (36, 38).
    ///
    /// # Errors
    ///
    /// [`Reject::PcrDigest`] if it signs others; [`Reject::PcrUninitialized`] or [`Reject::PcrDynamicLaunch`].
    pub fn matches(&self, values: &PcrValues) -> Result<PcrValues, Reject> {
        if values.digest(&self.selection, self.hash).as_bytes() != &*self.pcr_digest {
            return Err(Reject::PcrDigest);
        }
        let values = values.select(&self.selection);
        VerifiedPcrs::new(values.clone(), &self.selection)?;
        Ok(values)
    }

    /// The digest over the PCRs, and the hash that it was made with.
    #[must_use]
    pub fn pcr_digest(&self) -> (&[u8], HashAlg) {
        (&self.pcr_digest, self.hash)
    }

    fn check_banks(&self) -> Result<(), Reject> {
        if self.selection.is_empty() {
            return Err(Reject::PcrSelection);
        }
        if self.selection.banks().all(|(alg, _)| alg == HashAlg::Sha1) {
            return Err(Reject::PcrBank(HashAlg::Sha1));
        }
        Ok(())
    }
}

/// What stands behind a size, if that is the size of all the rest.
fn unsized_area(bytes: &[u8]) -> &[u8] {
    match bytes.split_first_chunk() {
        Some((size, rest)) if usize::from(u16::from_be_bytes(*size)) == rest.len() => rest,
        _ => bytes,
    }
}
