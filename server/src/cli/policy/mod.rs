//! `policy`: reference values in files and on a server. What is decided of files is decided in `attest::policy`.

mod evidence;
mod served;
mod source;
mod test;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use attest::{
    HashAlg, PcrSelection, PcrSet,
    event_log::PHASES,
    policy::{Change, Learned, Policy, PolicyError, PolicyKey, PolicyName, Uki, diff, learn, statements},
    uki::{Prediction, UkiImage},
};
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use edge::json::pretty as json;
use proto::plastron::policy::v1::LearnPolicyRequest;

use super::{
    CommandError,
    connect::block_on,
    output::{self, Output},
    verify::{der, read},
};
use crate::config;
use evidence::EvidenceFiles;
use source::Source;

/// Reference values: which firmware, boot loader, kernel and command line a host may have.
///
/// A policy is a TOML file. `learn`, `predict`, `show`, `diff` and `test` work on files, without a server. A server takes
/// policies and holds hosts to them:
///
///   plastron-server policy learn ID --name rack-7 >rack-7.toml            what a golden host showed; read it
///   plastron-server policy apply rack-7.toml                              staged: differences are noted, nothing follows
///   plastron-server policy assign --host ID --set rack-7                  or --all --set rack-7, for all hosts
///   plastron-server host show --id ID                                     what differs on that host
///   plastron-server policy promote rack-7 --dry-run                       which hosts would fall out
///   plastron-server policy promote rack-7                                 enforced: hosts that do not meet it are quarantined
///
/// The next version is applied and promoted beside the one before; hosts have to meet one of them. `policy retire` ends the
/// roll-out. Nodes that meet an enforced generation have the selector tpm:policy:NAME.
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment)]
pub(super) enum Command {
    Apply(served::Apply),
    Assign(served::Assign),
    Diff(Diff),
    Learn(Learn),
    List(served::List),
    Predict(Predict),
    Promote(served::Promote),
    Retire(served::Retire),
    Show(Show),
    Stage(served::Stage),
    Test(test::Test),
}

/// Says what changes from one policy to another: files, or generations on the server.
///
///   plastron-server policy diff rack-7.toml rack-7-next.toml
///   plastron-server policy diff server:rack-7 rack-7-next.toml
///   plastron-server policy diff server:rack-7@1f0a server:rack-7@77c2
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(super) struct Diff {
    /// The policy as it is: a file, or server:NAME for the newest generation there, or server:NAME@GENERATION.
    #[arg(value_name = "OLD")]
    old: Source,
    /// The policy as it will be.
    #[arg(value_name = "NEW")]
    new: Source,
    /// The server's local socket.
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_SOCKET)]
    socket_path: PathBuf,
    /// `pretty` for people, `json` for programs.
    #[arg(long, value_enum, default_value_t = Output::Pretty)]
    output: Output,
}

/// Prints a policy that the evidence of a golden host meets. Read it before you enforce it: a host that was tampered
/// with teaches that as well.
///
///   plastron-server policy learn 6f9c… --name rack-7 >rack-7.toml
///   plastron-server policy learn --name rack-7 --event-log log.bin --pcrs pcrs.yaml --command-line "$(cat cmdline)" >rack-7.toml
///
/// With a host the server is asked for what that host proved last, if its event log is on record. Of PCRs that it was not
/// asked for, such as 11 to 13, nothing is learned: name them in `pcrs` of the server, or have the host held to a staged
/// policy that needs them. Rules about files (IMA) take the kernel's list of that boot, which no server keeps: copy
/// /sys/kernel/security/ima/binary_runtime_measurements from the host.
///
///   plastron-server policy learn 6f9c… --name rack-7 --ima-log list.bin >rack-7.toml
#[derive(Args, Debug)]
#[command(
    verbatim_doc_comment,
    group(ArgGroup::new("of").required(true).args(["golden", "host", "event_log"])),
    group(ArgGroup::new("proof").args(["golden", "host", "pcrs"]).multiple(true)),
)]
pub(super) struct Learn {
    /// Identifier of a host on the server, as `host list` shows it.
    #[arg(value_name = "HOST", conflicts_with_all = ["host", "pcrs", "tpm_firmware"])]
    golden: Option<String>,
    /// What the policy is to be called.
    #[arg(long)]
    name: PolicyName,
    /// Which version it is to be; without it the first one, or of a host's the one after the newest on the server.
    #[arg(long, value_name = "NUMBER")]
    policy_version: Option<u32>,
    /// The same as HOST.
    #[arg(long, value_name = "ID", conflicts_with_all = ["event_log", "pcrs", "tpm_firmware"])]
    host: Option<String>,
    /// The server's local socket.
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_SOCKET)]
    socket_path: PathBuf,
    /// `pretty` for people, `json` for programs.
    #[arg(long, value_enum, default_value_t = Output::Pretty)]
    output: Output,
    /// PCRs to pin by value, as far as they are known, such as `sha256:0-7`: all banks of the host are pinned.
    #[arg(long, value_name = "PCRS")]
    pin: Option<PcrSelection>,
    #[command(flatten)]
    evidence: EvidenceFiles,
}

