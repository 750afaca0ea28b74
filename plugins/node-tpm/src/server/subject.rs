//! What the quotes of a conversation are about.

use attest::{Binding, EvidenceKind};

/// One connection, one certificate request, one hello: the same for every quote of a conversation.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) kind: EvidenceKind,
    pub(super) exporter: [u8; 32],
    /// In DER; empty where there is none.
    pub(super) csr: Vec<u8>,
    /// Its digest.
    pub(super) hello: [u8; 32],
}

impl Subject {
    /// With the nonce of one quote.
    pub(super) fn binding<'a>(&'a self, nonce: &'a [u8; 32]) -> Binding<'a> {
        Binding {
            kind: self.kind,
            exporter: &self.exporter,
            nonce,
            csr: &self.csr,
            hello: &self.hello,
        }
    }
}
