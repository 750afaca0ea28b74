//! Why the files can't be used.

use std::{io, path::PathBuf};

use svid::{
    Timestamp, TrustDomain,
    x509::{MintError, Refused},
};

/// The upstream authority can't be used; each says which setting to look at.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A certificate has ended.
    #[error("certificate `{subject}` of {setting} ended at {not_after}; renew it, and replace the file")]
    Ended {
        /// Which file.
        setting: &'static str,
        /// Whose certificate.
        subject: String,
        /// When it ended.
        not_after: Timestamp,
    },
    /// The private key can't be read.
    #[error("key_file_path `{}` holds no private key in PEM: {reason}", path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The key is another one's.
    #[error("key_file_path `{}` is not the key of the first certificate in cert_file_path `{}`", key.display(), certificate.display())]
    KeyMismatch {
        /// The file with the key.
        key: PathBuf,
        /// The file with the certificate.
        certificate: PathBuf,
    },
    /// Everybody may read the key.
    #[error("key_file_path `{}` may be read by everybody (mode {mode:o}); run `chmod o-rwx` on it", path.display())]
    KeyReadable {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A certificate can't be read.
    #[error("certificate {number} of {setting} `{}` is malformed", path.display())]
    Malformed {
        /// Which setting.
        setting: &'static str,
        /// Which file.
        path: PathBuf,
        /// Which certificate, from 1.
        number: usize,
    },
    /// There is no root.
    #[error(
        "cert_file_path `{}` holds no self-signed certificate alone: set bundle_file_path to the roots that it leads to",
        path.display()
    )]
    NeedsBundle {
        /// Which file.
        path: PathBuf,
    },
    /// The file holds no certificate.
    #[error("{setting} `{}` holds no certificate in PEM", path.display())]
    NoCertificate {
        /// Which setting.
        setting: &'static str,
        /// Which file.
        path: PathBuf,
    },
    /// A certificate is not a CA's.
    #[error(
        "certificate `{subject}` of {setting} is no CA: it needs basicConstraints CA:TRUE, and keyCertSign if it has keyUsage"
    )]
    NotCa {
        /// Which setting.
        setting: &'static str,
        /// Whose certificate.
        subject: String,
    },
    /// A certificate is for later.
    #[error("certificate `{subject}` of {setting} begins at {not_before} only; is the clock here right?")]
    NotBegun {
        /// Which setting.
        setting: &'static str,
        /// Whose certificate.
        subject: String,
        /// When it begins.
        not_before: Timestamp,
    },
    /// No CA may be below it.
    #[error(
        "certificate `{subject}` of {setting} has pathlen:{allowed}, and {needed} CAs are to be below it; issue it with a longer one, or none"
    )]
    PathLength {
        /// Which setting.
        setting: &'static str,
        /// Whose certificate.
        subject: String,
        /// What it allows.
        allowed: u32,
        /// How many there would be.
        needed: usize,
    },
    /// A file can't be read.
    #[error("cannot read {setting} `{}`", path.display())]
    Read {
        /// Which setting.
        setting: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key can't sign.
    #[error("cannot sign with key_file_path")]
    Sign(#[from] MintError),
    /// It is of another trust domain.
    #[error("certificate `{subject}` of {setting} is of `{named}`, and this server of trust domain `{ours}`")]
    TrustDomain {
        /// Which setting.
        setting: &'static str,
        /// Whose certificate.
        subject: String,
        /// What it names.
        named: String,
        /// What it would have to name.
        ours: TrustDomain,
    },
    /// The certificates lead to none of the roots.
    #[error(
        "what cert_file_path signs does not verify with bundle_file_path: does it hold the root, and cert_file_path all between?"
    )]
    Unrooted(#[source] Refused),
}
