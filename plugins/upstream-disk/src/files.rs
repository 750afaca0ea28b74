//! What is in the files, and whether it can be used.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rcgen::{KeyPair, PublicKeyData};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use svid::{
    Timestamp, TrustDomain,
    x509::{Issuer, MintError, Template, sign},
};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};
use zeroize::Zeroizing;

use crate::{Config, DiskError};

/// A CA that can sign authorities.
pub(crate) struct Ca {
    issuer: Issuer<KeyPair>,
    /// When the first of its certificates ends.
    not_after: Timestamp,
    /// Its certificate and those between it and a root; none if it is a root.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) roots: Vec<CertificateDer<'static>>,
}

/// A file of certificates.
struct File {
    setting: &'static str,
    path: PathBuf,
    certificates: Vec<CertificateDer<'static>>,
}

impl Ca {
    /// Signs an authority that ends no later than the CA.
    pub(crate) fn sign(&self, template: Template) -> Result<CertificateDer<'static>, MintError> {
        let not_after = template.not_after.min(self.not_after);
        sign(
            &Template {
                not_after,
                ..template
            },
            &self.issuer,
        )
    }
}

/// Reads the files.
pub(crate) fn load(config: &Config, trust_domain: &TrustDomain, now: Timestamp) -> Result<Ca, DiskError> {
    let own = File::read("cert_file_path", &config.cert_file_path)?;
    let key = read_key(&config.key_file_path)?;
    let not_after = own.check(trust_domain, now)?;
    let Some(first) = own.certificates.first().cloned() else {
        return Err(own.is_empty());
    };
    let is_its_key = X509Certificate::from_der(&first)
        .is_ok_and(|(_, parsed)| parsed.public_key().raw == key.subject_public_key_info());
    if !is_its_key {
        return Err(DiskError::KeyMismatch {
            key: config.key_file_path.clone(),
            certificate: own.path,
        });
    }
    let issuer = Issuer::from_ca_cert_der(&first, key).map_err(MintError::Sign)?;
    let Some(bundle) = &config.bundle_file_path else {
        return Ok(Ca {
            issuer,
            not_after,
            chain: Vec::new(),
            roots: own.only_root()?,
        });
    };
    let roots = File::read("bundle_file_path", bundle)?;
    let is_between = |certificate: &CertificateDer<'static>| !roots.certificates.contains(certificate);
    let chain: Vec<_> = own.certificates.into_iter().filter(is_between).collect();
    let root_ends = roots.root_of(chain.last().unwrap_or(&first), chain.len() + 1, now)?;
    Ok(Ca {
        issuer,
        not_after: not_after.min(root_ends),
        chain,
        roots: roots.certificates,
    })
}

impl File {
    fn read(setting: &'static str, path: &Path) -> Result<Self, DiskError> {
        let unreadable = |source| DiskError::Read {
            setting,
            path: path.into(),
            source,
        };
        let text = fs::read(path).map_err(unreadable)?;
        let blocks = pem::parse_many(&text).unwrap_or_default().into_iter();
        let certificates = blocks.filter(|block| block.tag() == "CERTIFICATE");
        let file = Self {
            setting,
            path: path.into(),
            certificates: certificates.map(|block| block.into_contents().into()).collect(),
        };
        if file.certificates.is_empty() {
            return Err(file.is_empty());
        }
        Ok(file)
    }

    fn is_empty(&self) -> DiskError {
        DiskError::NoCertificate {
            setting: self.setting,
            path: self.path.clone(),
        }
    }

    /// Looks whether each may sign the one before it; answers with the end of the first that ends.
    fn check(&self, trust_domain: &TrustDomain, now: Timestamp) -> Result<Timestamp, DiskError> {
        let mut not_after = Timestamp::NEVER;
        for (index, certificate) in self.certificates.iter().enumerate() {
            let parsed = self.parse(index, certificate)?;
            self.check_domain(&parsed, trust_domain)?;
            not_after = not_after.min(self.check_one(&parsed, index + 1, now)?);
        }
        Ok(not_after)
    }

