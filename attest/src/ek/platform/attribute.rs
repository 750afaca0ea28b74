//! Attribute certificates (RFC 5755 §4.1), as platforms have them.

use x509_parser::{
    extensions::X509Extension,
    oid_registry::asn1_rs::{Oid, oid},
    prelude::FromDer,
    time::ASN1Time,
    x509::{AlgorithmIdentifier, X509Name},
};

use super::{
    super::{
        certificate::CertificateId,
        chain::{Issued, Kind},
        dn::NameKey,
    },
    element::{
        self, BIT_STRING, Element, Elements, GENERALIZED_TIME, INTEGER, OBJECT_IDENTIFIER, SEQUENCE, SET,
        tagged,
    },
};
use crate::Reject;

/// An attribute certificate. Nothing of it is verified.
#[derive(Debug)]
pub(super) struct AttributeCertificate<'a> {
    /// By which it is told apart.
    pub(super) id: CertificateId,
    /// The certificate that it is about.
    pub(super) holder: CertificateId,
    /// From when to when it is valid; seconds since the epoch.
    pub(super) validity: [i64; 2],
    pub(super) extensions: Vec<X509Extension<'a>>,
    /// What is signed.
    signed: &'a [u8],
    /// Name of the issuer.
    issuer: NameKey,
    serial: &'a [u8],
    algorithm: AlgorithmIdentifier<'a>,
    signature: &'a [u8],
}

/// Longest serial number in bytes: RFC 5755 §4.2.5 has 20, and some vendors write the digits of one as bytes.
const MAX_SERIAL: usize = 32;
/// tcg-at-tcgCredentialType.
const CREDENTIAL_TYPE: Oid<'static> = oid!(2.23.133.2.25);
/// tcg-kp-PlatformAttributeCertificate.
const BASE: Oid<'static> = oid!(2.23.133.8.2);
/// tcg-kp-DeltaPlatformAttributeCertificate.
const DELTA: Oid<'static> = oid!(2.23.133.8.5);

impl<'a> AttributeCertificate<'a> {
    /// Reads one.
    pub(super) fn parse(der: &'a [u8]) -> Result<Self, Reject> {
        let malformed = Reject::PlatformCertificateMalformed;
        let outer = outer(der).ok_or(malformed)?;
        let mut fields = Elements(outer.content);
        let version = fields.expect(INTEGER).ok_or(malformed)?;
        if version.content != [1] {
            return Err(malformed);
        }
        let holder = holder(fields.expect(SEQUENCE).ok_or(malformed)?.content)?;
        let issuer = issuer(fields.expect(tagged(0)).ok_or(malformed)?.content).ok_or(malformed)?;
        // RFC 5755 §4.1: what names the algorithm is signed too.
        let algorithm = fields.expect(SEQUENCE).ok_or(malformed)?.whole;
        if algorithm != outer.algorithm {
            return Err(malformed);
        }
        let algorithm = read_algorithm(algorithm).ok_or(malformed)?;
        let serial = serial(&mut fields).ok_or(malformed)?;
        let validity = validity(&mut fields).ok_or(malformed)?;
        check_kind(fields.expect(SEQUENCE).ok_or(malformed)?.content)?;
        fields.optional(BIT_STRING);
        let extensions = match fields.optional(SEQUENCE) {
            Some(extensions) => read_extensions(extensions.content).ok_or(malformed)?,
            None => Vec::new(),
        };
        fields.end().ok_or(malformed)?;
        Ok(Self {
            id: id(issuer, serial).ok_or(malformed)?,
            holder,
            validity,
            extensions,
            signed: outer.signed,
            issuer: name_key(issuer).ok_or(malformed)?,
            serial,
            algorithm,
            signature: outer.signature,
        })
    }

    /// What its issuer signed.
    pub(super) fn issued(&self) -> Issued<'_> {
        Issued {
            kind: Kind::AttributeCertificate,
            issuer: self.issuer.clone(),
            serial: self.serial,
            algorithms: [&self.algorithm, &self.algorithm],
            message: self.signed,
            signature: self.signature,
        }
    }
}

/// What stands around the fields.
struct Outer<'a> {
    content: &'a [u8],
    signed: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

fn outer(der: &[u8]) -> Option<Outer<'_>> {
    let mut parts = Elements(element::only(der, SEQUENCE)?.content);
    let signed = parts.expect(SEQUENCE)?;
    let algorithm = parts.expect(SEQUENCE)?.whole;
    let bits = parts.expect(BIT_STRING)?;
    parts.end()?;
    match bits.content {
        // No bit of the last byte is unused.
        [0, signature @ ..] => Some(Outer {
            content: signed.content,
            signed: signed.whole,
            algorithm,
            signature,
        }),
        _ => None,
    }
}

