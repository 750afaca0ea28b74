//! Quotes that other software took, by attestation keys of other templates: for looking at evidence, not for letting
//! hosts in. Nobody has shown that the key is in a TPM, so what comes out is no [`VerifiedQuote`](crate::VerifiedQuote).

use crate::{
    HashAlg, Name, Part, PcrSelection, PcrValues, Quote, Reject, SelectedQuote, ak,
    event_log::EventLog,
    strength,
    wire::{ClockInfo, Public, PublicKey, Scheme},
};

/// The public area of a restricted signing key of any template.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CapturedKey {
    public: Public,
    hash: HashAlg,
}

/// A quote that a captured key signed.
#[derive(Clone, Debug)]
pub struct CapturedQuote {
    quote: SelectedQuote,
    is_under_endorsement: bool,
}

impl CapturedKey {
    /// Reads a TPMT_PUBLIC, and checks that a TPM alone can sign with the key, and nothing but its own words (9, 10, 17,
    /// 19, 23).
    ///
    /// # Errors
    ///
    /// The first check that fails.
    pub fn parse(public: &[u8]) -> Result<Self, Reject> {
        let public = Public::parse(public).map_err(|error| Reject::Malformed(Part::AttestationKey, error))?;
        ak::check_essential(&public)?;
        let hash = scheme_hash(&public.key).ok_or(Reject::SignatureScheme)?;
        strength::check(&public.key).map_err(|_| Reject::AkWeak)?;
        Ok(Self { public, hash })
    }

    /// Its Name.
    #[must_use]
    pub fn name(&self) -> Name {
        self.public.name()
    }
}

/// The hash that the key's scheme fixes; a key that leaves it open signs with any, and SHA-1 is none (23).
fn scheme_hash(key: &PublicKey) -> Option<HashAlg> {
    let scheme = match key {
        PublicKey::Ecc(key) => key.scheme,
        PublicKey::Rsa(key) => key.scheme,
    };
    match scheme {
        Scheme::Ecdsa(hash) | Scheme::RsaPss(hash) | Scheme::RsaSsa(hash) => {
            (hash != HashAlg::Sha1).then_some(hash)
        }
        Scheme::Null => None,
    }
}

impl CapturedQuote {
    /// Verifies a quote: about `extra_data`, signed by `key`, over `wanted` (23, 24, 31, 34, 37).
    ///
    /// # Errors
    ///
    /// The first check that fails.
    pub fn verify(
        quote: Quote,
        key: &CapturedKey,
        extra_data: &[u8],
        wanted: &PcrSelection,
    ) -> Result<Self, Reject> {
        let signer = key.name().qualified_under_endorsement();
        let is_under_endorsement =
            signer.is_some_and(|signer| *signer.as_bytes() == *quote.qualified_signer());
        let quote = quote.verify_captured(&key.public.key, key.hash, extra_data)?;
        Ok(Self {
            quote: quote.over(wanted)?,
            is_under_endorsement,
        })
    }

    /// Whether the key is a primary of the endorsement hierarchy (30): else the TPM obfuscates clock, counts and firmware
    /// version.
    #[must_use]
    pub const fn is_under_endorsement(&self) -> bool {
        self.is_under_endorsement
    }

    /// Clock and reset counts.
    #[must_use]
    pub const fn clock(&self) -> ClockInfo {
        self.quote.quote().clock
    }

    /// The values that `log` explains (36, 38, 46, 48, 49, 54). `claimed` are values that somebody read, to name the
    /// PCR that is not explained.
    ///
    /// # Errors
    ///
    /// The first check that fails.
    pub fn explain(&self, log: &EventLog, claimed: Option<&PcrValues>) -> Result<PcrValues, Reject> {
        Ok(self.quote.explain(log, claimed)?.values().clone())
    }

    /// Checks that it signs `values` (36, 38).
    ///
    /// # Errors
    ///
    /// [`Reject::PcrDigest`] if it signs others.
    pub fn matches(&self, values: &PcrValues) -> Result<PcrValues, Reject> {
        Ok(self.quote.matches(values)?.values().clone())
    }
}
