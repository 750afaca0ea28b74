//! What a boot of an image measures.

use super::{PeImage, UkiImage};
use crate::{Digest, HashAlg, PcrValues, event_log::UKI_PCR};

/// What a boot of a unified kernel image measures, in one bank.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Prediction {
    /// The bank.
    pub alg: HashAlg,
    /// What firmware extends into PCR 4 when it starts the image.
    pub image: Digest,
    /// What it extends behind that for the kernel inside, where the stub starts it as an image of its own: always if
    /// Secure Boot is off. Nothing if the kernel is no PE image.
    pub kernel: Option<Digest>,
    /// The sections, in the order in which PCR 11 is extended by each name and content.
    pub sections: Vec<(String, Digest)>,
    /// The command line, if it is a text.
    pub command_line: Option<String>,
}

impl Prediction {
    /// What `image` measures in the bank `alg`.
    #[must_use]
    pub fn of(image: &UkiImage<'_>, alg: HashAlg) -> Self {
        let kernel = image
            .section(".linux")
            .and_then(|kernel| PeImage::parse(kernel).ok());
        Self {
            alg,
            image: image.pe().authenticode(alg),
            kernel: kernel.map(|kernel| kernel.authenticode(alg)),
            sections: image
                .sections()
                .map(|(name, content)| (name.to_owned(), alg.digest(&[content])))
                .collect(),
            command_line: image.command_line().map(str::to_owned),
        }
    }

    /// PCR 11 when the stub is done and systemd then went through `phases`: see
    /// [`PHASES`](crate::event_log::PHASES). A boot whose initrd is not systemd's begins with the third.
    #[must_use]
    pub fn pcr11(&self, phases: &[&str]) -> Digest {
        let sections = self.sections.iter();
        predict_pcr11(
            self.alg,
            sections.map(|(name, digest)| (name.as_str(), digest)),
            phases,
        )
    }

    /// What PCR 12 and PCR 13 hold if neither a command line nor credentials nor extensions are given beside the
    /// image: zeros.
    #[must_use]
    pub fn pcr12(&self) -> Digest {
        Digest::filled(0, self.alg)
    }
}

/// PCR 11 after `sections`, each by its name and the digest of what is in it, and after `phases`.
#[must_use]
pub fn predict_pcr11<'a>(
    alg: HashAlg,
    sections: impl Iterator<Item = (&'a str, &'a Digest)>,
    phases: &[&str],
) -> Digest {
    let mut values = PcrValues::default();
    values.set(alg, UKI_PCR, Digest::filled(0, alg));
    for (name, digest) in sections {
        values.extend(alg, UKI_PCR, alg.digest(&[name.as_bytes(), b"\0"]).as_bytes());
        values.extend(alg, UKI_PCR, digest.as_bytes());
    }
    for phase in phases {
        values.extend(alg, UKI_PCR, alg.digest(&[phase.as_bytes()]).as_bytes());
    }
    values
        .get(alg, UKI_PCR)
        .copied()
        .unwrap_or_else(|| Digest::filled(0, alg))
}
