//! TPM2_ActivateCredential with a P-256 endorsement key, from the standard's text (Part 1 §24, Annex C.6.3).

use attest::{HashAlg, Name, wire::Reader};
use aws_lc_rs::{
    agreement::{self, PrivateKey, UnparsedPublicKey},
    cipher::{AES_128, DecryptingKey, DecryptionContext, UnboundCipherKey},
    hmac,
};
use plugin_api::Activation;

/// The secret; `None` where a TPM answers TPM_RC_INTEGRITY.
pub(super) fn recover(ek: &PrivateKey, ak: &Name, activation: &Activation) -> Option<Vec<u8>> {
    let seed = seed(ek, &activation.secret)?;
    let mut reader = Reader::new(&activation.credential_blob);
    let mac = reader.sized(32).ok()?;
    let encrypted = reader.rest();
    let mac_key = kdfa(&seed, b"INTEGRITY\0", &[], 32);
    if hmac_of(&mac_key, &[encrypted, ak.as_bytes()]) != mac {
        return None;
    }
    let key = kdfa(&seed, b"STORAGE\0", ak.as_bytes(), 16);
    let mut secret = encrypted.to_vec();
    let key = DecryptingKey::cfb128(UnboundCipherKey::new(&AES_128, &key).unwrap()).unwrap();
    key.decrypt(&mut secret, DecryptionContext::Iv128([0; 16].into()))
        .unwrap();
    Some(Reader::new(&secret).sized(32).ok()?.to_vec())
}

fn seed(ek: &PrivateKey, encrypted: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader::new(encrypted);
    let (x, y) = (reader.sized(32).ok()?, reader.sized(32).ok()?);
    let own = ek.compute_public_key().unwrap();
    let own_x = &own.as_ref()[1..33];
    let peer = UnparsedPublicKey::new(ek.algorithm(), [&[4], x, y].concat());
    let z = agreement::agree(ek, peer, (), |z| Ok(z.to_vec())).ok()?;
    let parts: [&[u8]; 5] = [&1_u32.to_be_bytes(), &z, b"IDENTITY\0", x, own_x];
    Some(HashAlg::Sha256.digest(&parts).as_bytes().to_vec())
}

/// KDFa: one round gives all that is asked for.
fn kdfa(key: &[u8], label: &[u8], context: &[u8], len: usize) -> Vec<u8> {
    let bits = u32::try_from(len * 8).unwrap().to_be_bytes();
    let mut derived = hmac_of(key, &[&1_u32.to_be_bytes(), label, context, &bits]);
    derived.truncate(len);
    derived
}

fn hmac_of(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, &parts.concat()).as_ref().to_vec()
}
