//! From an SVID's serial number to who registered its entry, and to the host that got it.

use std::str::FromStr;

use proto::plastron::store::v1::AuditRecord;
use serde_json::{Value, json};
use svid::x509::SerialNumber;

use super::{
    super::{
        CommandError,
        output::{self, Output, facts},
    },
    at, each,
    filter::value,
    show::{self, word},
};
use crate::journal::{Entry, Reader};

/// A serial number as it is logged.
#[derive(Clone, Debug)]
pub(super) struct Serial(String);

/// What the trail says of an SVID, from its issue back to where it came from.
#[derive(Debug, Default)]
pub(super) struct Lead {
    issued: Option<Entry>,
    /// The latest before the issue.
    attested: Option<Entry>,
    registered: Option<Entry>,
    /// The latest change of the entry before the issue.
    updated: Option<Entry>,
    enrolled: Option<Entry>,
    /// The latest that names the host's endorsement keys.
    keys: Option<Entry>,
}

/// Events by which an SVID is given.
const ISSUED: &[&str] = &["server_svid_issued", "svid_issued", "svid_minted"];

/// Reads the trail as often as it is led on: what led to a record stands before it. `open` begins anew.
pub(super) fn lead(
    open: impl Fn() -> Result<Reader, CommandError>,
    serial: &Serial,
) -> Result<Lead, CommandError> {
    let mut found = Lead::default();
    each(&mut open()?, |entry| {
        let record = &entry.record;
        if ISSUED.contains(&record.event.as_str()) && value(record, "serial_num") == Some(&serial.0) {
            found.issued.get_or_insert_with(|| entry.clone());
        }
        Ok(())
    })?;
    let Some(issued) = found.issued.clone() else {
        let message = format!("no record of an X509-SVID with serial number {}", serial.0);
        return Err(CommandError::Input(message));
    };
    each(&mut open()?, |entry| {
        found.note_origin(&issued.record, entry);
        Ok(())
    })?;
    let attested = found.attested.as_ref();
    if let Some(host_id) = attested.and_then(|entry| value(&entry.record, "host_id")) {
        let host_id = host_id.to_owned();
        each(&mut open()?, |entry| {
            found.note_host(&issued.record, &host_id, entry);
            Ok(())
        })?;
    }
    Ok(found)
}

impl Lead {
    /// The agent's own SVID is issued and its attestation audited together, so that the numbers are beside each other.
    fn note_origin(&mut self, issued: &AuditRecord, entry: &Entry) {
        let record = &entry.record;
        let entry_id = value(issued, "entry_id");
        let is_of_entry = entry_id.is_some() && value(record, "entry_id") == entry_id;
        let is_before = record.sequence < issued.sequence;
        let is_with = value(record, "serial_num") == value(issued, "serial_num");
        match record.event.as_str() {
            "agent_attested" if record.actor == issued.actor && (is_before || is_with) => {
                self.attested = Some(entry.clone());
            }
            "entry_created" if is_of_entry && is_before => {
                self.registered = Some(entry.clone());
                self.updated = None;
            }
            "entry_updated" if is_of_entry && is_before => self.updated = Some(entry.clone()),
            _ => {}
        }
    }

    fn note_host(&mut self, issued: &AuditRecord, host_id: &str, entry: &Entry) {
        let record = &entry.record;
        let is_it = value(record, "host_id") == Some(host_id) && record.sequence < issued.sequence;
        if is_it && matches!(record.event.as_str(), "host_enrolled" | "host_keys_changed") {
            self.keys = Some(entry.clone());
        }
        if is_it && record.event == "host_enrolled" {
            self.enrolled = Some(entry.clone());
        }
    }

    pub(super) fn print(&self, form: Output) -> Result<(), CommandError> {
        match form {
            Output::Json => output::line_to_reader(&self.json().to_string()),
            Output::Pretty => {
                output::line(&self.pretty());
                Ok(())
            }
        }
    }

    pub(super) fn json(&self) -> Value {
        let of = |entry: &Option<Entry>| entry.as_ref().map(show::json);
        json!({
            "issued": of(&self.issued),
            "agent_attested": of(&self.attested),
            "entry_created": of(&self.registered),
            "entry_updated": of(&self.updated),
            "host_enrolled": of(&self.enrolled),
            "host_keys": of(&self.keys),
        })
    }

    pub(super) fn pretty(&self) -> String {
        let mut said = Vec::new();
        if let Some(Entry { record, .. }) = &self.issued {
            let field = |name| word(value(record, name).unwrap_or("unknown"));
            said.push(("Serial number", field("serial_num")));
            said.push(("SPIFFE ID", field("spiffe_id")));
            said.push(("Issued", happened(record)));
            said.push(("Expires", field("expires_at")));
            said.push(("Authority", field("authority_id")));
            self.say_entry(value(record, "entry_id"), &mut said);
        }
        self.say_host(&mut said);
        facts(&said)
    }

    fn say_entry(&self, id: Option<&str>, said: &mut Vec<(&str, String)>) {
        let Some(id) = id else {
            said.push(("Entry", "none: not issued by an entry".into()));
            return;
        };
        said.push(("Entry", word(id)));
        match &self.registered {
            Some(entry) => {
                said.push(("Registered", happened(&entry.record)));
                let selectors = value(&entry.record, "selectors").unwrap_or_default();
                said.push(("Selectors", word(selectors)));
            }
            None => said.push(("Registered", "in no record of this trail".into())),
        }
        if let Some(entry) = &self.updated {
            said.push(("Last changed", happened(&entry.record)));
        }
    }

    fn say_host(&self, said: &mut Vec<(&str, String)>) {
        let Some(Entry { record, .. }) = &self.attested else {
            return;
        };
        let field = |name| word(value(record, name).unwrap_or("unknown"));
        said.push(("Agent", word(&record.actor)));
        let attested = format!(
            "{} by {} from {}",
            at(record.at),
            field("node_attestor_type"),
            field("caller_addr")
        );
        said.push(("Agent attested", attested));
        let Some(host) = value(record, "host_id") else {
            said.push(("Host", "no row: not attested by TPM".into()));
            return;
        };
        said.push(("Host", word(host)));
        if let Some(Entry { record, .. }) = &self.keys {
            let field = |name| word(value(record, name).unwrap_or_default());
            said.push(("Host name", field("host_name")));
            said.push(("Endorsement key", field("ek_hash")));
            said.push(("EK certificate", field("ek_certificate")));
        }
        if let Some(Entry { record, .. }) = &self.enrolled {
            said.push(("Host enrolled", happened(record)));
        }
    }
}

/// When, by whom, and which record says so.
fn happened(record: &AuditRecord) -> String {
    let (time, actor) = (at(record.at), &record.actor);
    format!("{time} by {} (record {})", actor.escape_debug(), record.sequence)
}

impl FromStr for Serial {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Self(text.trim_start_matches('0').into()));
        }
        let digits = text.trim_start_matches("0x").replace(':', "");
        let digits = format!("{:0>width$}", digits, width = digits.len().next_multiple_of(2));
        match hex::decode(digits) {
            Ok(bytes) if !bytes.is_empty() => Ok(Self(SerialNumber::from_bytes(&bytes).to_string())),
            _ => Err("write it as a decimal number, or in hexadecimal as openssl does".into()),
        }
    }
}
