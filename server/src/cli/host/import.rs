//! `host import`.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs, io,
    path::PathBuf,
};

use attest::ek::EkHash;
use clap::{ArgGroup, Args};
use edge::grpc::Client;
use proto::plastron::host::v1::{
    EndorsementKey, Enrolment, ImportHostsRequest, ImportHostsResponse, NewHost, import_hosts_response,
};

use super::{certificates, hosts, platforms, pretty};
use crate::cli::{
    CommandError, Common,
    host_file::{self, Listed},
    output::{note, progress},
};

#[derive(Args, Debug)]
#[command(group(ArgGroup::new("known_by").required(true).args(["ek_hash", "issuer", "file", "ek_certificates", "platform_certificates"])))]
pub(in crate::cli) struct Import {
    /// What to call the host.
    #[arg(long, value_name = "NAME", default_value = "", conflicts_with_all = ["file", "ek_certificates", "platform_certificates"])]
    name: String,
    /// SHA-256 of the endorsement key, as `plastron-agent tpm ek` prints it.
    #[arg(long, value_name = "HEX")]
    ek_hash: Option<EkHash>,
    /// Issuer of the endorsement key's certificate, as any tool prints it.
    #[arg(long, value_name = "DN", requires = "serial_number")]
    issuer: Option<String>,
    /// Serial number of that certificate, with or without `:`.
    #[arg(long, value_name = "HEX", requires = "issuer")]
    serial_number: Option<String>,
    /// SHA-256 of the SubjectPublicKeyInfo of the CA that issued it: no other CA of that name counts. Noted at the first
    /// attestation where it is not given.
    #[arg(long, value_name = "HEX", requires = "issuer")]
    issuer_key: Option<String>,
    /// Policies that the host is held to, separated by commas; without any, those that are for all hosts.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', conflicts_with = "file")]
    policies: Vec<String>,
    /// What follows `/spire/agent/tpm/` in the agent's ID, instead of the hash of the endorsement key; never changes.
    /// `{name}` and `{ek_hash}` stand for what is said of the host. For hosts whose row in the file says nothing else.
    #[arg(long, value_name = "PATH", default_value = "")]
    path: String,
    /// A file of hosts, CSV or JSON; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A folder of endorsement certificates, one a file, in PEM or DER: a host each, called as its file is without the
    /// ending.
    #[arg(long, value_name = "FOLDER")]
    ek_certificates: Option<PathBuf>,
    /// A folder of platform certificates, one a file, in PEM or DER: a host each, known by the TPM that its maker put in,
    /// and called as he calls it: manufacturer, model and serial number.
    #[arg(long, value_name = "FOLDER")]
    platform_certificates: Option<PathBuf>,
    /// A folder of certificates of those who may sign platform certificates, in PEM or DER: only what leads to a root of it
    /// is imported. Without it, whoever filled the folder is believed.
    #[arg(long, value_name = "FOLDER", requires = "platform_certificates")]
    platform_roots: Option<PathBuf>,
    /// Only says what would become of each host.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
}

/// What is to be imported.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    pub(super) listed: Vec<Listed>,
    /// What names no host that could be: where it stands, and why not.
    pub(super) unusable: Vec<(String, String)>,
}

/// How many hosts go into one request.
const BATCH: usize = 500;

impl Import {
    pub(in crate::cli) async fn execute(self) -> Result<(), CommandError> {
        let mut delivery = self.delivery()?;
        for listed in &mut delivery.listed {
            fill_path(&self.path, &mut listed.host);
        }
        delivery.set_doubles_aside();
        let Delivery { listed, unusable } = delivery;
        let results = if listed.is_empty() {
            Vec::new()
        } else {
            let imported = async |client| import(client, &listed, self.dry_run).await;
            self.common.call(imported).await?
        };
        let response = ImportHostsResponse { results };
        let waiting = response
            .results
            .iter()
            .filter(|result| is_waiting(result))
            .count();
        let is_enrolled = |result: &&import_hosts_response::Result| result.code == 0;
        let enrolled = response.results.iter().filter(is_enrolled).count();
        let all = listed.len() + unusable.len();
        let name = "plastron.host.v1.ImportHostsResponse";
        self.common
            .output
            .print(name, &response, || match response.results.as_slice() {
                [only] if is_enrolled(&only) && all == 1 && !self.dry_run => {
                    only.host.as_ref().map(pretty).unwrap_or_default()
                }
                _ if self.dry_run => format!("Would enrol {enrolled} of {all} host(s)"),
                _ if waiting > 0 => {
                    let enrolled = enrolled - waiting;
                    format!("Enrolled {enrolled} of {all} host(s); {waiting} wait for another person's order")
                }
                _ => format!("Enrolled {enrolled} of {all} host(s)"),
            })?;
        say_failures(&listed, &response.results, &unusable);
        check_count(enrolled, all)
    }

