//! What the TPM is asked for, and what comes of it. That takes up to seconds, in which nothing else waits.

use std::{future::Future, pin::Pin};

use plugin_api::{Sealed, SealedKey, Sealing};
use zeroize::Zeroizing;

use super::file::Envelope;
use crate::attest::{AttestError, Prover};

/// Something that the TPM does.
pub(super) type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What came of it.
pub(super) enum Done {
    /// A new key was sealed; `None` where nothing seals.
    Sealed(Sealing, Result<Option<(Sealed, SealedKey)>, AttestError>),
    /// The key of a file was opened; `None` if that is not for this host in this state.
    Unsealed(Box<Envelope>, Result<Option<SealedKey>, AttestError>),
}

/// Makes a key, and has it sealed.
pub(super) fn seal(prover: Prover, sealing: Sealing) -> Work {
    Box::pin(async move {
        let key: SealedKey = Zeroizing::new(edge::random());
        let sealed = prover.seal(key.clone(), sealing.clone()).await;
        let sealed = sealed.map(|sealed| sealed.map(|sealed| (sealed, key)));
        Done::Sealed(sealing, sealed)
    })
}

/// Has the key of a file opened.
pub(super) fn unseal(prover: Prover, file: Envelope) -> Work {
    Box::pin(async move {
        let key = prover.unseal(file.key().sealed.clone()).await;
        Done::Unsealed(Box::new(file), key)
    })
}

/// Waits for what is under way; for ever, where nothing is.
pub(super) async fn done(work: &mut Option<Work>) -> Done {
    let Some(under_way) = work else {
        return std::future::pending().await;
    };
    let done = under_way.await;
    *work = None;
    done
}
