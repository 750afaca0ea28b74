//! A maker of TPMs in software: its CAs, and the endorsement certificates that they issue.

use attest::ek::{CaCertificate, EkCertificate, EkRoots, Expiry};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams,
    CrlIssuingDistributionPoint, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData, RevokedCertParams, SignatureAlgorithm,
    SigningKey, date_time_ymd,
};

/// 2026-11-22, within the dates of everything that is issued here.
pub const NOW: i64 = 1_795_305_600;

/// Manufacturer, model and version, by the last arc of their OIDs.
pub const ATTRIBUTES: [(u8, &str); 3] = [(1, "id:504C5354"), (2, "Carapace"), (3, "id:00010000")];

/// A CA, and its key.
pub struct Ca {
    /// Its certificate.
    pub der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

/// Changes a certificate before it is signed.
pub type Change = fn(&mut CertificateParams);

impl Ca {
    /// A root with a new key.
    pub fn root(name: &str, change: Change) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = ca_params(name, change);
        let certificate = params.self_signed(&key).unwrap();
        Self::new(&certificate, params, key)
    }

    /// A root whose key is for `algorithm`.
    pub fn root_for(algorithm: &'static SignatureAlgorithm) -> Self {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let params = ca_params("root", |_| ());
        let certificate = params.self_signed(&key).unwrap();
        Self::new(&certificate, params, key)
    }

    /// A root with this key.
    pub fn root_with(key: KeyPair) -> Self {
        let params = ca_params("root", |_| ());
        let certificate = params.self_signed(&key).unwrap();
        Self::new(&certificate, params, key)
    }

    /// A CRL that names these serial numbers, and ends on this day, in DER.
    pub fn revoke(&self, serials: &[u8], next_update: (i32, u8, u8)) -> Vec<u8> {
        self.revoke_as(serials, next_update, None)
    }

    /// The same, for a part of the certificates alone where a distribution point is named.
    pub fn revoke_as(
        &self,
        serials: &[u8],
        (year, month, day): (i32, u8, u8),
        issuing_distribution_point: Option<CrlIssuingDistributionPoint>,
    ) -> Vec<u8> {
        let entry = |serial: &u8| RevokedCertParams {
            serial_number: vec![*serial].into(),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(year, month, day),
            crl_number: 1_u64.into(),
            issuing_distribution_point,
            revoked_certs: serials.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().der().to_vec()
    }

    /// A CA below this one.
    pub fn issue(&self, name: &str, change: Change) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = ca_params(name, change);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Self::new(&certificate, params, key)
    }

    /// A CA below this one, whose key is for `algorithm`.
    pub fn issue_for(&self, algorithm: &'static SignatureAlgorithm) -> Self {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let params = ca_params("between", |_| ());
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Self::new(&certificate, params, key)
    }

    /// A certificate by this CA for the name and key of another one.
    pub fn cross_sign(&self, name: &str, other: &Self) -> CaCertificate {
        self.cross_sign_as(name, other, |_| ())
    }

    /// The same, changed.
    pub fn cross_sign_as(&self, name: &str, other: &Self, change: Change) -> CaCertificate {
        let params = ca_params(name, change);
        let certificate = params.signed_by(other.issuer.key(), &self.issuer).unwrap();
        CaCertificate::parse(certificate.der()).unwrap()
    }

    /// The endorsement certificate of a key, in DER.
    pub fn endorse(&self, key: &impl PublicKeyData, change: Change) -> Vec<u8> {
        let certificate = leaf_params(change).signed_by(key, &self.issuer).unwrap();
        certificate.der().to_vec()
    }

    /// The endorsement certificate of a new key, changed with what stands around, in DER.
    pub fn endorse_with(&self, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = leaf_params(|_| ());
        change(&mut params);
        let certificate = params
            .signed_by(&KeyPair::generate().unwrap(), &self.issuer)
            .unwrap();
        certificate.der().to_vec()
    }

    /// The endorsement certificate of a new key, parsed.
    pub fn leaf(&self, change: Change) -> EkCertificate {
        EkCertificate::parse(&self.endorse(&KeyPair::generate().unwrap(), change)).unwrap()
    }