/// Predicts what a boot of a unified kernel image will measure, from its file: for a policy, or added to one.
///
///   plastron-server policy predict --name 6.1.0-56 uki.efi
///   plastron-server policy predict --name 6.1.0-56 --into rack-7.toml uki.efi >rack-7-next.toml
///
/// The file has to be the very one that will boot: signing it may change its length, and with that its digest. There is one
/// table for each bank of PCRs that hosts may quote; a host has to meet one of them.
#[derive(Args, Debug)]
pub(super) struct Predict {
    /// The image.
    #[arg(value_name = "UKI")]
    image: PathBuf,
    /// What the policy is to call it.
    #[arg(long, default_value = "predicted")]
    name: String,
    /// The bank of PCRs to predict; may be repeated. Without it those that hosts quote, SHA-256 and SHA-384.
    #[arg(long = "bank", value_name = "BANK", value_enum)]
    banks: Vec<Bank>,
    /// A policy that is to accept it as well; its next version is printed.
    #[arg(long, value_name = "POLICY")]
    into: Option<PathBuf>,
}

/// A bank of PCRs to predict.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, ValueEnum)]
enum Bank {
    /// SHA-512.
    Sha512,
    /// SHA-384.
    Sha384,
    /// SHA-256.
    Sha256,
}

impl Bank {
    const fn alg(self) -> HashAlg {
        match self {
            Self::Sha256 => HashAlg::Sha256,
            Self::Sha384 => HashAlg::Sha384,
            Self::Sha512 => HashAlg::Sha512,
        }
    }
}

/// Shows what a policy says, by what its generation is known, and which PCRs it needs.
///
///   plastron-server policy show rack-7.toml --key operator.pub --signature rack-7.sig
///   plastron-server policy show server:rack-7
///
/// Of a policy on the server, which generations are in use, and how many hosts meet them, is shown as well.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(super) struct Show {
    /// The policy: a file, or server:NAME for the newest generation there, or server:NAME@GENERATION.
    #[arg(value_name = "POLICY")]
    policy: Source,
    /// The server's local socket.
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_SOCKET)]
    socket_path: PathBuf,
    /// `pretty` for people, `json` for programs.
    #[arg(long, value_enum, default_value_t = Output::Pretty)]
    output: Output,
    /// Print the canonical form alone, which is what is hashed and signed.
    #[arg(long, conflicts_with_all = ["key", "signature"])]
    canonical: bool,
    /// A key that has to have signed it: Ed25519 or P-256, in PEM or DER.
    #[arg(long, value_name = "FILE", requires = "signature")]
    key: Option<PathBuf>,
    /// The signature over the canonical form; of ECDSA in DER.
    #[arg(long, value_name = "FILE", requires = "key")]
    signature: Option<PathBuf>,
}

impl Command {
    pub(super) fn execute(self) -> Result<(), CommandError> {
        match self {
            Self::Apply(command) => block_on(command.execute()),
            Self::Assign(command) => block_on(command.execute()),
            Self::Diff(command) => command.execute(),
            Self::Learn(command) => command.execute(),
            Self::List(command) => block_on(command.execute()),
            Self::Predict(command) => command.execute(),
            Self::Promote(command) => block_on(command.execute()),
            Self::Retire(command) => block_on(command.execute()),
            Self::Show(command) => command.execute(),
            Self::Stage(command) => block_on(command.execute()),
            Self::Test(command) => command.execute(),
        }
    }
}

impl Diff {
    fn execute(&self) -> Result<(), CommandError> {
        let changes: Vec<_> = self.changes()?.iter().map(ToString::to_string).collect();
        match self.output {
            Output::Json => output::line(&json(&changes)?),
            Output::Pretty => changes.iter().for_each(|change| output::line(change)),
        }
        Ok(())
    }

    fn changes(&self) -> Result<Vec<Change>, CommandError> {
        let (old, new) = (
            self.old.read(&self.socket_path)?,
            self.new.read(&self.socket_path)?,
        );
        Ok(diff(&old.policy, &new.policy))
    }
}

impl Learn {
    fn execute(&self) -> Result<(), CommandError> {
        let text = match self.golden.as_ref().or(self.host.as_ref()) {
            None => self.learn()?.text,
            Some(host) => {
                let request = LearnPolicyRequest {
                    host_id: host.clone(),
                    name: self.name.to_string(),
                    version: self.policy_version.unwrap_or_default(),
                    pins: self
                        .pinned()
                        .map(|pins| pins.iter().map(u32::from).collect())
                        .unwrap_or_default(),
                    command_line: self.evidence.command_line().unwrap_or_default().into(),
                    kernel_list: self.evidence.kernel_list()?,
                };
                served::learn(&self.socket_path, request)?
            }
        };
        match self.output {
            Output::Json => output::line(&json(&text)?),
            Output::Pretty => output::line(&text),
        }
        Ok(())
    }

