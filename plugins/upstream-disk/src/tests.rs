use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType,
};
use svid::x509::{PublicKey, SerialNumber, Subject, TemplateKind};
use tempfile::TempDir;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::*;

const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);
const YEAR: i64 = 365 * 86400;

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// What a certificate says; a CA of our trust domain for a year.
#[derive(Clone, Copy)]
struct Said {
    name: &'static str,
    is_ca: IsCa,
    begins: i64,
    ends: i64,
    uri: Option<&'static str>,
}

const CA: Said = Said {
    name: "ca",
    is_ca: IsCa::Ca(BasicConstraints::Unconstrained),
    begins: -YEAR,
    ends: YEAR,
    uri: None,
};

const fn longest(below: u8) -> IsCa {
    IsCa::Ca(BasicConstraints::Constrained(below))
}

fn at(seconds: i64) -> std::time::SystemTime {
    let unix = u64::try_from(NOW.as_unix() + seconds).unwrap();
    std::time::UNIX_EPOCH + Duration::from_secs(unix)
}

fn params(said: Said) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, said.name);
    params.is_ca = said.is_ca;
    params.key_usages = match said.is_ca {
        IsCa::Ca(_) => vec![KeyUsagePurpose::KeyCertSign],
        _ => vec![KeyUsagePurpose::DigitalSignature],
    };
    params.not_before = at(said.begins).into();
    params.not_after = at(said.ends).into();
    params.use_authority_key_identifier_extension = true;
    params.subject_alt_names = said
        .uri
        .into_iter()
        .map(|uri| SanType::URI(uri.try_into().unwrap()))
        .collect();
    params
}

fn root(said: Said) -> Issuer {
    CertifiedIssuer::self_signed(params(said), KeyPair::generate().unwrap()).unwrap()
}

fn below(issuer: &Issuer, said: Said) -> Issuer {
    CertifiedIssuer::signed_by(params(said), KeyPair::generate().unwrap(), issuer).unwrap()
}

fn certificate(issuer: &Issuer) -> String {
    pem::encode(&pem::Pem::new("CERTIFICATE", issuer.der().to_vec()))
}

fn private(issuer: &Issuer) -> String {
    pem::encode(&pem::Pem::new("PRIVATE KEY", issuer.key().serialize_der()))
}

/// Files of an upstream authority.
struct Files {
    folder: TempDir,
    has_bundle: bool,
}