    /// The hosts of the file or a folder, or the one that the other options describe.
    fn delivery(&self) -> Result<Delivery, CommandError> {
        if let Some(folder) = &self.ek_certificates {
            return certificates::read(folder, &self.policies);
        }
        if let Some(folder) = &self.platform_certificates {
            return platforms::read(folder, self.platform_roots.as_deref(), &self.policies);
        }
        let listed = if let Some(path) = &self.file {
            let failed = |source| CommandError::File {
                path: path.clone(),
                source,
            };
            let text = if path.as_os_str() == "-" {
                io::read_to_string(io::stdin())
            } else {
                fs::read_to_string(path)
            };
            host_file::parse(&text.map_err(failed)?).map_err(|source| CommandError::HostFile {
                path: path.clone(),
                source,
            })?
        } else {
            vec![self.described()]
        };
        Ok(Delivery {
            listed,
            unusable: Vec::new(),
        })
    }

    fn described(&self) -> Listed {
        let key = EndorsementKey {
            hash: self.ek_hash.map(|hash| hash.to_string()).unwrap_or_default(),
            issuer: self.issuer.clone().unwrap_or_default(),
            serial_number: self.serial_number.clone().unwrap_or_default(),
            issuer_key: self.issuer_key.clone().unwrap_or_default(),
            ..EndorsementKey::default()
        };
        Listed {
            at: "command line".into(),
            host: NewHost {
                name: self.name.clone(),
                endorsement_keys: vec![key],
                policies: self.policies.clone(),
                path: String::new(),
            },
        }
    }
}

/// Makes the path of a host that has none, after `template`. What stays in braces is refused by the server, as is a path
/// that is not whole.
fn fill_path(template: &str, host: &mut NewHost) {
    if !host.path.is_empty() {
        return;
    }
    let mut hashes = host.endorsement_keys.iter().map(|key| key.hash.to_lowercase());
    let hash = hashes.find(|hash| !hash.is_empty()).unwrap_or_default();
    host.path = template.replace("{name}", &host.name).replace("{ek_hash}", &hash);
}

impl Delivery {
    /// Takes out the hosts that have an endorsement key of one before.
    fn set_doubles_aside(&mut self) {
        let mut seen = HashMap::new();
        for listed in std::mem::take(&mut self.listed) {
            match first_with_key(&mut seen, &listed) {
                Some(first) => {
                    let why = format!("has an endorsement key of {first}");
                    self.unusable.push((listed.at, why));
                }
                None => self.listed.push(listed),
            }
        }
    }
}

/// Where a key of this host stood before. Only what is written alike is found: the server finds the rest.
fn first_with_key(seen: &mut HashMap<String, String>, listed: &Listed) -> Option<String> {
    let mut first = None;
    for key in &listed.host.endorsement_keys {
        let hash = (!key.hash.is_empty()).then(|| key.hash.to_lowercase());
        let has_certificate = !key.serial_number.is_empty();
        let certificate = has_certificate.then(|| {
            let serial = key.serial_number.replace(':', "").to_lowercase();
            format!("{serial} {}", key.issuer)
        });
        for name in hash.into_iter().chain(certificate) {
            match seen.entry(name) {
                Entry::Occupied(known) if *known.get() != listed.at => {
                    first = Some(known.get().clone());
                }
                Entry::Occupied(_) => {}
                Entry::Vacant(place) => {
                    place.insert(listed.at.clone());
                }
            }
        }
    }
    first
}