/// The certificate of the endorsement key (Platform Certificate Profile §3.1.3): `baseCertificateID`. A name beside it
/// says no more; a digest would be of something else.
fn holder(content: &[u8]) -> Result<CertificateId, Reject> {
    let reject = Reject::PlatformCertificateHolder;
    let mut fields = Elements(content);
    let base = fields.expect(tagged(0)).ok_or(reject)?;
    fields.optional(tagged(1));
    fields.end().ok_or(reject)?;
    let mut base = Elements(base.content);
    let names = base.expect(SEQUENCE).ok_or(reject)?;
    let issuer = name(names.content).ok_or(reject)?;
    let serial = serial(&mut base).ok_or(reject)?;
    base.end().ok_or(reject)?;
    id(issuer, serial).ok_or(reject)
}

fn name_key(name: &[u8]) -> Option<NameKey> {
    let (_, name) = X509Name::from_der(name).ok()?;
    Some(NameKey::of(&name))
}

/// Of a name in DER and a number.
fn id(issuer: &[u8], serial: &[u8]) -> Option<CertificateId> {
    let (_, issuer) = X509Name::from_der(issuer).ok()?;
    Some(CertificateId::new(&issuer.to_string(), serial))
}

/// One name, and nothing else (RFC 5755 §4.2.3).
fn issuer(form: &[u8]) -> Option<&[u8]> {
    name(element::only(form, SEQUENCE)?.content)
}

/// The directory name that is all of a GeneralNames.
fn name(names: &[u8]) -> Option<&[u8]> {
    let directory = element::only(names, tagged(4))?;
    let name = element::only(directory.content, SEQUENCE)?;
    // Nobody is called nothing.
    (!name.content.is_empty()).then_some(name.whole)
}

fn read_algorithm(whole: &[u8]) -> Option<AlgorithmIdentifier<'_>> {
    let (rest, algorithm) = AlgorithmIdentifier::from_der(whole).ok()?;
    rest.is_empty().then_some(algorithm)
}

fn serial<'a>(fields: &mut Elements<'a>) -> Option<&'a [u8]> {
    let serial = fields.expect(INTEGER)?.content;
    (1..=MAX_SERIAL).contains(&serial.len()).then_some(serial)
}

fn validity(fields: &mut Elements<'_>) -> Option<[i64; 2]> {
    let mut times = Elements(fields.expect(SEQUENCE)?.content);
    let mut time = || {
        let whole = times.expect(GENERALIZED_TIME)?.whole;
        let (_, time) = ASN1Time::from_der(whole).ok()?;
        Some(time.timestamp())
    };
    let validity = [time()?, time()?];
    times.end()?;
    Some(validity)
}

/// A whole platform's: what says nothing of its kind is from before there were others.
fn check_kind(attributes: &[u8]) -> Result<(), Reject> {
    let malformed = Reject::PlatformCertificateMalformed;
    let mut kinds = Vec::new();
    for attribute in element::all(attributes, SEQUENCE).ok_or(malformed)? {
        let mut fields = Elements(attribute.content);
        let named = fields.expect(OBJECT_IDENTIFIER).ok_or(malformed)?;
        let values = fields.expect(SET).ok_or(malformed)?;
        fields.end().ok_or(malformed)?;
        if is(named.whole, &CREDENTIAL_TYPE) {
            kinds.push(values.content);
        }
    }
    match kinds.as_slice() {
        [] => Ok(()),
        [kind] => {
            let kind = element::only(kind, SEQUENCE).ok_or(malformed)?;
            let kind = element::only(kind.content, OBJECT_IDENTIFIER).ok_or(malformed)?;
            match kind.whole {
                kind if is(kind, &BASE) => Ok(()),
                kind if is(kind, &DELTA) => Err(Reject::PlatformCertificateDelta),
                _ => Err(malformed),
            }
        }
        _ => Err(malformed),
    }
}

fn is(element: &[u8], oid: &Oid<'_>) -> bool {
    Oid::from_der(element).is_ok_and(|(_, named)| named == *oid)
}

fn read_extensions(content: &[u8]) -> Option<Vec<X509Extension<'_>>> {
    element::all(content, SEQUENCE)?
        .into_iter()
        .map(read_extension)
        .collect()
}

fn read_extension(extension: Element<'_>) -> Option<X509Extension<'_>> {
    let (rest, extension) = X509Extension::from_der(extension.whole).ok()?;
    rest.is_empty().then_some(extension)
}