    fn parse<'a>(
        &self,
        index: usize,
        certificate: &'a CertificateDer<'_>,
    ) -> Result<X509Certificate<'a>, DiskError> {
        match X509Certificate::from_der(certificate) {
            Ok(([], parsed)) => Ok(parsed),
            _ => Err(DiskError::Malformed {
                setting: self.setting,
                path: self.path.clone(),
                number: index + 1,
            }),
        }
    }

    /// Looks whether a certificate may have so many CAs below it (RFC 5280 §4.2.1.9); answers with its end.
    fn check_one(
        &self,
        certificate: &X509Certificate<'_>,
        below: usize,
        now: Timestamp,
    ) -> Result<Timestamp, DiskError> {
        let (setting, subject) = (self.setting, certificate.subject().to_string());
        let constraints = certificate.basic_constraints().ok().flatten();
        let constraints = constraints.map(|extension| extension.value);
        let usage = certificate.key_usage().ok().flatten();
        let signs = usage.is_none_or(|usage| usage.value.key_cert_sign());
        let Some(constraints) = constraints.filter(|constraints| constraints.ca && signs) else {
            return Err(DiskError::NotCa { setting, subject });
        };
        if let Some(allowed) = constraints.path_len_constraint
            && usize::try_from(allowed).is_ok_and(|allowed| allowed < below)
        {
            return Err(DiskError::PathLength {
                setting,
                subject,
                allowed,
                needed: below,
            });
        }
        let validity = certificate.validity();
        let not_before = Timestamp::from_unix(validity.not_before.timestamp());
        let not_after = Timestamp::from_unix(validity.not_after.timestamp());
        if now < not_before {
            return Err(DiskError::NotBegun {
                setting,
                subject,
                not_before,
            });
        }
        if not_after <= now {
            return Err(DiskError::Ended {
                setting,
                subject,
                not_after,
            });
        }
        Ok(not_after)
    }

    /// A CA that says whose it is has to be ours (X509-SVID §3.1.1).
    fn check_domain(
        &self,
        certificate: &X509Certificate<'_>,
        trust_domain: &TrustDomain,
    ) -> Result<(), DiskError> {
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.map(|names| names.value.general_names.as_slice());
        let uris = names.unwrap_or_default().iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        let foreign = |uri: &&str| {
            uri.starts_with("spiffe://")
                && TrustDomain::parse_name_or_id(uri).ok().as_ref() != Some(trust_domain)
        };
        match uris.into_iter().find(foreign) {
            Some(named) => Err(DiskError::TrustDomain {
                setting: self.setting,
                subject: certificate.subject().to_string(),
                named: named.to_owned(),
                ours: trust_domain.clone(),
            }),
            None => Ok(()),
        }
    }

    /// The one certificate, if it is a root.
    fn only_root(self) -> Result<Vec<CertificateDer<'static>>, DiskError> {
        let is_root = match self.certificates.as_slice() {
            [only] => self
                .parse(0, only)
                .is_ok_and(|parsed| parsed.subject() == parsed.issuer()),
            _ => false,
        };
        if is_root {
            return Ok(self.certificates);
        }
        Err(DiskError::NeedsBundle { path: self.path })
    }

    /// Looks whether the root that issued `certificate` may have so many CAs below it; answers with its end. That one
    /// of them did is found out by [`probe`](crate::probe).
    fn root_of(
        &self,
        certificate: &CertificateDer<'_>,
        below: usize,
        now: Timestamp,
    ) -> Result<Timestamp, DiskError> {
        let mut not_after = Timestamp::NEVER;
        let lowest = X509Certificate::from_der(certificate).ok();
        let issuer = lowest.as_ref().map(|(_, parsed)| parsed.issuer().clone());
        for (index, root) in self.certificates.iter().enumerate() {
            let root = self.parse(index, root)?;
            if Some(root.subject()) == issuer.as_ref() {
                not_after = not_after.min(self.check_one(&root, below, now)?);
            }
        }
        Ok(not_after)
    }
}

fn read_key(path: &Path) -> Result<KeyPair, DiskError> {
    let unreadable = |source| DiskError::Read {
        setting: "key_file_path",
        path: path.into(),
        source,
    };
    let mode = fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(DiskError::KeyReadable {
            path: path.into(),
            mode,
        });
    }
    let text = Zeroizing::new(fs::read(path).map_err(unreadable)?);
    let unusable = |reason: String| DiskError::Key {
        path: path.into(),
        reason,
    };
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| unusable(error.to_string()))?;
    KeyPair::try_from(&key).map_err(|error| unusable(error.to_string()))
}
