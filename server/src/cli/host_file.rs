//! Files that name hosts to enrol: CSV with a header, a list of hashes, or JSON.

use csv::{ReaderBuilder, StringRecord, Trim};
use proto::plastron::host::v1::{EndorsementKey, NewHost};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Deserializer;

/// A host in a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Listed {
    /// Where it stands.
    pub(super) at: String,
    /// What is said of it.
    pub(super) host: NewHost,
}

/// A file can't be read as a list of hosts.
#[derive(Debug, thiserror::Error)]
pub enum HostFileError {
    /// It is no CSV.
    #[error(transparent)]
    Csv(#[from] csv::Error),
    /// The header says one thing twice.
    #[error("line {line}: column `{name}` comes twice")]
    ColumnTwice {
        /// Where the header is.
        line: u64,
        /// The column.
        name: String,
    },
    /// The header names something else.
    #[error(
        "line {line}: unknown column `{name}`; columns are {COLUMNS}, and a list without header has one EK hash of \
         64 hex digits a line"
    )]
    ColumnUnknown {
        /// Where the header is.
        line: u64,
        /// The column.
        name: String,
    },
    /// There are none.
    #[error("it names no host")]
    Empty,
    /// It is no JSON, or has other fields.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

const COLUMNS: &str =
    "name (or asset), ek_hash, issuer, serial_number, issuer_key, path, policies (or policy)";

/// What a column of a CSV file holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Column {
    EkHash,
    Issuer,
    IssuerKey,
    Name,
    Path,
    Policies,
    SerialNumber,
}

/// A host as JSON has it; `plastron-agent tpm ek --output json` prints one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonHost {
    #[serde(default, alias = "asset")]
    name: String,
    #[serde(default)]
    path: String,
    endorsement_keys: Vec<JsonKey>,
    #[serde(default)]
    policies: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonKey {
    #[serde(default)]
    hash: String,
    #[serde(default)]
    issuer: String,
    #[serde(default)]
    serial_number: String,
    #[serde(default)]
    issuer_key: String,
}

/// Reads the hosts of a file, whichever of the forms it has. What is said of each is for the server to judge.
///
/// # Errors
///
/// It has none of the forms, or names no host.
pub(super) fn parse(text: &str) -> Result<Vec<Listed>, HostFileError> {
    // Spreadsheets begin their files with a mark.
    let text = text.trim_start_matches('\u{feff}');
    let hosts = if text.trim_start().starts_with(['{', '[']) {
        parse_json(text)?
    } else {
        parse_csv(text)?
    };
    if hosts.is_empty() {
        return Err(HostFileError::Empty);
    }
    Ok(hosts)
}

fn parse_csv(text: &str) -> Result<Vec<Listed>, HostFileError> {
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .trim(Trim::All)
        .from_reader(text.as_bytes());
    let mut columns = Vec::new();
    let mut hosts = Vec::new();
    for record in reader.records() {
        let record = record?;
        let line = line_of(text, &record);
        if columns.is_empty() {
            if !is_hash(&record) {
                columns = header(line, &record)?;
                continue;
            }
            columns.push(Column::EkHash);
        }
        hosts.push(Listed {
            at: format!("line {line}"),
            host: host_of(&columns, &record),
        });
    }
    Ok(hosts)
}

/// Where a record begins; the reader counts from before the blank lines that it skipped.
fn line_of(text: &str, record: &StringRecord) -> u64 {
    let Some(position) = record.position() else {
        return 0;
    };
    let start = usize::try_from(position.byte()).unwrap_or(usize::MAX);
    let skipped = text.bytes().skip(start).take_while(|byte| b"\r\n".contains(byte));
    let blank = skipped.filter(|byte| *byte == b'\n').map(|_| 1_u64).sum::<u64>();
    position.line() + blank
}

/// Whether the first record is no header: SPIRE's community TPM plugin keeps hashes alone, one a line.
fn is_hash(record: &StringRecord) -> bool {
    let is_digits = |cell: &str| cell.len() == 64 && cell.bytes().all(|byte| byte.is_ascii_hexdigit());
    record.len() == 1 && record.get(0).is_some_and(is_digits)
}

