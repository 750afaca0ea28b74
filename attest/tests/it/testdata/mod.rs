//! Every file of `testdata`, and of the `roots` that are shipped, stands in `testdata/TABLE.txt`: accepted, or refused
//! with which code, and which PCRs replay.

mod certificates;
mod keys;
mod lists;
mod logs;
mod quotes;

use std::{collections::BTreeSet, fmt};

use attest::{HashAlg, PcrSet, Reject};

use crate::fixtures::{self, event_log};

const TABLE: &str = include_str!("../../../testdata/TABLE.txt");

#[test]
fn each_file_stands_in_the_table_once() {
    let mut named: Vec<_> = rows().map(|(file, _)| file.to_owned()).collect();
    named.sort();
    let files = fixtures::all_files();
    let (rows, there): (BTreeSet<_>, BTreeSet<_>) = (named.iter().collect(), files.iter().collect());
    let missing: Vec<_> = there.difference(&rows).map(|file| line(file)).collect();
    assert!(missing.is_empty(), "no row has\n{}", missing.join("\n"));
    assert_eq!(named, files, "each row has a file, and no file has two");
}

#[test]
fn event_logs_are_what_the_table_says() {
    check(|folder| folder == "eventlogs");
}

#[test]
fn other_files_are_what_the_table_says() {
    check(|folder| folder != "eventlogs");
}

/// Prints all rows that differ, not only the first.
fn check(is_meant: fn(&str) -> bool) {
    let wrong: Vec<_> = rows()
        .filter(|(file, _)| is_meant(split(file).0))
        .filter(|(file, _)| fixtures::all_files().iter().any(|there| there == file))
        .map(|(file, row)| (line(file), row))
        .filter(|(actual, expected)| actual != expected)
        .map(|(actual, expected)| format!("{actual}\n  not {expected}"))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// File and row, without headings and remarks.
fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    TABLE
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| (line.split(" | ").next().unwrap(), line))
}

/// The row as it has to be.
fn line(file: &str) -> String {
    let (folder, name) = split(file);
    let row = match folder {
        "ek" => certificates::endorsement(name),
        "ek/cas" => certificates::ca(name),
        "ek/platform" => certificates::platform(name),
        "ek/weak" => certificates::weak(name),
        "eventlogs" => logs::row(name),
        "ima" => lists::row(name),
        "pcrs" => quotes::values(name),
        "quotes" => quotes::row(name),
        "rim" => manifest(name),
        "roots" => certificates::shipped(name),
        "secure-boot" => keys::row(name),
        _ => panic!("{file}: nothing is known of files of this folder"),
    };
    format!("{file} | {row}")
}

fn split(file: &str) -> (&str, &str) {
    file.rsplit_once('/').unwrap()
}

/// The columns behind the name.
struct Row {
    verdict: &'static str,
    says: String,
    pcrs: String,
}

impl Row {
    fn accepted(says: impl Into<String>, pcrs: impl Into<String>) -> Self {
        Self {
            verdict: "accepted",
            says: says.into(),
            pcrs: pcrs.into(),
        }
    }

    fn refused(reject: Reject) -> Self {
        Self {
            verdict: reject.code(),
            ..Self::accepted("", "")
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_dash = |text: &str| {
            if text.is_empty() {
                "-".into()
            } else {
                text.to_owned()
            }
        };
        write!(
            f,
            "{} | {} | {}",
            self.verdict,
            or_dash(&self.says),
            or_dash(&self.pcrs)
        )
    }
}

/// A reference integrity manifest is no evidence: nothing reads one. It names the log of its machine.
fn manifest(name: &str) -> Row {
    let text = fixtures::manifest(name);
    let log = fixtures::event_logs()
        .into_iter()
        .find(|log| text.contains(&HashAlg::Sha256.digest(&[&event_log(log)]).to_string()));
    Row {
        verdict: "no evidence",
        ..Row::accepted(format!("has the digest of {}", log.unwrap()), "")
    }
}

fn all_pcrs() -> PcrSet {
    (0..PcrSet::COUNT).collect()
}

/// As `0-9,14`.
fn ranges(pcrs: PcrSet) -> String {
    let begins = |pcr: u8| pcr == 0 || !pcrs.contains(pcr - 1);
    let range = |first: u8| {
        let last = (first..PcrSet::COUNT)
            .take_while(|pcr| pcrs.contains(*pcr))
            .last()
            .unwrap();
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    };
    let ranges: Vec<_> = pcrs.iter().filter(|pcr| begins(*pcr)).map(range).collect();
    ranges.join(",")
}
