//! What a quote is about: one connection, one certificate request, one hello.
//!
//! ```text
//!   extraData = SHA-256( "plastron/quote/v1" ‖ kind ‖ E ‖ N ‖ SHA-256(CSR) or zeros ‖ SHA-256(hello) )
//! ```
//!
//! E is the TLS exporter of the connection. N is zeros in a connection's first message, the server's nonce in
//! each later one. All parts have a fixed width. Prover and verifier make it here, so that they can't differ.

use crate::HashAlg;

const LABEL: &[u8] = b"plastron/quote/v1";

/// What evidence is for. One kind never passes for another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EvidenceKind {
    /// AttestAgent.
    Attest,
    /// The certification of a key.
    Certify,
    /// An agent session.
    Session,
}

/// The parts of what a quote is about.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// What the evidence is for.
    pub kind: EvidenceKind,
    /// TLS exporter of the connection.
    pub exporter: &'a [u8; 32],
    /// The server's nonce; zeros in the first message of a connection.
    pub nonce: &'a [u8; 32],
    /// The certificate request in DER; empty where there is none.
    pub csr: &'a [u8],
    /// [`hello_digest`] of the hello, as sent.
    pub hello: &'a [u8; 32],
}

impl Binding<'_> {
    /// The value that the TPM signs along.
    #[must_use]
    pub fn extra_data(&self) -> [u8; 32] {
        let kind = match self.kind {
            EvidenceKind::Attest => 1,
            EvidenceKind::Session => 2,
            EvidenceKind::Certify => 3,
        };
        let csr = if self.csr.is_empty() {
            [0; 32]
        } else {
            sha256(&[self.csr])
        };
        sha256(&[LABEL, &[kind], self.exporter, self.nonce, &csr, self.hello])
    }
}

/// SHA-256 of a hello: all that later evidence on its connection needs of it.
#[must_use]
pub fn hello_digest(hello: &[u8]) -> [u8; 32] {
    sha256(&[hello])
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    HashAlg::Sha256
        .digest(parts)
        .as_bytes()
        .first_chunk()
        .copied()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Binding<'static> = Binding {
        kind: EvidenceKind::Attest,
        exporter: &[1; 32],
        nonce: &[0; 32],
        csr: b"csr",
        hello: &[3; 32],
    };

    #[test]
    fn is_the_hash_that_the_protocol_says() {
        let message = [LABEL, &[1], &[1; 32], &[0; 32], &sha256(&[b"csr"]), &[3; 32]].concat();
        assert_eq!(BASE.extra_data(), sha256(&[&message]));
        assert_eq!(message.len(), LABEL.len() + 1 + 4 * 32);
    }

    #[test]
    fn every_part_counts() {
        let others = [
            Binding {
                kind: EvidenceKind::Session,
                ..BASE
            },
            Binding {
                kind: EvidenceKind::Certify,
                ..BASE
            },
            Binding {
                exporter: &[2; 32],
                ..BASE
            },
            Binding {
                nonce: &[2; 32],
                ..BASE
            },
            Binding { csr: b"cst", ..BASE },
            Binding { csr: b"", ..BASE },
            Binding {
                hello: &[4; 32],
                ..BASE
            },
        ];
        for other in others {
            assert_ne!(other.extra_data(), BASE.extra_data(), "{other:?}");
        }
    }
}