async fn import(
    client: Client,
    listed: &[Listed],
    dry_run: bool,
) -> Result<Vec<import_hosts_response::Result>, CommandError> {
    let mut client = hosts(client);
    let mut results = Vec::with_capacity(listed.len());
    for batch in listed.chunks(BATCH) {
        let request = ImportHostsRequest {
            hosts: batch.iter().map(|listed| listed.host.clone()).collect(),
            dry_run,
        };
        let answer = client.import_hosts(request).await.inspect_err(|_| {
            if !results.is_empty() {
                note(&format!(
                    "The first {} of {} hosts were looked at; import the file again for the others.",
                    results.len(),
                    listed.len()
                ));
            }
        });
        results.extend(answer?.into_inner().results);
        if listed.len() > BATCH {
            progress("hosts", results.len(), listed.len());
        }
    }
    Ok(results)
}

/// Whether it takes another person to enrol it.
fn is_waiting(result: &import_hosts_response::Result) -> bool {
    let host = result.host.as_ref();
    result.code == 0 && host.is_some_and(|host| host.enrolment() == Enrolment::Pending)
}

/// Says which hosts were not enrolled, and why.
fn say_failures(listed: &[Listed], results: &[import_hosts_response::Result], unusable: &[(String, String)]) {
    for (listed, result) in listed.iter().zip(results).filter(|(_, result)| result.code != 0) {
        let host = result.host.as_ref();
        let known = host.map(|host| format!(" (host ID {})", host.id));
        note(&format!(
            "{}: {}{}",
            listed.at,
            result.message,
            known.unwrap_or_default()
        ));
    }
    for (at, why) in unusable {
        note(&format!("{at}: {why}"));
    }
}

fn check_count(enrolled: usize, all: usize) -> Result<(), CommandError> {
    if enrolled == all {
        return Ok(());
    }
    Err(CommandError::Items {
        failed: all.saturating_sub(enrolled),
        all,
        what: "enrolled",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(at: &str, keys: &[(&str, &str, &str)]) -> Listed {
        let key = |&(hash, issuer, serial): &(&str, &str, &str)| EndorsementKey {
            hash: hash.into(),
            issuer: issuer.into(),
            serial_number: serial.into(),
            ..EndorsementKey::default()
        };
        Listed {
            at: at.into(),
            host: NewHost {
                name: "db-1".into(),
                endorsement_keys: keys.iter().map(key).collect(),
                ..NewHost::default()
            },
        }
    }

    #[test]
    fn what_was_not_enrolled_counts_as_failed() {
        assert!(check_count(2, 2).is_ok());
        let failed = check_count(1, 2).unwrap_err();
        assert_eq!(failed.to_string(), "1 of 2 could not be enrolled");
    }

    #[test]
    fn a_template_names_the_agents_of_hosts_without_a_path() {
        let filled = |template: &str, path: &str| {
            let mut host = listed("", &[("", "CN=ca", "0a"), ("AA", "", "")]).host;
            host.path = path.into();
            fill_path(template, &mut host);
            host.path
        };
        assert_eq!(filled("", ""), "");
        assert_eq!(filled("dc1/{name}", ""), "dc1/db-1");
        assert_eq!(filled("dc1/{name}", "own"), "own");
        assert_eq!(filled("{name}/{ek_hash}", ""), "db-1/aa");
        assert_eq!(filled("{rack}", ""), "{rack}");
    }

    #[test]
    fn one_key_is_imported_once() {
        let mut delivery = Delivery {
            listed: vec![
                listed("line 1", &[("aa", "CN=ca", "0a:0b"), ("aa", "", "")]),
                listed("line 2", &[("bb", "", "")]),
                listed("line 3", &[("AA", "", "")]),
                listed("line 4", &[("", "CN=ca", "0A0B")]),
            ],
            unusable: Vec::new(),
        };
        delivery.set_doubles_aside();
        let kept: Vec<_> = delivery.listed.iter().map(|listed| listed.at.as_str()).collect();
        assert_eq!(kept, ["line 1", "line 2"]);
        let why = "has an endorsement key of line 1".to_owned();
        let aside = ["line 3", "line 4"].map(|at| (at.to_owned(), why.clone()));
        assert_eq!(delivery.unusable, aside);
    }
}
