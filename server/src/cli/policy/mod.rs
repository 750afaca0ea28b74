//! `policy`: reference values in files, without a server. All that is decided here is decided in `attest::policy`.

mod evidence;
mod test;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use attest::{
    HashAlg, PcrSelection,
    event_log::PHASES,
    policy::{Change, Learned, Policy, PolicyError, PolicyKey, PolicyName, Uki, diff, learn, statements},
    uki::{Prediction, UkiImage},
};
use clap::{Args, Subcommand};

use super::{
    CommandError, output,
    verify::{der, read},
};
use evidence::EvidenceFiles;

/// Reference values: which firmware, boot loader, kernel and command line a host may have.
///
/// A policy is a TOML file. No server is asked: these commands make policies and try them on evidence in files.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Diff(Diff),
    Learn(Learn),
    Predict(Predict),
    Show(Show),
    Test(test::Test),
}

/// Says what changes from one policy to another.
#[derive(Args, Debug)]
pub(super) struct Diff {
    /// The policy as it is.
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The policy as it will be.
    #[arg(value_name = "NEW")]
    new: PathBuf,
}

/// Prints a policy that the evidence of a golden host meets. Read it before you enforce it: a host that was tampered
/// with teaches that as well.
///
///   plastron-server policy learn --name rack-7 --event-log log.bin --pcrs pcrs.yaml --command-line "$(cat cmdline)" >rack-7.toml
#[derive(Args, Debug)]
pub(super) struct Learn {
    /// What the policy is to be called.
    #[arg(long)]
    name: PolicyName,
    /// Which version it is to be.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    policy_version: u32,
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
/// The file has to be the very one that will boot: signing it may change its length, and with that its digest.
#[derive(Args, Debug)]
pub(super) struct Predict {
    /// The image.
    #[arg(value_name = "UKI")]
    image: PathBuf,
    /// What the policy is to call it.
    #[arg(long, default_value = "predicted")]
    name: String,
    /// A policy that is to accept it as well; its next version is printed.
    #[arg(long, value_name = "POLICY")]
    into: Option<PathBuf>,
}

/// Shows what a policy says, by what its generation is known, and which PCRs it needs.
///
///   plastron-server policy show rack-7.toml --key operator.pub --signature rack-7.sig
#[derive(Args, Debug)]
pub(super) struct Show {
    /// The policy.
    #[arg(value_name = "POLICY")]
    policy: PathBuf,
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
            Self::Diff(command) => command.execute(),
            Self::Learn(command) => command.execute(),
            Self::Predict(command) => command.execute(),
            Self::Show(command) => command.execute(),
            Self::Test(command) => command.execute(),
        }
    }
}

impl Diff {
    fn execute(&self) -> Result<(), CommandError> {
        let changes = self.changes()?;
        changes
            .iter()
            .for_each(|change| output::line(&change.to_string()));
        Ok(())
    }

    fn changes(&self) -> Result<Vec<Change>, CommandError> {
        Ok(diff(&read_policy(&self.old)?, &read_policy(&self.new)?))
    }
}

impl Learn {
    fn execute(&self) -> Result<(), CommandError> {
        output::line(&self.learn()?.text);
        Ok(())
    }

    fn learn(&self) -> Result<Learned, CommandError> {
        let known = self.evidence.read()?;
        let pins = match &self.pin {
            None => Learned::usual_pins(),
            Some(pins) => pins.banks().flat_map(|(_, pcrs)| pcrs.iter()).collect(),
        };
        Ok(learn(&self.name, self.policy_version, &known.evidence()?, pins))
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
        let prediction = Prediction::of(&image, HashAlg::Sha256);
        let uki = Uki::predicted(&self.name, &prediction)
            .ok_or_else(|| CommandError::Input("SHA-1 is no bank to predict".into()))?;
        let Some(policy) = &self.into else {
            return Ok(format!("{}{}", pcrs(&prediction), uki.table()));
        };
        Ok(read_policy(policy)?.with_kernel_image(uki).explained())
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
        "# PCR 11, bank sha256, as the stub leaves it: {}\n",
        prediction.pcr11(&[])
    );
    std::iter::once(stub).chain(after).collect()
}

impl Show {
    fn execute(&self) -> Result<(), CommandError> {
        output::line(&self.text()?);
        Ok(())
    }

    fn text(&self) -> Result<String, CommandError> {
        let policy = read_policy(&self.policy)?;
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
