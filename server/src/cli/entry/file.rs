//! Files that name entries. SPIRE has two forms, and both are read: what `entry show -output json` prints, and
//! registration-entries files, which write IDs as text. A third names identifiers of entries to delete.

use std::{fmt, fs, io, path::Path};

use proto::spire::api::types::{self, Entry, entry::AdditionalAttributes};
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned, IgnoredAny, MapAccess, Visitor, value::MapAccessDeserializer},
};
use svid::{Selector, SpiffeId, TrustDomain};

use super::{CommandError, wire_id, wire_selector};

/// An entry in a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Listed {
    /// Where it stands, such as `entries[3]`.
    pub(super) at: String,
    /// What is said of it. It has no identifier where the file gives none.
    pub(super) entry: Entry,
}

/// A file does not have one of the forms; the text says where.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct EntryFileError(#[from] serde_path_to_error::Error<serde_json::Error>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entries {
    entries: Vec<JsonEntry>,
    #[serde(default, rename = "next_page_token")]
    _next_page_token: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ids {
    ids: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonEntry {
    #[serde(default, alias = "entry_id")]
    id: String,
    spiffe_id: TextOr<IdParts>,
    parent_id: TextOr<IdParts>,
    selectors: Vec<TextOr<SelectorParts>>,
    #[serde(default)]
    x509_svid_ttl: i32,
    #[serde(default)]
    jwt_svid_ttl: i32,
    #[serde(default)]
    federates_with: Vec<String>,
    #[serde(default)]
    admin: bool,
    #[serde(default)]
    downstream: bool,
    #[serde(
        default,
        alias = "entryExpiry",
        alias = "entry_expiry",
        deserialize_with = "seconds"
    )]
    expires_at: i64,
    #[serde(default)]
    dns_names: Vec<String>,
    #[serde(default)]
    store_svid: bool,
    #[serde(default)]
    hint: String,
    #[serde(default)]
    additional_attributes: Option<Attributes>,
    #[serde(default)]
    disable_x509_svid_prefetch: bool,
    #[serde(default)]
    jwt_svid_include_jti: bool,
    // The server's own, which it will not take from others.
    #[serde(default, rename = "revision_number")]
    _revision_number: IgnoredAny,
    #[serde(default, rename = "created_at")]
    _created_at: IgnoredAny,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Attributes {
    #[serde(default)]
    disable_x509_svid_prefetch: bool,
    #[serde(default)]
    jwt_svid_include_jti: bool,
}

/// Something that is written in parts or as one text.
trait Parts: DeserializeOwned {
    type Whole;
    const EXPECTED: &'static str;
    fn parse(text: &str) -> Result<Self::Whole, String>;
    fn join(self) -> Result<Self::Whole, String>;
}

struct TextOr<P: Parts>(P::Whole);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IdParts {
    trust_domain: String,
    #[serde(default)]
    path: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SelectorParts {
    r#type: String,
    value: String,
}

/// Reads a file as text; `-` is standard input.
pub(super) fn read(path: &Path) -> Result<String, CommandError> {
    let text = if path.as_os_str() == "-" {
        io::read_to_string(io::stdin())
    } else {
        fs::read_to_string(path)
    };
    text.map_err(|source| CommandError::File {
        path: path.into(),
        source,
    })
}

/// The entries of the file at `path`.
pub(super) fn read_entries(path: &Path) -> Result<Vec<Listed>, CommandError> {
    parse_entries(&read(path)?).map_err(|source| refused(path, source))
}

/// The identifiers in the file at `path`.
pub(super) fn read_ids(path: &Path) -> Result<Vec<String>, CommandError> {
    parse_ids(&read(path)?).map_err(|source| refused(path, source))
}

fn refused(path: &Path, source: EntryFileError) -> CommandError {
    CommandError::EntryFile {
        path: path.into(),
        source,
    }
}

/// Reads entries: `{"entries": [...]}`.
///
/// # Errors
///
/// It has neither form, or a field that neither form has.
pub(super) fn parse_entries(text: &str) -> Result<Vec<Listed>, EntryFileError> {
    let file: Entries = parse(text)?;
    let listed = file.entries.into_iter().enumerate().map(|(index, entry)| Listed {
        at: format!("entries[{index}]"),
        entry: entry.into(),
    });
    Ok(listed.collect())
}

/// Reads identifiers: `{"ids": [...]}`.
///
/// # Errors
///
/// It has another form.
pub(super) fn parse_ids(text: &str) -> Result<Vec<String>, EntryFileError> {
    Ok(parse::<Ids>(text)?.ids)
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, EntryFileError> {
    let mut deserializer = serde_json::Deserializer::from_str(text.trim_start_matches('\u{feff}'));
    let value = serde_path_to_error::deserialize(&mut deserializer)?;
    let ended: Result<IgnoredAny, _> = serde_path_to_error::deserialize(End(&mut deserializer));
    ended?;
    Ok(value)
}

/// Nothing may follow; said with a place as all else is.
struct End<'a, R>(&'a mut serde_json::Deserializer<R>);

impl<'de, R: serde_json::de::Read<'de>> Deserializer<'de> for End<'_, R> {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.0.end()?;
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// Protobuf's JSON writes 64-bit numbers as text; Go's own does not.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    struct Seconds;

