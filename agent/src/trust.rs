//! Whom the agent takes for the server: the newest bundle it knows; at first, what the operator gave it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use edge::tls::Expected;
use svid::{Bundle, BundleError, SpiffeId, SpiffeIdError, Timestamp, TrustDomain, X509Authority};

use crate::{
    config,
    state::{DataDir, StateError},
};

/// How the server is verified.
#[derive(Debug)]
pub struct Trust {
    server_id: SpiffeId,
    bundle: Option<Arc<Bundle>>,
    /// Whether the bundle is on disk, or need not be.
    is_kept: bool,
    data_dir: DataDir,
}

/// The server can't be verified.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The bootstrap bundle is neither PEM nor a JWK Set.
    #[error("trust_bundle_path `{}` holds neither PEM certificates nor a JWK Set", path.display())]
    Bundle {
        /// Which file.
        path: PathBuf,
        /// Why it is no JWK Set.
        source: BundleError,
    },
    /// A root is no certificate, or something follows it.
    #[error("certificate {number} of trust_bundle_path `{}` is malformed", path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// Which certificate, from 1.
        number: usize,
    },
    /// The bundle holds no root.
    #[error("trust_bundle_path `{}` holds no certificate", path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// All roots have ended.
    #[error(
        "every root in the trust bundle ended by {ended}; copy what `plastron-server bundle show` prints now to trust_bundle_path, \
         and check this host's clock, which shows {now}"
    )]
    Expired {
        /// When the last one ended.
        ended: Timestamp,
        /// The time here.
        now: Timestamp,
    },
    /// The server's ID can't be formed.
    #[error("trust domain is not usable")]
    Id(#[from] SpiffeIdError),
    /// The file can't be read.
    #[error("cannot read trust_bundle_path `{}`", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The data directory can't be used.
    #[error(transparent)]
    State(#[from] StateError),
}

impl Trust {
    /// Finds the newest bundle: the one that was kept, else the one that the operator gave.
    ///
    /// # Errors
    ///
    /// What is there can't be used.
    pub fn load(config: &config::Agent, data_dir: DataDir, now: Timestamp) -> Result<Self, TrustError> {
        let trust_domain = &config.trust_domain;
        let kept = data_dir
            .bundle(trust_domain)?
            .filter(|bundle| check_age(bundle, now).is_ok());
        let bundle = match (kept, &config.trust_bundle_path) {
            (Some(kept), _) => Some(kept),
            (None, Some(path)) => Some(read(path, trust_domain, now)?),
            (None, None) => None,
        };
        let server_id = SpiffeId::new(trust_domain.clone(), "/spire/server")?;
        Ok(Self {
            server_id,
            bundle: bundle.map(Arc::new),
            is_kept: true,
            data_dir,
        })
    }

    /// Whom to expect at the other end.
    ///
    /// # Errors
    ///
    /// Every root that is known has ended.
    pub fn expected(&self, now: Timestamp) -> Result<Expected, TrustError> {
        let id = self.server_id.clone();
        match &self.bundle {
            None => Ok(Expected::Anyone(id)),
            Some(bundle) => {
                check_age(bundle, now)?;
                Ok(Expected::Verified {
                    id,
                    bundle: Arc::clone(bundle),
                })
            }
        }
    }

    /// Takes a newer bundle, which is still to be kept.
    pub fn update(&mut self, bundle: &Arc<Bundle>) {
        if self.bundle.as_ref() != Some(bundle) {
            self.bundle = Some(Arc::clone(bundle));
            self.is_kept = false;
        }
    }

    /// Keeps the newest bundle, unless it is kept already.
    ///
    /// # Errors
    ///
    /// It can't be kept; it is used all the same.
    pub fn keep(&mut self) -> Result<(), StateError> {
        if let (false, Some(bundle)) = (self.is_kept, &self.bundle) {
            self.data_dir.keep_bundle(bundle)?;
            self.is_kept = true;
        }
        Ok(())
    }
}

fn read(path: &Path, trust_domain: &TrustDomain, now: Timestamp) -> Result<Bundle, TrustError> {
    let text = fs::read(path).map_err(|source| TrustError::Read {
        path: path.into(),
        source,
    })?;
    let bundle = parse(path, &text, trust_domain)?;
    check_age(&bundle, now)?;
    Ok(bundle)
}

/// Parses what an operator gives: roots in PEM, or a JWK Set. `path` is for the error alone.
///
/// # Errors
///
/// It is neither, or holds no root.
pub fn parse(path: &Path, text: &[u8], trust_domain: &TrustDomain) -> Result<Bundle, TrustError> {
    let certificates = pem::parse_many(text).unwrap_or_default();
    let roots: Vec<_> = certificates
        .into_iter()
        .filter(|pem| pem.tag() == "CERTIFICATE")
        .collect();
    let bundle = if roots.is_empty() {
        Bundle::from_jwks(trust_domain.clone(), text).map_err(|source| TrustError::Bundle {
            path: path.into(),
            source,
        })?
    } else {
        let malformed = |index| TrustError::Certificate {
            path: path.into(),
            number: index + 1,
        };
        let authorities = roots.into_iter().enumerate().map(|(index, pem)| {
            X509Authority::parse(pem.into_contents().into()).ok_or_else(|| malformed(index))
        });
        Bundle {
            x509_authorities: authorities.collect::<Result<_, _>>()?,
            ..Bundle::empty(trust_domain.clone())
        }
    };
    if bundle.x509_authorities.is_empty() {
        return Err(TrustError::Empty { path: path.into() });
    }
    Ok(bundle)
}

fn check_age(bundle: &Bundle, now: Timestamp) -> Result<(), TrustError> {
    match bundle.x509_not_after() {
        Some(ended) if ended < now => Err(TrustError::Expired { ended, now }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(der: &[u8], expected: Result<usize, &str>) {
        let text = pem::encode(&pem::Pem::new("CERTIFICATE", der));
        let parsed = parse(
            Path::new("b.pem"),
            text.as_bytes(),
            &TrustDomain::parse("td").unwrap(),
        );
        match (parsed, expected) {
            (Ok(bundle), Ok(roots)) => assert_eq!(bundle.x509_authorities.len(), roots),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (parsed, expected) => panic!("{parsed:?} is not {expected:?}"),
        }
    }

    #[test]
    fn roots_are_certificates_and_nothing_besides() {
        let key = rcgen::KeyPair::generate().unwrap();
        let root = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        check(root.der(), Ok(1));
        let refused = Err("certificate 1 of trust_bundle_path `b.pem` is malformed");
        check(&[root.der().as_ref(), &[0]].concat(), refused);
        check(b"no certificate", refused);
    }
}
