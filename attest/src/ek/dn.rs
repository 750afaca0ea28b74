//! Distinguished names, as they are compared (RFC 5280 §7.1).
//!
//! A name only says whose signature to try: what vouches for a certificate is a key, whoever has the name.

use x509_parser::{
    der_parser::asn1_rs::{Any, Tag},
    x509::{AttributeTypeAndValue, RelativeDistinguishedName, X509Name},
};

/// A name by which CAs and CRLs are found: the same for all names that are equal. Not DER.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct NameKey(Vec<u8>);

/// Stands for every string type whose characters are compared.
const TEXT: u32 = u32::MAX;

impl NameKey {
    /// PrintableString and UTF8String of the same characters are equal, whatever their letters' case and however wide
    /// their white space. Values of any other type are equal if their bytes are.
    pub(super) fn of(name: &X509Name<'_>) -> Self {
        let relative: Vec<Vec<u8>> = name.iter_rdn().map(relative).collect();
        Self(sequence(&relative))
    }
}

/// A set: its order says nothing, and vendors' ones are not always sorted.
fn relative(name: &RelativeDistinguishedName<'_>) -> Vec<u8> {
    let mut attributes: Vec<Vec<u8>> = name.iter().map(attribute).collect();
    attributes.sort();
    sequence(&attributes)
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> Vec<u8> {
    let (tag, value) = value(attribute.attr_value());
    let kind = attribute.attr_type().as_bytes().to_vec();
    sequence(&[kind, tag.to_be_bytes().to_vec(), value])
}

fn value(value: &Any<'_>) -> (u32, Vec<u8>) {
    let bytes: &[u8] = value.data;
    let is_text = matches!(value.tag(), Tag::PrintableString | Tag::Utf8String);
    match str::from_utf8(bytes) {
        Ok(text) if is_text => (TEXT, folded(text).into_bytes()),
        _ => (value.tag().0, bytes.into()),
    }
}

/// In small letters, with one space between words and none around them (RFC 4518 §2.6.1).
fn folded(text: &str) -> String {
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    words.join(" ")
}

/// Each item behind its length: two names have one form only if their items are the same.
fn sequence(items: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for item in items {
        bytes.extend(item.len().to_be_bytes());
        bytes.extend(item);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::FromDer;

    use super::*;

    const PRINTABLE: u8 = 0x13;
    const UTF8: u8 = 0x0c;
    const IA5: u8 = 0x16;
    const COMMON_NAME: u8 = 3;
    const ORGANIZATION: u8 = 10;

    /// Relative names, each of attributes: the last arc of id-at, the tag of the string, the string.
    type Parts<'a> = &'a [&'a [(u8, u8, &'a str)]];

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
    }

    fn key(parts: Parts<'_>) -> NameKey {
        let attribute = |(kind, tag, text): &(u8, u8, &str)| {
            let oid = tlv(6, &[0x55, 4, *kind]);
            tlv(0x30, &[oid, tlv(*tag, text.as_bytes())].concat())
        };
        let set = |attributes: &&[_]| {
            tlv(
                0x31,
                &attributes.iter().map(attribute).collect::<Vec<_>>().concat(),
            )
        };
        let der = tlv(0x30, &parts.iter().map(set).collect::<Vec<_>>().concat());
        NameKey::of(&X509Name::from_der(&der).unwrap().1)
    }

    fn check(one: Parts<'_>, other: Parts<'_>, is_same: bool) {
        assert_eq!(key(one) == key(other), is_same, "{one:?} {other:?}");
    }

    #[test]
    fn strings_are_equal_by_their_characters() {
        let name = |tag, text| key(&[&[(COMMON_NAME, tag, text)]]);
        let ours = name(PRINTABLE, "STM TPM ECC Root CA 01");
        for (tag, same) in [
            (UTF8, "STM TPM ECC Root CA 01"),
            (UTF8, "stm tpm ecc root ca 01"),
            (PRINTABLE, " STM  TPM ECC Root CA 01 "),
        ] {
            assert_eq!(name(tag, same), ours, "{same}");
        }
        for (tag, other) in [
            (IA5, "STM TPM ECC Root CA 01"),
            (UTF8, "STM TPM ECC Root CA 02"),
            (UTF8, "STMTPM ECC Root CA 01"),
            (UTF8, ""),
        ] {
            assert_ne!(name(tag, other), ours, "{other}");
        }
        assert_eq!(name(UTF8, "Ä"), name(UTF8, "ä"));
        assert_ne!(name(IA5, "a"), name(IA5, "A"));
    }

    #[test]
    fn names_are_equal_part_by_part() {
        let [cn, o] = [(COMMON_NAME, UTF8, "a"), (ORGANIZATION, UTF8, "b")];
        check(&[&[cn], &[o]], &[&[cn], &[o]], true);
        check(&[&[cn, o]], &[&[o, cn]], true);
        check(&[&[cn], &[o]], &[&[o], &[cn]], false);
        check(&[&[cn], &[o]], &[&[cn, o]], false);
        check(&[&[cn], &[o]], &[&[cn]], false);
        check(&[&[cn]], &[&[(ORGANIZATION, UTF8, "a")]], false);
        check(&[], &[], true);
        check(&[], &[&[cn]], false);
    }
}
