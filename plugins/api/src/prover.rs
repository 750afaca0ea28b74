//! The agent's half of node attestation.

use svid::x509::PublicKey;

use crate::{Sealed, SealedKey, Sealing, TpmKey};

/// Proves the host to a server. Calls block; the agent makes them where that does no harm.
pub trait NodeProver: Send {
    /// The attestor's name on the wire, such as `tpm`.
    fn name(&self) -> &'static str;

    /// Gets ready: everything that needs no connection, so that the first message follows the handshake at
    /// once.
    ///
    /// # Errors
    ///
    /// The host can't prove itself now; the error says what to do.
    fn prepare(&mut self) -> Result<(), ProverError>;

    /// Makes the key of the host's next SVID, where the host itself keeps it and nobody can take it away; `None` where
    /// the agent is to keep it in memory. The next attestation proves where it is, if its request is for this key.
    ///
    /// # Errors
    ///
    /// The host can't make the key it is to have; the error says what to do.
    fn create_svid_key(&mut self) -> Result<Option<HostKey>, ProverError> {
        Ok(None)
    }

    /// Signs `message` with a key that the host keeps, as X.509 and TLS do with a key of its kind: ECDSA in DER.
    ///
    /// # Errors
    ///
    /// The key is gone, or can't be used now.
    fn sign(&mut self, key: &HostKey, message: &[u8]) -> Result<Vec<u8>, ProverError> {
        let _ = (key, message);
        Err(ProverError::NotReady("this host keeps no keys".into()))
    }

    /// The first message, bound to a connection.
    ///
    /// # Errors
    ///
    /// The host can't prove itself now; the error says what to do.
    fn begin(&mut self, binding: &Binding) -> Result<Vec<u8>, ProverError>;

    /// The answer to a challenge.
    ///
    /// # Errors
    ///
    /// The challenge is not one that this prover answers.
    fn answer(&mut self, challenge: &[u8]) -> Result<Vec<u8>, ProverError>;

    /// What opens an agent session on the connection with this TLS exporter, where the host did not attest; `None`
    /// if nothing is needed.
    ///
    /// # Errors
    ///
    /// The host can't prove itself now; the error says what to do.
    fn resume(&mut self, exporter: &[u8; 32]) -> Result<Option<Vec<u8>>, ProverError> {
        let _ = exporter;
        Ok(None)
    }

    /// The answer to what the server asks in the session on the connection with this TLS exporter, where the host
    /// proved itself before.
    ///
    /// # Errors
    ///
    /// The host can't prove itself now, or is asked for something that it does not answer.
    fn answer_round(&mut self, exporter: &[u8; 32], asked: &[u8]) -> Result<Vec<u8>, ProverError> {
        let _ = (exporter, asked);
        Err(ProverError::Challenge(
            "this host gives no evidence in its session".into(),
        ))
    }

    /// Looks at the Name of the endorsement key that the server has on record for this host.
    ///
    /// # Errors
    ///
    /// The host has no such key: it is lied to, or is another one.
    fn recognise(&mut self, endorsement_key_name: &[u8]) -> Result<(), ProverError> {
        let _ = endorsement_key_name;
        Ok(())
    }

    /// Seals a key to the state that the server accepted; `None` if this host has nothing that does so.
    ///
    /// # Errors
    ///
    /// What seals can't be used; the error says what to do.
    fn seal(&mut self, key: &SealedKey, sealing: &Sealing) -> Result<Option<Sealed>, ProverError> {
        let _ = (key, sealing);
        Ok(None)
    }

    /// The key that was sealed; `None` if the host is not in that state, or is another one.
    ///
    /// # Errors
    ///
    /// What sealed it can't be used; the error says what to do.
    fn unseal(&mut self, sealed: &Sealed) -> Result<Option<SealedKey>, ProverError> {
        let _ = sealed;
        Ok(None)
    }

    /// The server refused what this prover said: what it remembers may be out of date.
    fn refused(&mut self) {}
}

/// A key that the host keeps: EC P-256, in its TPM.
#[derive(Clone, Debug)]
pub struct HostKey {
    /// Its public half.
    pub public_key: PublicKey,
    /// How the TPM knows it.
    pub tpm_key: TpmKey,
}

/// What evidence is bound to.
#[derive(Clone, Debug)]
pub struct Binding {
    /// TLS exporter of the connection.
    pub exporter: [u8; 32],
    /// The certificate request in DER.
    pub csr: Vec<u8>,
}

/// The host can't prove itself.
#[derive(Debug, thiserror::Error)]
pub enum ProverError {
    /// The server asked for something that does not follow the protocol, or that is refused.
    #[error("server's challenge is not acceptable: {0}")]
    Challenge(String),
    /// What is needed for a proof is missing.
    #[error("{0}")]
    NotReady(String),
    /// A file can't be read.
    #[error("cannot read `{path}`")]
    Read {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The TPM failed.
    #[error(transparent)]
    Tpm(#[from] crate::TpmError),
}
