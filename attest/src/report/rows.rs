//! The rows of a report on an event log.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::printable;
use crate::{
    HashAlg,
    event_log::{BootText, Content, Event, SbatLevel, SecureBoot, Signature, UkiSection, Words},
};

/// An event.
#[derive(Clone, Debug, Serialize)]
pub struct EventRow {
    /// Position, as TCG's tools count.
    pub index: u32,
    /// The PCR.
    pub pcr: u8,
    /// What the log calls it; not trusted.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests by bank.
    pub digests: BTreeMap<String, String>,
    /// How much of its data has the digest of the bank that is judged by: `whole`, `part`, or `absent`: then the remark is
    /// nothing but a remark. `unproven` if the value of its PCR is not known, but others are: then so is the event.
    pub content: &'static str,
    /// What the data says.
    pub remark: String,
}

/// Secure Boot.
#[derive(Clone, Debug, Serialize)]
pub struct SecureBootRow {
    /// Whether it is on.
    pub on: bool,
    /// `audit`, `deployed`, `setup`, `user`.
    pub mode: String,
    /// SHA-256 of each platform key.
    pub pk: Vec<String>,
    /// SHA-256 of each key exchange key.
    pub kek: Vec<String>,
    /// SHA-256 of each certificate or image that may start.
    pub db: Vec<String>,
    /// SHA-256 of each certificate or image that may not.
    pub dbx: Vec<String>,
    /// By what images were verified: where it was found, and its SHA-256.
    pub authorities: Vec<(String, String)>,
}

/// A level of revocations (SBAT).
#[derive(Clone, Debug, Serialize)]
pub struct SbatRow {
    /// Position of the event.
    pub event: u32,
    /// When it was published.
    pub date: String,
    /// The oldest generation of each component that may start.
    pub generations: BTreeMap<String, u32>,
}

/// A text that a boot loader measured.
#[derive(Clone, Debug, Serialize)]
pub struct BootTextRow {
    /// Position of the event.
    pub event: u32,
    /// The PCR.
    pub pcr: u8,
    /// What the loader calls it, which no digest covers: `grub_cmd`, `kernel_cmdline`, `module_cmdline`, `load_options`.
    pub claimed: &'static str,
    /// What was measured.
    pub text: String,
}

/// A section of a unified kernel image.
#[derive(Clone, Debug, Serialize)]
pub struct SectionRow {
    /// Its name.
    pub name: &'static str,
    /// The digest of what is in it.
    pub digest: String,
}

/// What a PCR was extended by after the log's last event.
#[derive(Clone, Debug, Serialize)]
pub struct WordsRow {
    /// The bank.
    pub bank: String,
    /// The PCR.
    pub pcr: u8,
    /// The words.
    pub words: Vec<&'static str>,
}

impl WordsRow {
    pub(super) fn of(alg: HashAlg, pcr: u8, words: Words) -> Self {
        Self {
            bank: alg.to_string(),
            pcr,
            words: words.to_vec(),
        }
    }
}

/// `sha256 PCR 9 by os-separator, nvpcr-separator`.
impl fmt::Display for WordsRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} PCR {} by {}", self.bank, self.pcr, self.words.join(", "))
    }
}

impl SbatRow {
    pub(super) fn of(level: &SbatLevel<'_>) -> Self {
        let generations = level.generations.iter();
        Self {
            event: level.index,
            date: level.date.into(),
            generations: generations
                .map(|(name, generation)| ((*name).into(), *generation))
                .collect(),
        }
    }
}

impl BootTextRow {
    pub(super) fn of(text: &BootText<'_>) -> Self {
        Self {
            event: text.index,
            pcr: text.pcr,
            claimed: text.claimed,
            text: printable(text.text.to_text().as_bytes()),
        }
    }
}

impl SectionRow {
    pub(super) fn of(section: &UkiSection<'_>) -> Self {
        Self {
            name: section.name,
            digest: hex::encode(section.digest),
        }
    }
}

impl EventRow {
    /// By the digest of `alg`, if that proves anything.
    pub(super) fn of(event: &Event<'_>, alg: Option<HashAlg>) -> Self {
        let content = alg.map(|alg| {
            let digest = event.digests.of(alg);
            digest.map_or(Content::Absent, |digest| Content::find(alg, digest, event.data))
        });
        Self {
            index: event.index,
            pcr: event.pcr,
            kind: event.kind.to_string(),
            digests: event
                .digests
                .iter()
                .map(|(alg, digest)| (alg.to_string(), hex::encode(digest)))
                .collect(),
            content: match content {
                None => "unproven",
                Some(Content::Absent) => "absent",
                Some(Content::Part(_) | Content::Unended(_)) => "part",
                Some(Content::Whole(_)) => "whole",
            },
            remark: event.remark(),
        }
    }
}

impl SecureBootRow {
    pub(super) fn of(state: &SecureBoot<'_>) -> Self {
        let fingerprints =
            |keys: &[Signature<'_>]| keys.iter().map(|key| key.fingerprint().to_string()).collect();
        Self {
            on: state.is_on,
            mode: format!("{:?}", state.mode).to_lowercase(),
            pk: fingerprints(&state.pk),
            kek: fingerprints(&state.kek),
            db: fingerprints(&state.db),
            dbx: fingerprints(&state.dbx),
            authorities: state
                .authorities
                .iter()
                .map(|authority| {
                    let database = printable(authority.database.as_bytes());
                    (database, authority.fingerprint().to_string())
                })
                .collect(),
        }
    }
}

impl fmt::Display for SbatRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.date)?;
        self.generations
            .iter()
            .try_for_each(|(name, generation)| write!(f, ", {name} {generation}"))
    }
}

impl fmt::Display for SecureBootRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Secure Boot   : {}, {} mode",
            if self.on { "on" } else { "off" },
            self.mode
        )?;
        let sizes = [&self.pk, &self.kek, &self.db, &self.dbx].map(Vec::len);
        let [pk, kek, db, dbx] = sizes;
        writeln!(f, "Keys          : {pk} PK, {kek} KEK, {db} db, {dbx} dbx")?;
        self.authorities
            .iter()
            .try_for_each(|(database, digest)| writeln!(f, "Verified by   : {database} {digest}"))
    }
}
