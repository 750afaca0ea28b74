//! An entry of the list: what was measured, as its template lays it out (kernel,
//! `Documentation/security/IMA-templates.rst`).

use std::iter;

use super::{
    MeasurementList,
    binary::{Order, read_u32},
};
use crate::{Digest, HashAlg, Reject};

/// What IMA measured: a file, mostly. Proven only as a part of a [`ProvenList`](super::ProvenList).
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its position in the list that was sent.
    pub index: u32,
    /// The PCR that it extended.
    pub pcr: u8,
    /// The template, by name or as its fields: `ima-ng`, `d-ng|n-ng`.
    pub template: &'a str,
    /// The digest of its fields; zeros if it reports a violation.
    pub template_digest: &'a [u8],
    fields: Fields<'a>,
}

/// The digest of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FileDigest<'a> {
    /// The hash, as the kernel calls it: `sha256`; with `verity:` in front if it is that of fs-verity.
    pub alg: &'a str,
    /// The digest; zeros if the file could not be read, or it is a violation.
    pub digest: &'a [u8],
}

/// The fields of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fields<'a> {
    /// Of the oldest template: a SHA-1 digest and a name.
    Legacy { digest: &'a [u8], name: &'a [u8] },
    /// Of all others: each behind its length.
    Sized { order: Order, data: &'a [u8] },
}

/// The oldest template, whose entries are laid out otherwise than all others.
pub(super) const LEGACY: &str = "ima";
/// To how many bytes the oldest template's name is filled up before it is hashed.
const LEGACY_NAME_LEN: usize = 256;

/// The fields of the templates that have a name; others are named by their fields.
const TEMPLATES: [(&str, &str); 8] = [
    (
        "evm-sig",
        "d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode",
    ),
    ("ima", "d|n"),
    ("ima-buf", "d-ng|n-ng|buf"),
    ("ima-modsig", "d-ng|n-ng|sig|d-modsig|modsig"),
    ("ima-ng", "d-ng|n-ng"),
    ("ima-ngv2", "d-ngv2|n-ng"),
    ("ima-sig", "d-ng|n-ng|sig"),
    ("ima-sigv2", "d-ngv2|n-ng|sig"),
];

/// All fields that kernels have.
const FIELDS: [&str; 16] = [
    "buf",
    "d",
    "d-modsig",
    "d-ng",
    "d-ngv2",
    "evmsig",
    "igid",
    "imode",
    "iuid",
    "modsig",
    "n",
    "n-ng",
    "sig",
    "xattrlengths",
    "xattrnames",
    "xattrvalues",
];

/// The names of a template's fields, in their order.
pub(super) fn fields_of(template: &str) -> impl Iterator<Item = &str> + Clone {
    let known = TEMPLATES.iter().find(|(name, _)| *name == template);
    known.map_or(template, |(_, fields)| *fields).split('|')
}

impl<'a> Entry<'a> {
    pub(super) const fn new(
        index: u32,
        pcr: u8,
        template: &'a str,
        template_digest: &'a [u8],
        fields: Fields<'a>,
    ) -> Self {
        Self {
            index,
            pcr,
            template,
            template_digest,
            fields,
        }
    }

    /// Its fields are those of its template, and have its digest (57).
    pub(super) fn check(&self, alg: HashAlg) -> Result<(), Reject> {
        let is_known = fields_of(self.template).all(|field| FIELDS.contains(&field));
        if !is_known || self.values().any(|value: Option<_>| value.is_none()) {
            return Err(Reject::ImaMalformed);
        }
        if self
            .path()
            .is_some_and(|path| path.len() > MeasurementList::MAX_PATH)
        {
            return Err(Reject::ImaLimit);
        }
        if self.is_violation() || self.hash(alg).as_bytes() == self.template_digest {
            Ok(())
        } else {
            Err(Reject::ImaTemplateDigest(self.index))
        }
    }

    /// The hash over its fields.
    pub(super) fn hash(&self, alg: HashAlg) -> Digest {
        match self.fields {
            Fields::Legacy { digest, name } => {
                let padding = LEGACY_NAME_LEN.saturating_sub(name.len());
                alg.digest(&[digest, name, ZEROS.get(..padding).unwrap_or_default()])
            }
            Fields::Sized { data, .. } => alg.digest(&[data]),
        }
    }

    /// Whether the kernel could not say what was read: a file was open for writing while it was read, or the other
    /// way round. PCRs are extended by ones then.
    #[must_use]
    pub fn is_violation(&self) -> bool {
        self.template_digest.iter().all(|byte| *byte == 0)
    }

    /// The digest of the file, or of the data in [`buffer`](Self::buffer). Only where that is the first field, as in all
    /// templates that have a name: the template is not under the entry's digest, and any other field could be called so.
    #[must_use]
    pub fn file_digest(&self) -> Option<FileDigest<'a>> {
        let value = self.values().next().flatten()?;
        match fields_of(self.template).next()? {
            "d" => {
                return Some(FileDigest {
                    alg: "sha1",
                    digest: value,
                });
            }
            "d-ng" | "d-ngv2" => {}
            _ => return None,
        }
        let end = value.windows(2).position(|pair| pair == b":\0")?;
        let (alg, digest) = value.split_at_checked(end)?;
        Some(FileDigest {
            alg: str::from_utf8(alg).ok()?.trim_start_matches("ima:"),
            digest: digest.strip_prefix(b":\0")?,
        })
    }

    /// The path of the file, or what was measured instead of one: `boot_aggregate`, `.builtin_trusted_keys`. Any
    /// bytes but zero.
    #[must_use]
    pub fn path(&self) -> Option<&'a [u8]> {
        let name = self.field("n-ng").or_else(|| self.field("n"))?;
        Some(name.strip_suffix(b"\0").unwrap_or(name))
    }

    /// The file's signature, as it stands in its extended attribute.
    #[must_use]
    pub fn signature(&self) -> Option<&'a [u8]> {
        self.field("sig").filter(|signature| !signature.is_empty())
    }

    /// What was measured, where that is no file: a key, a command line, a policy.
    #[must_use]
    pub fn buffer(&self) -> Option<&'a [u8]> {
        self.field("buf")
    }

    fn field(&self, name: &str) -> Option<&'a [u8]> {
        let position = fields_of(self.template).position(|field| field == name)?;
        self.values().nth(position).flatten()
    }

    /// The values of all fields; nothing in place of one that is missing, or is too much.
    fn values(&self) -> impl Iterator<Item = Option<&'a [u8]>> {
        let (legacy, sized) = match self.fields {
            Fields::Legacy { digest, name } => ([Some(digest), Some(name)], None),
            Fields::Sized { order, data } => ([None, None], Some((order, data))),
        };
        let mut names = fields_of(self.template);
        let mut rest = sized;
        let sized = iter::from_fn(move || {
            let (order, data) = rest.as_mut()?;
            match (names.next(), data.is_empty()) {
                (None, true) => None,
                (None, false) => {
                    *data = &[];
                    Some(None)
                }
                (Some(_), _) => Some(read_field(data, *order)),
            }
        });
        legacy.into_iter().filter(Option::is_some).chain(sized)
    }
}

fn read_field<'a>(data: &mut &'a [u8], order: Order) -> Option<&'a [u8]> {
    let len = read_u32(data, order)? as usize;
    let (value, rest) = data.split_at_checked(len)?;
    *data = rest;
    Some(value)
}

const ZEROS: [u8; LEGACY_NAME_LEN] = [0; LEGACY_NAME_LEN];