    /// A certificate of version 1, which has no extensions, for the name and key of another CA.
    pub fn issue_version_1(&self, [issuer, subject]: [&str; 2], other: &Self) -> CaCertificate {
        // ecdsa-with-SHA256.
        let algorithm = element(0x30, &[&[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]]);
        let date = |text: &str| element(0x17, &[text.as_bytes()]);
        let validity = element(0x30, &[&date("200101000000Z"), &date("400101000000Z")]);
        let key = other.issuer.key().subject_public_key_info();
        let parts: [&[u8]; 6] = [
            &element(0x02, &[&[1]]),
            &algorithm,
            &common_name(issuer),
            &validity,
            &common_name(subject),
            &key,
        ];
        let unsigned = element(0x30, &parts);
        let signature = element(0x03, &[&[0], &self.sign(&unsigned)]);
        CaCertificate::parse(&element(0x30, &[&unsigned, &algorithm, &signature])).unwrap()
    }

    /// Its signature over anything: ECDSA with SHA-256.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.issuer.key().sign(message).unwrap()
    }

    /// Its certificate, parsed.
    pub fn certificate(&self) -> CaCertificate {
        CaCertificate::parse(&self.der).unwrap()
    }

    fn new(certificate: &Certificate, params: CertificateParams, key: KeyPair) -> Self {
        Self {
            der: certificate.der().to_vec(),
            issuer: Issuer::new(params, key),
        }
    }
}

/// These roots, and nothing between.
pub fn roots(expiry: Expiry, of: &[&Ca]) -> EkRoots {
    let mut roots = EkRoots::new(expiry);
    of.iter().for_each(|ca| roots.add_root(ca.certificate()));
    roots
}

/// Takes the place of the attributes; each inner slice is one relative name.
pub fn set_attributes(params: &mut CertificateParams, names: &[&[(u8, &str)]]) {
    params.custom_extensions = vec![alternative_name(&[2], names)];
}

/// Takes the place of the attributes: names of a machine, by the last arc of their OIDs.
pub fn set_platform_names(params: &mut CertificateParams, names: &[(u8, &str)]) {
    params.custom_extensions = vec![alternative_name(&[5, 1], &[names])];
}

/// An extension that nobody knows.
pub fn unknown_extension(critical: bool) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 55555, 1], vec![0x05, 0x00]);
    extension.set_criticality(critical);
    extension
}

/// Tag, length and content.
pub fn element(tag: u8, content: &[&[u8]]) -> Vec<u8> {
    let content = content.concat();
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let header: &[u8] = match content.len() {
        0..=0x7f => &[tag, low],
        0x80..=0xff => &[tag, 0x81, low],
        _ => &[tag, 0x82, high, low],
    };
    [header, &content].concat()
}

fn ca_params(name: &str, change: Change) -> CertificateParams {
    let mut params = base_params();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    change(&mut params);
    params
}

fn leaf_params(change: Change) -> CertificateParams {
    let mut params = base_params();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::KeyAgreement];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 1])];
    set_attributes(&mut params, &[&ATTRIBUTES]);
    change(&mut params);
    params
}

fn base_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    params
}

/// A critical subject alternative name with one directory name, of attributes below `2.23.133` and these arcs.
fn alternative_name(arcs: &[u8], names: &[&[(u8, &str)]]) -> CustomExtension {
    let attribute = |(arc, text): &(u8, &str)| {
        let oid = element(0x06, &[&[0x67, 0x81, 0x05], arcs, &[*arc]]);
        element(0x30, &[&oid, &element(0x0c, &[text.as_bytes()])])
    };
    let relative: Vec<_> = names
        .iter()
        .map(|attributes| {
            element(
                0x31,
                &[&attributes.iter().flat_map(attribute).collect::<Vec<_>>()],
            )
        })
        .collect();
    let directory = element(0xa4, &[&element(0x30, &[&relative.concat()])]);
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 17], element(0x30, &[&directory]));
    extension.set_criticality(true);
    extension
}

/// A name that is a common name alone, in DER.
pub fn common_name(name: &str) -> Vec<u8> {
    let oid = element(0x06, &[&[0x55, 4, 3]]);
    let attribute = element(0x30, &[&oid, &element(0x0c, &[name.as_bytes()])]);
    element(0x30, &[&element(0x31, &[&attribute])])
}
