//! A TPM in software, written from the standard's text: it shares no derivation with what it tests.

use aws_lc_rs::{
    agreement,
    agreement::{ECDH_P256, ECDH_P384, ECDH_P521, PrivateKey, UnparsedPublicKey},
    cipher::{DecryptingKey, DecryptionContext},
    encoding::AsDer,
    rsa::{
        KeySize, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OaepPrivateDecryptingKey,
        PrivateDecryptingKey,
    },
};
use x509_parser::{prelude::FromDer, public_key, x509::SubjectPublicKeyInfo};

use super::*;
use crate::wire::Reader;

enum Private {
    Ecc(PrivateKey),
    Rsa(PrivateDecryptingKey),
}

/// An endorsement key with its private half.
struct Ek {
    public: Public,
    private: Private,
}

const SHA256_AES128: (u16, u16) = (0x000B, 128);
const SHA384_AES256: (u16, u16) = (0x000C, 256);
const SHA512_AES256: (u16, u16) = (0x000D, 256);

fn rsa(size: KeySize, bits: u16, algorithms: (u16, u16)) -> Ek {
    let private = PrivateDecryptingKey::generate(size).unwrap();
    let spki = private.public_key().as_der().unwrap();
    let (_, spki) = SubjectPublicKeyInfo::from_der(spki.as_ref()).unwrap();
    let public_key::PublicKey::RSA(key) = spki.parsed().unwrap() else {
        panic!("not RSA")
    };
    let modulus = &key.modulus[key.modulus.len() - usize::from(bits / 8)..];
    let rest = [&bits.to_be_bytes()[..], &0_u32.to_be_bytes(), &sized(modulus)].concat();
    Ek {
        public: public(0x0001, algorithms, &rest),
        private: Private::Rsa(private),
    }
}

fn ecc(curve: u16, algorithm: &'static agreement::Algorithm, algorithms: (u16, u16)) -> Ek {
    let private = PrivateKey::generate(algorithm).unwrap();
    let point = private.compute_public_key().unwrap();
    let (x, y) = point.as_ref()[1..].split_at(point.as_ref().len() / 2);
    Ek {
        public: public(0x0023, algorithms, &curve_and_point(curve, x, y)),
        private: Private::Ecc(private),
    }
}

fn curve_and_point(curve: u16, x: &[u8], y: &[u8]) -> Vec<u8> {
    [&curve.to_be_bytes()[..], &[0, 0x10], &sized(x), &sized(y)].concat()
}

/// A storage key's TPMT_PUBLIC; `rest` is what follows the scheme.
fn public(kind: u16, (name_alg, key_bits): (u16, u16), rest: &[u8]) -> Public {
    let words = [0x0006, key_bits, 0x0043, 0x0010].map(u16::to_be_bytes).concat();
    let head = [
        &kind.to_be_bytes()[..],
        &name_alg.to_be_bytes(),
        &[0, 3, 0, 0xf2, 0, 0],
    ]
    .concat();
    Public::parse(&[&head, &words, rest].concat()).unwrap()
}

fn name(byte: u8) -> Name {
    Name::parse(&[&[0, 0x0B][..], &[byte; 32]].concat()).unwrap()
}

impl Ek {
    /// TPM2_ActivateCredential; `None` where the TPM answers TPM_RC_INTEGRITY.
    fn activate(&self, ak: &Name, blob: &CredentialBlob) -> Option<Vec<u8>> {
        let hash = self.public.name_alg;
        let seed = self.seed(&blob.secret);
        let mut reader = Reader::new(&blob.credential_blob);
        let mac = reader.sized(64).unwrap();
        let encrypted = reader.rest();
        let mac_key = counter_kdf(hash, &seed, b"INTEGRITY\0", &[], hash.digest_len());
        if hmac_of(hash, &mac_key, &[encrypted, ak.as_bytes()]) != mac {
            return None;
        }
        let bits = storage_key_bits(&self.public).unwrap();
        let key = counter_kdf(hash, &seed, b"STORAGE\0", ak.as_bytes(), usize::from(bits / 8));
        let mut secret = encrypted.to_vec();
        decrypt_cfb(&key, &mut secret);
        Some(Reader::new(&secret).sized(64).unwrap().to_vec())
    }

    fn seed(&self, encrypted: &[u8]) -> Vec<u8> {
        let hash = self.public.name_alg;
        match (&self.private, &self.public.key) {
            (Private::Rsa(key), _) => {
                let oaep = match hash {
                    HashAlg::Sha256 => &OAEP_SHA256_MGF1SHA256,
                    _ => &OAEP_SHA384_MGF1SHA384,
                };
                let key = OaepPrivateDecryptingKey::new(key.clone()).unwrap();
                let mut seed = vec![0; key.min_output_size()];
                key.decrypt(oaep, encrypted, &mut seed, Some(b"IDENTITY\0"))
                    .unwrap()
                    .to_vec()
            }
            (Private::Ecc(key), PublicKey::Ecc(public)) => {
                let mut reader = Reader::new(encrypted);
                let (x, y) = (reader.sized(66).unwrap(), reader.sized(66).unwrap());
                reader.end().unwrap();
                let peer = UnparsedPublicKey::new(key.algorithm(), [&[4], x, y].concat());
                let z = agreement::agree(key, peer, (), |z| Ok(z.to_vec())).unwrap();
                let parts: [&[u8]; 5] = [&1_u32.to_be_bytes(), &z, b"IDENTITY\0", x, &public.x];
                hash.digest(&parts).as_bytes().to_vec()
            }
            _ => panic!("halves differ"),
        }
    }
}