    fn pinned(&self) -> Option<PcrSet> {
        let pins = self.pin.as_ref()?;
        Some(
            pins.banks()
                .flat_map(|(_, pcrs)| pcrs.iter().collect::<Vec<_>>())
                .collect(),
        )
    }

    fn learn(&self) -> Result<Learned, CommandError> {
        let known = self.evidence.read()?;
        let pins = self.pinned().unwrap_or_else(Learned::usual_pins);
        let version = self.policy_version.unwrap_or(1);
        Ok(learn(&self.name, version, &known.evidence()?, pins))
    }
}

impl Predict {
    fn execute(&self) -> Result<(), CommandError> {
        output::line(&self.text()?);
        Ok(())
    }

    fn text(&self) -> Result<String, CommandError> {
        let bytes = read(&self.image)?;
        let image = UkiImage::parse(&bytes).map_err(|error| unusable(&self.image, error))?;
        let predictions = self.banks().into_iter();
        let predictions: Vec<_> = predictions
            .map(|bank| Prediction::of(&image, bank.alg()))
            .collect();
        let tables: Option<Vec<_>> = predictions
            .iter()
            .map(|prediction| Uki::predicted(&self.name, prediction))
            .collect();
        let tables = tables.ok_or_else(|| CommandError::Input("SHA-1 is no bank to predict".into()))?;
        let Some(policy) = &self.into else {
            let text = predictions.iter().zip(&tables);
            return Ok(text
                .map(|(prediction, uki)| format!("{}{}", pcrs(prediction), uki.table()))
                .collect());
        };
        Ok(read_policy(policy)?.with_kernel_image(tables).explained())
    }

    /// The last counts where differences are to be named, and no bank is nearer: so SHA-256 comes last.
    fn banks(&self) -> BTreeSet<Bank> {
        if self.banks.is_empty() {
            return [Bank::Sha256, Bank::Sha384].into();
        }
        self.banks.iter().copied().collect()
    }
}

/// What PCR 11 will hold, as comments.
fn pcrs(prediction: &Prediction) -> String {
    let phases = |end: usize| PHASES.get(2..end).unwrap_or_default();
    let after = (3..=PHASES.len()).map(|end| {
        let phases = phases(end);
        format!("# after {}: {}\n", phases.join(", "), prediction.pcr11(phases))
    });
    let stub = format!(
        "# PCR 11, bank {}, as the stub leaves it: {}\n",
        prediction.alg,
        prediction.pcr11(&[])
    );
    std::iter::once(stub).chain(after).collect()
}

impl Show {
    fn execute(&self) -> Result<(), CommandError> {
        let found = self.policy.read(&self.socket_path)?;
        let stored = found.stored.clone();
        if let (Output::Json, Some(stored), false) = (self.output, &stored, self.canonical) {
            return self
                .output
                .print("plastron.policy.v1.Policy", stored, String::new);
        }
        let text = self.text(found.policy)?;
        match self.output {
            Output::Json => output::line(&json(&text)?),
            Output::Pretty if self.canonical => output::line(&text),
            Output::Pretty => {
                stored
                    .iter()
                    .for_each(|stored| output::line(&served::pretty(stored)));
                output::line(&text);
            }
        }
        Ok(())
    }

    fn text(&self, policy: Policy) -> Result<String, CommandError> {
        if self.canonical {
            return Ok(policy.canonical());
        }
        let needed: Vec<_> = policy.needed_pcrs().iter().map(|pcr| pcr.to_string()).collect();
        let mut lines = vec![
            format!("generation {}", policy.generation_id()),
            format!("needs PCRs {}", needed.join(",")),
        ];
        lines.extend(statements(&policy));
        if let (Some(key), Some(signature)) = (&self.key, &self.signature) {
            let parsed = PolicyKey::parse(&der(&read(key)?)).map_err(|error| unusable(key, error))?;
            parsed
                .verify(policy, &read(signature)?)
                .map_err(|error| unusable(signature, error))?;
            lines.push("signed by the key".into());
        }
        Ok(lines.join("\n"))
    }
}

/// Reads a policy; what is wrong in it is said with line and nearest right name.
fn read_policy(path: &Path) -> Result<Policy, CommandError> {
    let bytes = read(path)?;
    match Policy::parse(&bytes) {
        Err(PolicyError::Syntax(_)) => {
            let text = String::from_utf8_lossy(&bytes);
            Ok(edge::config::parse(path, &text, &[])?)
        }
        Err(error) => Err(unusable(path, error)),
        Ok(policy) => Ok(policy),
    }
}

fn unusable(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> CommandError {
    CommandError::Evidence {
        path: path.into(),
        source: std::io::Error::other(error),
    }
}
