//! Attestation keys: made in the TPM, never leaving it, signing nothing but what the TPM itself says.

use crate::{
    HashAlg, Name, Part, Reject,
    credential::KeyBinding,
    wire::{Curve, Public, PublicKey, Scheme, Symmetric},
};

/// The public area of a key that can be an attestation key of ours. Whose it is, nobody has shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AttestationKey {
    public: Public,
    name: Name,
}

/// An attestation key that is known to live in the TPM of a certain endorsement key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifiedAk(AttestationKey);

const FIXED_TPM: u32 = 1 << 1;
const FIXED_PARENT: u32 = 1 << 4;
const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
const RESTRICTED: u32 = 1 << 16;
pub(crate) const DECRYPT: u32 = 1 << 17;
const SIGN: u32 = 1 << 18;
/// What keeps the key in this TPM, and keeps it from signing what others hand it.
pub(crate) const ESSENTIAL: u32 = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | RESTRICTED | SIGN;
/// These, userWithAuth and noDA: exactly what our template sets.
const TEMPLATE: u32 = 0x0005_0472;

impl AttestationKey {
    /// Reads a TPMT_PUBLIC, and checks that it is made by our template (17, 18, 19, 23).
    ///
    /// A TPM loads a key whose private half it was given only without fixedTPM, fixedParent and restricted, so
    /// these attributes are the whole defence against a key made in software.
    ///
    /// # Errors
    ///
    /// The first check that fails.
    pub fn parse(public: &[u8]) -> Result<Self, Reject> {
        let public = Public::parse(public).map_err(|error| Reject::Malformed(Part::AttestationKey, error))?;
        if public.attributes & (ESSENTIAL | DECRYPT) != ESSENTIAL {
            return Err(Reject::AkAttributes);
        }
        if public.name_alg == HashAlg::Sha1 {
            return Err(Reject::AkNameHash);
        }
        if !is_template(&public) {
            return Err(Reject::AkTemplate);
        }
        Ok(Self {
            name: public.name(),
            public,
        })
    }

    /// Its public area.
    #[must_use]
    pub const fn public(&self) -> &Public {
        &self.public
    }

    /// Its Name.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// Proves the key by a credential that its TPM recovered (20–22).
    ///
    /// # Errors
    ///
    /// [`Reject::CredentialMismatch`] if the credential was made for another key.
    pub fn activated(self, binding: &KeyBinding) -> Result<VerifiedAk, Reject> {
        if *binding.attestation_key() != self.name {
            return Err(Reject::CredentialMismatch);
        }
        Ok(VerifiedAk(self))
    }

    /// Proves the key by memory: `remembered` was activated before, and a TPM keeps its keys.
    ///
    /// # Errors
    ///
    /// [`Reject::AkOfOtherHost`] if it is another key.
    pub fn remembered(self, remembered: &Public) -> Result<VerifiedAk, Reject> {
        if self.public != *remembered {
            return Err(Reject::AkOfOtherHost);
        }
        Ok(VerifiedAk(self))
    }
}

impl VerifiedAk {
    /// The key.
    #[must_use]
    pub const fn key(&self) -> &AttestationKey {
        &self.0
    }
}

fn is_template(public: &Public) -> bool {
    let PublicKey::Ecc(key) = &public.key else {
        return false;
    };
    public.attributes == TEMPLATE
        && public.name_alg == HashAlg::Sha256
        && public.auth_policy.is_empty()
        && key.curve == Curve::P256
        && key.scheme == Scheme::Ecdsa(HashAlg::Sha256)
        && key.symmetric == Symmetric::Null
}

#[cfg(test)]
mod tests {
    use super::*;

    /// TPMT_PUBLIC of our template with these attributes, name hash, scheme hash, curve and policy.
    fn public(attributes: u32, name_alg: u16, hash: u16, curve: u16, policy: &[u8]) -> Vec<u8> {
        let words = |words: &[u16]| {
            words
                .iter()
                .copied()
                .flat_map(u16::to_be_bytes)
                .collect::<Vec<_>>()
        };
        let sized = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
        [
            words(&[0x0023, name_alg]),
            attributes.to_be_bytes().to_vec(),
            sized(policy),
            words(&[0x0010, 0x0018, hash, curve, 0x0010]),
            sized(&[1; 32]),
            sized(&[2; 32]),
        ]
        .concat()
    }

    fn check(public: &[u8], expected: Result<(), Reject>) {
        assert_eq!(AttestationKey::parse(public).map(drop), expected);
    }

    #[test]
    fn our_template_is_accepted() {
        check(&public(TEMPLATE, 0x0b, 0x0b, 3, &[]), Ok(()));
    }

    #[test]
    fn a_key_that_could_be_made_in_software_is_refused() {
        for missing in [FIXED_TPM, FIXED_PARENT, SENSITIVE_DATA_ORIGIN, RESTRICTED, SIGN] {
            check(
                &public(TEMPLATE & !missing, 0x0b, 0x0b, 3, &[]),
                Err(Reject::AkAttributes),
            );
        }
        check(
            &public(TEMPLATE | DECRYPT, 0x0b, 0x0b, 3, &[]),
            Err(Reject::AkAttributes),
        );
    }

    #[test]
    fn other_attributes_policies_and_schemes_are_refused() {
        for more in [1 << 2, 1 << 7, 1 << 11, 1 << 19, 1 << 31] {
            check(
                &public(TEMPLATE | more, 0x0b, 0x0b, 3, &[]),
                Err(Reject::AkTemplate),
            );
        }
        check(
            &public(TEMPLATE & !(1 << 10), 0x0b, 0x0b, 3, &[]),
            Err(Reject::AkTemplate),
        );
        check(
            &public(TEMPLATE, 0x0b, 0x0b, 3, &[7; 32]),
            Err(Reject::AkTemplate),
        );
        check(&public(TEMPLATE, 0x0b, 0x0c, 3, &[]), Err(Reject::AkTemplate));
        check(&public(TEMPLATE, 0x0c, 0x0b, 3, &[]), Err(Reject::AkTemplate));
        check(&public(TEMPLATE, 0x0b, 0x0b, 4, &[]), Err(Reject::AkTemplate));
        check(&public(TEMPLATE, 0x04, 0x0b, 3, &[]), Err(Reject::AkNameHash));
    }

    #[test]
    fn bytes_that_are_no_key_are_malformed() {
        let good = public(TEMPLATE, 0x0b, 0x0b, 3, &[]);
        for len in 0..good.len() {
            assert!(
                matches!(AttestationKey::parse(&good[..len]), Err(Reject::Malformed(..))),
                "{len}"
            );
        }
        assert!(matches!(
            AttestationKey::parse(&[&good[..], &[0]].concat()),
            Err(Reject::Malformed(..))
        ));
    }
}