    impl Visitor<'_> for Seconds {
        type Value = i64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("seconds since the epoch")
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<i64, E> {
            Ok(number)
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<i64, E> {
            i64::try_from(number).map_err(E::custom)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<i64, E> {
            text.parse().map_err(E::custom)
        }
    }

    deserializer.deserialize_any(Seconds)
}

impl<'de, P: Parts> Deserialize<'de> for TextOr<P> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<P>(std::marker::PhantomData<P>);

        impl<'de, P: Parts> Visitor<'de> for Either<P> {
            type Value = TextOr<P>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(P::EXPECTED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                P::parse(text).map(TextOr).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                let parts = P::deserialize(MapAccessDeserializer::new(map))?;
                parts.join().map(TextOr).map_err(de::Error::custom)
            }
        }

        deserializer.deserialize_any(Either(std::marker::PhantomData))
    }
}

impl Parts for IdParts {
    type Whole = SpiffeId;
    const EXPECTED: &'static str = "a SPIFFE ID, as text or as trust_domain and path";

    fn parse(text: &str) -> Result<SpiffeId, String> {
        SpiffeId::parse(text).map_err(|error| error.to_string())
    }

    fn join(self) -> Result<SpiffeId, String> {
        let trust_domain = TrustDomain::parse(&self.trust_domain).map_err(|error| error.to_string())?;
        SpiffeId::new(trust_domain, &self.path).map_err(|error| error.to_string())
    }
}

impl Parts for SelectorParts {
    type Whole = Selector;
    const EXPECTED: &'static str = "a selector, as `type:value` or as type and value";

    fn parse(text: &str) -> Result<Selector, String> {
        text.parse()
            .map_err(|error: svid::SelectorError| error.to_string())
    }

