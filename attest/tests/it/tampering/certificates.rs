//! Endorsement certificates up to a root, over a certificate that is sent along.
//!
//! A signature is over what is signed and not over what holds both together: of the outermost SEQUENCE the tag, and those
//! of the algorithm and of the BIT STRING behind it, may be of another class, or call bits unused that are there. X.509
//! parsers read them all the same; the certificate says what it said.

use attest::{
    Reject,
    ek::{CaCertificate, CaKey, CertificateId, EkCertificate, EkHash, EkRoots, Expiry, TpmAttributes},
};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, SignatureAlgorithm};
use swtpm_tests::{Change, Tampered};

use super::check;
use crate::{
    fixtures::{ek_certificate, ek_roots},
    vendor::{Ca, NOW, roots},
};

/// All that is known of a TPM by its certificate.
type Facts = (CertificateId, TpmAttributes, Option<EkHash>, CaKey, CaKey);

/// A certificate, what is sent along, and whom it leads to.
struct Evidence {
    leaf: Vec<u8>,
    sent: Vec<Vec<u8>>,
    roots: EkRoots,
    now: i64,
}

impl Evidence {
    /// Certificates by CAs with keys of one kind, for an endorsement key of the same.
    fn made(algorithm: &'static SignatureAlgorithm) -> Self {
        let root = Ca::root_for(algorithm);
        let between = root.issue_for(algorithm);
        Self {
            leaf: between.endorse(&KeyPair::generate_for(algorithm).unwrap(), |_| ()),
            sent: vec![between.der.clone()],
            roots: roots(Expiry::Enforced, &[&root]),
            now: NOW,
        }
    }

    /// Of a real TPM, up to the root of its maker.
    fn of_vendor(name: &str) -> Self {
        Self {
            leaf: EkCertificate::parse(&ek_certificate(name))
                .unwrap()
                .as_der()
                .into(),
            sent: Vec::new(),
            roots: ek_roots(Expiry::Ignored),
            now: NOW,
        }
    }

    fn appraise(&self, leaf: &[u8], sent: &[Vec<u8>]) -> Result<Facts, Reject> {
        let sent: Vec<_> = sent
            .iter()
            .filter_map(|der| CaCertificate::parse(der).ok())
            .collect();
        let trusted = self.roots.verify(EkCertificate::parse(leaf)?, &sent, self.now)?;
        let certificate = trusted.get();
        Ok((
            certificate.id(),
            certificate.attributes().clone(),
            certificate.key_hash(),
            trusted.issuer_key(),
            trusted.root_key(),
        ))
    }

    fn check(&self) {
        let frame = Frame::of(&self.leaf);
        let needed = check(
            &self.leaf,
            |leaf| self.appraise(leaf, &self.sent),
            |changed| frame.reason(changed),
        );
        assert_eq!(needed, [FRAME, PADDING].into());
        for index in 0..self.sent.len() {
            let appraise = |between: &[u8]| {
                let mut sent = self.sent.clone();
                sent[index] = between.into();
                self.appraise(&self.leaf, &sent)
            };
            let frame = Frame::of(&self.sent[index]);
            let needed = check(&self.sent[index], appraise, |changed| frame.reason(changed));
            assert_eq!(needed, [FRAME].into());
        }
    }
}

const FRAME: &str = "tag around what is signed";
const PADDING: &str = "padding of NV memory";

/// Where the parts of a certificate end.
struct Frame {
    signed: usize,
    /// Where the signature itself begins.
    signature: usize,
    /// The certificate with one byte of padding.
    padded: Vec<u8>,
}

impl Frame {
    /// Of a certificate of some hundred bytes: lengths of the outer parts take two bytes.
    fn of(der: &[u8]) -> Self {
        let long = |at: usize| at + 4 + usize::from(u16::from_be_bytes([der[at + 2], der[at + 3]]));
        let signed = long(4);
        let algorithm = signed + 2 + usize::from(der[signed + 1]);
        let header = match der[algorithm + 1] {
            0x81 => 3,
            0x82 => 4,
            _ => 2,
        };
        Self {
            signed,
            signature: algorithm + header + 1,
            padded: [der, &[0]].concat(),
        }
    }

    fn reason(&self, changed: &Tampered) -> Option<&'static str> {
        let is_frame = changed.at == 0 || (self.signed..self.signature).contains(&changed.at);
        match changed.how {
            Change::Replaced(_) if is_frame => Some(FRAME),
            // Before a last byte that is zero, too.
            Change::Inserted(0) if changed.bytes == self.padded => Some(PADDING),
            _ => None,
        }
    }
}

#[test]
fn every_byte_of_an_ecc_certificate_and_its_chain_counts() {
    Evidence::made(&PKCS_ECDSA_P256_SHA256).check();
    Evidence::made(&PKCS_ECDSA_P384_SHA384).check();
}

#[test]
fn every_byte_of_an_rsa_certificate_and_its_chain_counts() {
    Evidence::made(&PKCS_RSA_SHA256).check();
}

#[test]
fn every_byte_of_the_certificate_of_a_real_tpm_counts() {
    for name in [
        "keylime-st_ecdsa_sha256_der.pem",
        "keylime-st_sha256_with_rsa_der.pem",
    ] {
        Evidence::of_vendor(name).check();
    }
}
