//! What a kernel measures: entries of its list, as `binary_runtime_measurements` has them.

use attest::{Digest, HashAlg};

/// An entry, of the template `ima-ng` mostly.
#[derive(Clone, Debug)]
pub struct KernelEntry {
    template: &'static str,
    fields: Vec<u8>,
    is_violation: bool,
}

impl KernelEntry {
    /// A file with this SHA-256.
    #[must_use]
    pub fn of_file(path: &str, digest: &[u8; 32]) -> Self {
        let fields = [
            sized(&[b"sha256:\0", &digest[..]].concat()),
            sized(&[path.as_bytes(), b"\0"].concat()),
        ];
        Self::of_fields("ima-ng", &fields.concat())
    }

    /// One of another template, with fields as they stand in the list.
    #[must_use]
    pub fn of_fields(template: &'static str, fields: &[u8]) -> Self {
        Self {
            template,
            fields: fields.into(),
            is_violation: false,
        }
    }

    /// A file that changed while it was measured.
    #[must_use]
    pub fn violation(path: &str) -> Self {
        Self {
            is_violation: true,
            ..Self::of_file(path, &[0; 32])
        }
    }

    /// The entry, as it stands in the list.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let digest = match self.is_violation {
            true => Digest::filled(0, HashAlg::Sha1),
            false => HashAlg::Sha1.digest(&[&self.fields]),
        };
        let pcr = 10_u32.to_le_bytes();
        [
            &pcr,
            digest.as_bytes(),
            &sized(self.template.as_bytes()),
            &sized(&self.fields),
        ]
        .concat()
    }

    /// What the kernel extends PCR 10 of a bank by.
    #[must_use]
    pub fn extension(&self, alg: HashAlg) -> Digest {
        if self.is_violation {
            Digest::filled(0xff, alg)
        } else {
            alg.digest(&[&self.fields])
        }
    }
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&len.to_le_bytes(), bytes].concat()
}