fn counter_kdf(hash: HashAlg, key: &[u8], label: &[u8], context: &[u8], len: usize) -> Vec<u8> {
    let bits = u32::try_from(len * 8).unwrap().to_be_bytes();
    let mut derived = Vec::new();
    for counter in 1_u32.. {
        if derived.len() >= len {
            break;
        }
        derived.extend(hmac_of(
            hash,
            key,
            &[&counter.to_be_bytes(), label, context, &bits],
        ));
    }
    derived.truncate(len);
    derived
}

fn hmac_of(hash: HashAlg, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let key = hmac::Key::new(hmac_algorithm(hash).unwrap(), key);
    hmac::sign(&key, &parts.concat()).as_ref().to_vec()
}

fn decrypt_cfb(key: &[u8], in_out: &mut [u8]) {
    let algorithm = if key.len() == 16 { &AES_128 } else { &AES_256 };
    let key = DecryptingKey::cfb128(UnboundCipherKey::new(algorithm, key).unwrap()).unwrap();
    key.decrypt(in_out, DecryptionContext::Iv128([0; 16].into()))
        .unwrap();
}

fn check(ek: &Ek) {
    let (issued, blob) = IssuedCredential::issue(&ek.public, &name(1)).unwrap();
    assert_eq!(
        ek.activate(&name(2), &blob),
        None,
        "recovered for another attestation key"
    );
    let recovered = ek.activate(&name(1), &blob).unwrap();
    let binding = issued.verify(&recovered).unwrap();
    assert_eq!(
        (binding.endorsement_key(), binding.attestation_key()),
        (&ek.public.name(), &name(1))
    );
}

#[test]
fn recovers_with_every_kind_of_endorsement_key() {
    check(&rsa(KeySize::Rsa2048, 2048, SHA256_AES128));
    check(&rsa(KeySize::Rsa3072, 3072, SHA384_AES256));
    check(&rsa(KeySize::Rsa4096, 4096, SHA384_AES256));
    check(&ecc(3, &ECDH_P256, SHA256_AES128));
    check(&ecc(4, &ECDH_P384, SHA384_AES256));
    check(&ecc(5, &ECDH_P521, SHA512_AES256));
}

#[test]
fn verifies_nothing_but_the_secret() {
    let ek = ecc(3, &ECDH_P256, SHA256_AES128);
    let issue = || IssuedCredential::issue(&ek.public, &name(1)).unwrap();
    let (issued, blob) = issue();
    let recovered = ek.activate(&name(1), &blob).unwrap();
    let check = |answer: &[u8]| assert_eq!(issue().0.verify(answer), Err(Reject::CredentialMismatch));
    check(&recovered);
    check(&[]);
    check(&[0; 32]);
    let longer = [&recovered[..], &[0]].concat();
    assert_eq!(issued.verify(&longer), Err(Reject::CredentialMismatch));
}

#[test]
fn every_byte_of_a_recovered_secret_counts() {
    for ek in [
        ecc(3, &ECDH_P256, SHA256_AES128),
        rsa(KeySize::Rsa2048, 2048, SHA256_AES128),
    ] {
        let changes = swtpm_tests::tampered(&[0x5a; SECRET_LEN]).count();
        for change in 0..changes {
            let (issued, blob) = IssuedCredential::issue(&ek.public, &name(1)).unwrap();
            let recovered = ek.activate(&name(1), &blob).unwrap();
            // How many changes a byte has depends on it.
            if let Some(changed) = swtpm_tests::tampered(&recovered).nth(change) {
                assert_eq!(
                    issued.verify(&changed.bytes),
                    Err(Reject::CredentialMismatch),
                    "{changed:?}"
                );
            }
        }
    }
}

#[test]
fn refuses_keys_that_nothing_can_be_encrypted_to() {
    let check = |ek: &Public, expected| {
        let issued = IssuedCredential::issue(ek, &name(1)).map(|_| ());
        assert_eq!(issued, Err(expected));
    };
    let off_curve = curve_and_point(3, &[1; 32], &[1; 32]);
    check(&public(0x0023, SHA256_AES128, &off_curve), Reject::EkWeak);
    check(&public(0x0023, (0x0004, 128), &off_curve), Reject::EkTemplate);
    let even = [&[8, 0, 0, 0, 0, 0][..], &sized(&[2; 256])].concat();
    check(&public(0x0001, SHA256_AES128, &even), Reject::EkWeak);
    let signing = [0, 0x23, 0, 0x0B, 0, 5, 4, 0x72, 0, 0, 0, 0x10, 0, 0x10];
    let signing = Public::parse(&[&signing[..], &off_curve].concat()).unwrap();
    check(&signing, Reject::EkTemplate);
}

#[test]
fn never_shows_the_secret() {
    let ek = ecc(3, &ECDH_P256, SHA256_AES128);
    let (issued, _) = IssuedCredential::issue(&ek.public, &name(1)).unwrap();
    let shown = format!("{issued:?}");
    assert!(
        shown.starts_with("IssuedCredential { binding: KeyBinding"),
        "{shown}"
    );
    assert!(shown.ends_with(", .. }"), "{shown}");
}