fn header(line: u64, record: &StringRecord) -> Result<Vec<Column>, HostFileError> {
    let mut columns = Vec::new();
    for name in record {
        let column = match name {
            "ek_hash" => Column::EkHash,
            "issuer" => Column::Issuer,
            "issuer_key" => Column::IssuerKey,
            "asset" | "name" => Column::Name,
            "path" => Column::Path,
            "policies" | "policy" => Column::Policies,
            "serial_number" => Column::SerialNumber,
            _ => {
                let name = name.into();
                return Err(HostFileError::ColumnUnknown { line, name });
            }
        };
        if columns.contains(&column) {
            let name = name.into();
            return Err(HostFileError::ColumnTwice { line, name });
        }
        columns.push(column);
    }
    Ok(columns)
}

fn host_of(columns: &[Column], record: &StringRecord) -> NewHost {
    let cell = |wanted| {
        let mut cells = columns.iter().zip(record);
        let found = cells.find(|(column, _)| **column == wanted);
        found.map(|(_, cell)| cell.to_owned()).unwrap_or_default()
    };
    let key = EndorsementKey {
        hash: cell(Column::EkHash),
        issuer: cell(Column::Issuer),
        serial_number: cell(Column::SerialNumber),
        issuer_key: cell(Column::IssuerKey),
        ..EndorsementKey::default()
    };
    NewHost {
        name: cell(Column::Name),
        path: cell(Column::Path),
        endorsement_keys: vec![key],
        // Commas are what cells end with.
        policies: cell(Column::Policies)
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
    }
}

/// One array of hosts, or hosts one after the other, as many hosts' `tpm ek` gives in one file.
fn parse_json(text: &str) -> Result<Vec<Listed>, HostFileError> {
    let hosts: Vec<JsonHost> = if text.trim_start().starts_with('[') {
        serde_json::from_str(text)?
    } else {
        Deserializer::from_str(text)
            .into_iter()
            .collect::<Result<_, _>>()?
    };
    let lines = lines_of(text);
    let listed = hosts.into_iter().zip(lines).map(|(host, line)| Listed {
        at: format!("line {line}"),
        host: host.into(),
    });
    Ok(listed.collect())
}

/// On which line each host of a JSON text begins; the text is known to be good.
fn lines_of(text: &str) -> Vec<usize> {
    let is_between = |c: char| c.is_ascii_whitespace() || matches!(c, '[' | ',' | ']');
    let newlines = |text: &str| text.bytes().filter(|byte| *byte == b'\n').count();
    let (mut rest, mut line, mut lines) = (text, 1, Vec::new());
    loop {
        let host = rest.trim_start_matches(is_between);
        let (between, _) = rest.split_at(rest.len() - host.len());
        line += newlines(between);
        let mut values = Deserializer::from_str(host).into_iter::<IgnoredAny>();
        let Some(Ok(_)) = values.next() else {
            return lines;
        };
        lines.push(line);
        let (read, unread) = host.split_at(values.byte_offset());
        line += newlines(read);
        rest = unread;
    }
}

impl From<JsonHost> for NewHost {
    fn from(host: JsonHost) -> Self {
        Self {
            name: host.name,
            path: host.path,
            endorsement_keys: host.endorsement_keys.into_iter().map(Into::into).collect(),
            policies: host.policies,
        }
    }
}