impl Files {
    fn new(own: &[&Issuer], key: &Issuer, roots: Option<&[&Issuer]>) -> Self {
        let files = Self {
            folder: TempDir::new().unwrap(),
            has_bundle: roots.is_some(),
        };
        let text = |all: &[&Issuer]| all.iter().map(|issuer| certificate(issuer)).collect::<String>();
        fs::write(files.path("ca.pem"), text(own)).unwrap();
        fs::write(files.path("key.pem"), private(key)).unwrap();
        files.allow(0o600);
        fs::write(files.path("roots.pem"), text(roots.unwrap_or_default())).unwrap();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn allow(&self, mode: u32) {
        fs::set_permissions(self.path("key.pem"), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn upstream(&self) -> DiskUpstream {
        let config = Config {
            cert_file_path: self.path("ca.pem"),
            key_file_path: self.path("key.pem"),
            bundle_file_path: self.has_bundle.then(|| self.path("roots.pem")),
        };
        DiskUpstream::new(config, TrustDomain::parse("td").unwrap())
    }

    fn certify(&self, life: i64) -> Result<Certified, DiskError> {
        let key = KeyPair::generate().unwrap();
        let template = Template {
            id: TrustDomain::parse("td").unwrap().id(),
            dns_names: Vec::new(),
            public_key: PublicKey::from_spki(&key.subject_public_key_info()).unwrap(),
            serial: SerialNumber::from_random([7; 16]),
            not_before: NOW,
            not_after: Timestamp::from_unix(NOW.as_unix() + life),
            subject: Subject {
                organization: "Plastron".into(),
                common_name: None,
            },
            kind: TemplateKind::Authority,
        };
        self.upstream().sign(template, NOW)
    }

    #[track_caller]
    fn refused(&self, expected: &str) {
        let error = self.upstream().check(NOW).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        let error = self.certify(60).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_root_signs_authorities_that_rest_on_it_alone() {
    let root = root(CA);
    let files = Files::new(&[&root], &root, None);
    files.upstream().check(NOW).unwrap();
    let certified = files.certify(3600).unwrap();
    assert_eq!(certified.chain, []);
    assert_eq!(certified.roots, [root.der().clone()]);
    let (_, parsed) = X509Certificate::from_der(&certified.certificate).unwrap();
    assert_eq!(parsed.validity().not_after.timestamp(), NOW.as_unix() + 3600);
    assert!(parsed.is_ca());
}

#[test]
fn what_is_between_comes_along_and_roots_do_not() {
    let root = root(CA);
    let middle = below(&root, Said { name: "middle", ..CA });
    let low = below(&middle, Said { name: "low", ..CA });
    let expected = [low.der().clone(), middle.der().clone()];
    for own in [&[&low, &middle][..], &[&low, &middle, &root]] {
        let certified = Files::new(own, &low, Some(&[&root])).certify(60).unwrap();
        assert_eq!(certified.chain, expected);
        assert_eq!(certified.roots, [root.der().clone()]);
    }
}

#[test]
fn nothing_outlives_what_signed_it() {
    let ends_of = |certified: Certified| {
        let (_, parsed) = X509Certificate::from_der(&certified.certificate).unwrap();
        parsed.validity().not_after.timestamp() - NOW.as_unix()
    };
    let short = root(Said { ends: 100, ..CA });
    let files = Files::new(&[&short], &short, None);
    assert_eq!(ends_of(files.certify(3600).unwrap()), 100);
    let low = below(&short, Said { name: "low", ..CA });
    let files = Files::new(&[&low], &low, Some(&[&short]));
    assert_eq!(ends_of(files.certify(3600).unwrap()), 100);
}

#[test]
fn files_are_read_anew() {
    let (first, second) = (root(CA), root(CA));
    let files = Files::new(&[&first], &first, None);
    let upstream = files.upstream();
    upstream.check(NOW).unwrap();
    fs::write(files.path("ca.pem"), certificate(&second)).unwrap();
    assert!(matches!(upstream.check(NOW), Err(DiskError::KeyMismatch { .. })));
    fs::write(files.path("key.pem"), private(&second)).unwrap();
    assert_eq!(files.certify(60).unwrap().roots, [second.der().clone()]);
}

#[test]
fn certificates_that_may_not_sign_are_refused() {
    let check = |said: Said, expected: &str| {
        let ca = root(said);
        Files::new(&[&ca], &ca, None).refused(expected);
    };
    let no_ca = IsCa::ExplicitNoCa;
    check(Said { is_ca: no_ca, ..CA }, "is no CA");
    check(Said { ends: 0, ..CA }, "ended at");
    check(Said { begins: 1, ..CA }, "begins at");
    check(
        Said {
            uri: Some("spiffe://other"),
            ..CA
        },
        "is of `spiffe://other`",
    );
    check(
        Said {
            is_ca: longest(0),
            ..CA
        },
        "pathlen:0, and 1 CAs",
    );

    let fits = Said {
        is_ca: longest(1),
        uri: Some("spiffe://td"),
        ..CA
    };
    let ca = root(fits);
    Files::new(&[&ca], &ca, None).certify(60).unwrap();
}

#[test]
fn a_root_counts_what_is_below_it() {
    let root = root(Said {
        is_ca: longest(1),
        ..CA
    });
    let low = below(&root, Said { name: "low", ..CA });
    Files::new(&[&low], &low, Some(&[&root])).refused("bundle_file_path has pathlen:1, and 2 CAs");
}

#[test]
fn certificates_lead_to_a_root() {
    let (top, other) = (root(CA), root(CA));
    let low = below(&top, Said { name: "low", ..CA });
    Files::new(&[&low], &low, None).refused("set bundle_file_path");
    Files::new(&[&top, &other], &top, None).refused("set bundle_file_path");
    // The other one has the same name, and another key.
    Files::new(&[&low], &low, Some(&[&other])).refused("does not verify with bundle_file_path");
    Files::new(&[&low], &low, Some(&[])).refused("bundle_file_path `");
}

#[test]
fn the_key_is_the_cas_and_not_for_everybody() {
    let (ca, other) = (root(CA), root(CA));
    Files::new(&[&ca], &other, None).refused("is not the key of the first certificate");
    let files = Files::new(&[&ca], &ca, None);
    files.allow(0o644);
    files.refused("may be read by everybody (mode 644)");
    files.allow(0o640);
    files.certify(60).unwrap();
    fs::write(files.path("key.pem"), "nothing").unwrap();
    files.refused("holds no private key in PEM");
    fs::remove_file(files.path("key.pem")).unwrap();
    files.refused("cannot read key_file_path");
}

#[test]
fn what_is_no_certificate_is_named() {
    let ca = root(CA);
    let files = Files::new(&[], &ca, None);
    files.refused("holds no certificate in PEM");
    let malformed = pem::encode(&pem::Pem::new("CERTIFICATE", "none"));
    fs::write(files.path("ca.pem"), malformed).unwrap();
    files.refused("certificate 1 of cert_file_path");
}
