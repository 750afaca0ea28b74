//! The seed of a credential: shared with the TPM by its endorsement key alone (Part 1, Annexes B.10.3 and C.6.3).

use aws_lc_rs::{
    agreement::{self, ECDH_P256, ECDH_P384, ECDH_P521, PrivateKey, UnparsedPublicKey},
    error::Unspecified,
    kdf::{SskdfDigestAlgorithmId, get_sskdf_digest_algorithm, sskdf_digest},
    rand,
    rsa::{
        OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512, OaepAlgorithm,
        OaepPublicEncryptingKey, PublicEncryptingKey, PublicKeyComponents,
    },
};
use zeroize::Zeroizing;

use super::{cannot_encrypt, sized};
use crate::{
    HashAlg, Reject,
    wire::{Curve, EccKey, Public, PublicKey, RsaKey},
};

type Seed = Zeroizing<Vec<u8>>;

const LABEL: &[u8] = b"IDENTITY\0";

/// A new seed, and what the TPM needs to find it.
pub(super) fn share(ek: &Public) -> Result<(Seed, Vec<u8>), Reject> {
    match &ek.key {
        PublicKey::Ecc(key) => share_by_ecdh(key, ek.name_alg),
        PublicKey::Rsa(key) => share_by_oaep(key, ek.name_alg),
    }
    .map_err(cannot_encrypt)
}

fn share_by_oaep(key: &RsaKey, hash: HashAlg) -> Result<(Seed, Vec<u8>), Unspecified> {
    let exponent = strip_zeros(&key.exponent.to_be_bytes());
    let components = PublicKeyComponents {
        n: &*key.modulus,
        e: &*exponent,
    };
    let public: PublicEncryptingKey = components.try_into()?;
    let public = OaepPublicEncryptingKey::new(public)?;
    let mut seed = Zeroizing::new(vec![0; hash.digest_len()]);
    rand::fill(&mut seed)?;
    let mut encrypted = vec![0; public.ciphertext_size()];
    let len = public
        .encrypt(oaep(hash)?, &seed, &mut encrypted, Some(LABEL))?
        .len();
    encrypted.truncate(len);
    Ok((seed, encrypted))
}

fn share_by_ecdh(key: &EccKey, hash: HashAlg) -> Result<(Seed, Vec<u8>), Unspecified> {
    let algorithm = match key.curve {
        Curve::P256 => &ECDH_P256,
        Curve::P384 => &ECDH_P384,
        Curve::P521 => &ECDH_P521,
    };
    let ephemeral = PrivateKey::generate(algorithm)?;
    let point = ephemeral.compute_public_key()?;
    let coordinates = point.as_ref().get(1..).ok_or(Unspecified)?;
    let (x, y) = coordinates
        .split_at_checked(key.curve.coordinate_len())
        .ok_or(Unspecified)?;
    let peer = UnparsedPublicKey::new(algorithm, key.point());
    let seed = agreement::agree(&ephemeral, peer, Unspecified, |z| kdfe(hash, z, x, &key.x))?;
    Ok((seed, [sized(x), sized(y)].concat()))
}

/// KDFe (Part 1 §11.4.10.3): both parties are named by the x-coordinates of their public points.
fn kdfe(hash: HashAlg, z: &[u8], party_u: &[u8], party_v: &[u8]) -> Result<Seed, Unspecified> {
    let id = match hash {
        HashAlg::Sha1 => return Err(Unspecified),
        HashAlg::Sha256 => SskdfDigestAlgorithmId::Sha256,
        HashAlg::Sha384 => SskdfDigestAlgorithmId::Sha384,
        HashAlg::Sha512 => SskdfDigestAlgorithmId::Sha512,
    };
    let algorithm = get_sskdf_digest_algorithm(id).ok_or(Unspecified)?;
    let mut seed = Zeroizing::new(vec![0; hash.digest_len()]);
    sskdf_digest(algorithm, z, &[LABEL, party_u, party_v].concat(), &mut seed)?;
    Ok(seed)
}

fn oaep(hash: HashAlg) -> Result<&'static OaepAlgorithm, Unspecified> {
    match hash {
        HashAlg::Sha1 => Err(Unspecified),
        HashAlg::Sha256 => Ok(&OAEP_SHA256_MGF1SHA256),
        HashAlg::Sha384 => Ok(&OAEP_SHA384_MGF1SHA384),
        HashAlg::Sha512 => Ok(&OAEP_SHA512_MGF1SHA512),
    }
}

fn strip_zeros(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().skip_while(|byte| *byte == 0).collect()
}