impl From<JsonKey> for EndorsementKey {
    fn from(key: JsonKey) -> Self {
        Self {
            hash: key.hash,
            issuer: key.issuer,
            serial_number: key.serial_number,
            issuer_key: key.issuer_key,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    /// Each host as `line|name|hash|issuer|serial;…`, or the error.
    fn read(text: &str) -> Result<Vec<String>, String> {
        let said = |listed: Listed| {
            let keys = listed.host.endorsement_keys;
            let key = |key: EndorsementKey| format!("{}|{}|{}", key.hash, key.issuer, key.serial_number);
            let keys: Vec<_> = keys.into_iter().map(key).collect();
            let line = listed.at.strip_prefix("line ").unwrap().to_owned();
            format!("{line}|{}|{}", listed.host.name, keys.join(";"))
        };
        let hosts = parse(text).map_err(|error| error.to_string())?;
        Ok(hosts.into_iter().map(said).collect())
    }

    fn check(text: &str, expected: &[&str]) {
        let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
        assert_eq!(read(text), Ok(expected), "{text}");
    }

    fn check_refused(text: &str, expected: &str) {
        let error = read(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }

    #[test]
    fn csv_columns_come_in_any_order() {
        check(
            "name,ek_hash,issuer,serial_number\ndb-1,aa,,\n\"web, 1\",,\"CN=ca,O=v\",0a:1b\n",
            &["2|db-1|aa||", "3|web, 1||CN=ca,O=v|0a:1b"],
        );
        check("ek_hash , name\r\n bb , db-2 \r\n", &["2|db-2|bb||"]);
        check("\u{feff}ek_hash\naa", &["2||aa||"]);
        check("name\ndb-1\n", &["2|db-1|||"]);
    }

    #[test]
    fn an_issuers_key_may_be_named() {
        let named = |text: &str| {
            let hosts = parse(text).unwrap();
            let keys = hosts.into_iter().flat_map(|listed| listed.host.endorsement_keys);
            keys.map(|key| key.issuer_key).collect::<Vec<_>>()
        };
        assert_eq!(
            named("issuer,serial_number,issuer_key\nCN=ca,0a,ab\nCN=ca,0b,\n"),
            ["ab", ""]
        );
        let json =
            r#"{"endorsement_keys": [{"issuer": "CN=ca", "serial_number": "0a", "issuer_key": "ab"}]}"#;
        assert_eq!(named(json), ["ab"]);
    }

    #[test]
    fn a_row_names_the_asset_its_path_and_its_policies() {
        let csv = "asset,ek_hash,path,policy\ndb-1,aa,dc1/db-1,rack-7 web\n";
        let json = r#"{"asset": "db-1", "path": "dc1/db-1", "policies": ["rack-7", "web"],
            "endorsement_keys": [{"hash": "aa"}]}"#;
        for text in [csv, json] {
            let host = parse(text).unwrap().remove(0).host;
            assert_eq!((host.name.as_str(), host.path.as_str()), ("db-1", "dc1/db-1"));
            assert_eq!(host.policies, ["rack-7", "web"]);
        }
        check_refused("asset,name\n", "column `name` comes twice");
    }

    #[test]
    fn csv_lines_are_counted_with_blank_ones() {
        check("\n\nek_hash\n\naa\n\n\nbb\n", &["5||aa||", "8||bb||"]);
        check("\r\nek_hash\r\n\r\naa\r\nbb", &["4||aa||", "5||bb||"]);
        check(
            "name,ek_hash\n\"two\nlines\",aa\nb,bb\n",
            &["2|two\nlines|aa||", "4|b|bb||"],
        );
    }

    #[test]
    fn a_list_of_hashes_needs_no_header() {
        let first = format!("1||{HASH}||");
        check(HASH, &[&first]);
        check(&format!("{HASH}\n\nxyz\n"), &[&first, "3||xyz||"]);
        check(&HASH.to_uppercase(), &[&format!("1||{}||", HASH.to_uppercase())]);
    }

    #[test]
    fn refuses_csv_that_is_malformed() {
        check_refused(
            "name,hash\nx,aa\n",
            "line 1: unknown column `hash`; columns are name (or asset),",
        );
        check_refused("\nname,name\n", "line 2: column `name` comes twice");
        check_refused("name,ek_hash\ndb-1\n", "line: 2");
        check_refused(&format!("{HASH}\n{HASH},x\n"), "line: 2");
        check_refused("00112233\n", "line 1: unknown column `00112233`");
        check_refused("ek_hash\n", "it names no host");
        check_refused("", "it names no host");
    }

    #[test]
    fn json_is_an_array_or_hosts_one_after_the_other() {
        let host = r#"{"name": "db-1", "endorsement_keys": [{"hash": "aa"},
            {"issuer": "CN=ca, [O=v]", "serial_number": "0a"}]}"#;
        let said = |line| format!("{line}|db-1|aa||;|CN=ca, [O=v]|0a");
        check(host, &[&said(1)]);
        check(&format!("\n{host}\n{host}"), &[&said(2), &said(4)]);
        check(&format!("[{host},\n\n{host}\n]\n"), &[&said(1), &said(4)]);
        check(r#"[{"endorsement_keys": []}]"#, &["1||"]);
    }

    #[test]
    fn refuses_json_that_is_malformed_or_says_more() {
        check_refused("[]", "it names no host");
        check_refused("{\"endorsement_keys\": [],\n\"ip\": 1}", "unknown field `ip`");
        check_refused("{\"endorsement_keys\": [],\n\"ip\": 1}", "line 2");
        check_refused(
            "[{\"endorsement_keys\": [\n\n{\"hash\": \"aa\", \"x\": 1}]}]",
            "unknown field `x`",
        );
        check_refused("[\n{\"endorsement_keys\": [{\"hash\": 1}]}]", "line 2");
        check_refused("{\"name\": \"x\"}", "missing field `endorsement_keys`");
        check_refused("{\"endorsement_keys\": []} x", "expected value");
        check_refused("[{\"endorsement_keys\": []}", "EOF");
        check_refused("[1]", "line 1");
    }
}