    fn join(self) -> Result<Selector, String> {
        Selector::new(&self.r#type, &self.value).map_err(|error| error.to_string())
    }
}

impl From<JsonEntry> for Entry {
    fn from(json: JsonEntry) -> Self {
        let nested = json.additional_attributes.unwrap_or_default();
        let attributes = AdditionalAttributes {
            disable_x509_svid_prefetch: nested.disable_x509_svid_prefetch || json.disable_x509_svid_prefetch,
            jwt_svid_include_jti: nested.jwt_svid_include_jti || json.jwt_svid_include_jti,
        };
        Self {
            id: json.id,
            spiffe_id: Some(wire_id(&json.spiffe_id.0)),
            parent_id: Some(wire_id(&json.parent_id.0)),
            selectors: json.selectors.iter().map(wire).collect(),
            x509_svid_ttl: json.x509_svid_ttl,
            jwt_svid_ttl: json.jwt_svid_ttl,
            federates_with: json.federates_with,
            admin: json.admin,
            downstream: json.downstream,
            expires_at: json.expires_at,
            dns_names: json.dns_names,
            store_svid: json.store_svid,
            hint: json.hint,
            additional_attributes: (attributes != AdditionalAttributes::default()).then_some(attributes),
            ..Self::default()
        }
    }
}

fn wire(selector: &TextOr<SelectorParts>) -> types::Selector {
    wire_selector(&selector.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SPIRE's registration-entries file (`entry create -data`).
    const FILE_FORM: &str = r#"{"entries": [{
        "entry_id": "e", "spiffe_id": "spiffe://example.org/db", "parent_id": "spiffe://example.org/host",
        "selectors": [{"type": "unix", "value": "uid:0"}], "x509_svid_ttl": 60, "entryExpiry": 5,
        "dns_names": ["db"], "federates_with": ["spiffe://other.org"], "admin": true, "jwt_svid_include_jti": true
    }]}"#;

    /// The same as SPIRE's `entry show -output json` has it.
    const SHOWN_FORM: &str = r#"{"entries": [{
        "id": "e", "spiffe_id": {"trust_domain": "example.org", "path": "/db"},
        "parent_id": {"trust_domain": "example.org", "path": "/host"},
        "selectors": [{"type": "unix", "value": "uid:0"}], "x509_svid_ttl": 60, "jwt_svid_ttl": 0,
        "federates_with": ["spiffe://other.org"], "hint": "", "admin": true, "created_at": "1678731397",
        "downstream": false, "expires_at": "5", "dns_names": ["db"], "revision_number": "7", "store_svid": false,
        "additional_attributes": {"jwt_svid_include_jti": true, "disable_x509_svid_prefetch": false}
    }], "next_page_token": ""}"#;

    const MINIMAL: &str =
        r#"{"spiffe_id": "spiffe://td/a", "parent_id": "spiffe://td/p", "selectors": ["a:b"]}"#;

    #[test]
    fn both_forms_say_the_same() {
        let listed = parse_entries(FILE_FORM).unwrap();
        assert_eq!(listed, parse_entries(SHOWN_FORM).unwrap());
        let [Listed { at, entry }] = listed.as_slice() else {
            panic!("one entry")
        };
        assert_eq!(
            (at.as_str(), entry.id.as_str(), entry.expires_at),
            ("entries[0]", "e", 5)
        );
        assert_eq!(entry.selectors.first().unwrap().value, "uid:0");
        assert!(entry.additional_attributes.unwrap().jwt_svid_include_jti);
    }

    #[test]
    fn what_show_prints_can_be_read_back() {
        let listed = parse_entries(SHOWN_FORM).unwrap();
        let response = super::super::ListEntriesResponse {
            entries: listed.iter().map(|listed| listed.entry.clone()).collect(),
            next_page_token: String::new(),
        };
        let printed = edge::json::print("spire.api.server.entry.v1.ListEntriesResponse", &response).unwrap();
        assert_eq!(parse_entries(&printed.to_string()).unwrap(), listed);
    }

    #[test]
    fn refusals_say_where() {
        let entry =
            |change: (&str, &str)| format!(r#"{{"entries": [{}]}}"#, MINIMAL.replace(change.0, change.1));
        let check = |text: &str, expected: &str| {
            let error = parse_entries(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        };
        parse_entries(&entry(("", ""))).unwrap();
        check(
            &entry(("spiffe_id", "spifeid")),
            "entries[0].spifeid: unknown field `spifeid`",
        );
        check(
            &entry((r#""a:b""#, r#"{"type": "a", "valu": "b"}"#)),
            "entries[0].selectors[0].valu: unknown field `valu`",
        );
        check(
            &entry((r#""a:b""#, r#""ab""#)),
            "entries[0].selectors[0]: selector is not of the form",
        );
        check(
            &entry((r#""a:b""#, "4")),
            "entries[0].selectors[0]: invalid type: integer `4`, expected a selector",
        );
        check(&entry(("spiffe://td/p", "td/p")), "entries[0].parent_id: ");
        check(
            &format!(r#"{{"entries": [{MINIMAL}]}} {{}}"#),
            "trailing characters at line 1",
        );
        check(r#"{"entry": []}"#, "entry: unknown field `entry`");
        check("entries:", "expected value at line 1 column 1");
    }

    #[test]
    fn identifiers_are_a_list() {
        assert_eq!(parse_ids(r#"{"ids": ["a", "b"]}"#).unwrap(), ["a", "b"]);
        parse_ids(r#"["a"]"#).unwrap_err();
        parse_ids(r#"{"id": ["a"]}"#).unwrap_err();
    }
}
