//! The ASCII form of a list, as `ascii_runtime_measurements` has it: made into the binary form, whose digests then
//! show whether it was read right. Paths stand in it as they are, so that one with a line feed can't be read.

use std::str::FromStr;

use super::{
    MeasurementList,
    binary::{Layout, Order},
    entry::{LEGACY, fields_of},
};
use crate::{HashAlg, Reject};

/// The binary form of `text`.
pub(super) fn to_binary(text: &[u8]) -> Result<(Layout, Vec<u8>), Reject> {
    let mut lines = text
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.is_empty())
        .map(Line::parse)
        .peekable();
    let digest = match lines.peek() {
        Some(Ok(line)) => alg_of(line.digest.len())?,
        _ => return Err(Reject::ImaMalformed),
    };
    let mut bytes = Vec::new();
    for (line, index) in lines.zip(0..) {
        if index >= MeasurementList::MAX_ENTRIES {
            return Err(Reject::ImaLimit);
        }
        line?.write(digest, &mut bytes)?;
    }
    let layout = Layout {
        order: Order::Little,
        digest,
    };
    Ok((layout, bytes))
}

fn alg_of(len: usize) -> Result<HashAlg, Reject> {
    [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512]
        .into_iter()
        .find(|alg| alg.digest_len() == len)
        .ok_or(Reject::ImaMalformed)
}

/// A line: PCR, digest, template, and the fields, between spaces.
struct Line<'a> {
    pcr: u32,
    digest: Vec<u8>,
    template: &'a str,
    rest: &'a [u8],
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Result<Self, Reject> {
        let (pcr, rest) = front(line.trim_ascii_start()).ok_or(Reject::ImaMalformed)?;
        let (digest, rest) = front(rest).ok_or(Reject::ImaMalformed)?;
        let (template, rest) = front(rest).ok_or(Reject::ImaMalformed)?;
        let text = |bytes| str::from_utf8(bytes).map_err(|_| Reject::ImaMalformed);
        Ok(Self {
            pcr: text(pcr)?.parse().map_err(|_| Reject::ImaMalformed)?,
            digest: hex::decode(digest).map_err(|_| Reject::ImaMalformed)?,
            template: text(template)?,
            rest,
        })
    }

    fn write(&self, alg: HashAlg, bytes: &mut Vec<u8>) -> Result<(), Reject> {
        if self.digest.len() != alg.digest_len() {
            return Err(Reject::ImaMalformed);
        }
        let fields = self.fields()?;
        bytes.extend(self.pcr.to_le_bytes());
        bytes.extend(&self.digest);
        write_sized(self.template.as_bytes(), bytes)?;
        if self.template == LEGACY {
            let [digest, name] = fields.as_slice() else {
                return Err(Reject::ImaMalformed);
            };
            bytes.extend(digest);
            return write_sized(name, bytes);
        }
        let mut data = Vec::new();
        for field in fields {
            write_sized(&field, &mut data)?;
        }
        write_sized(&data, bytes)
    }

    /// The values of the fields. A path may hold spaces, and no other field does: so it is what is left when the
    /// others have been taken off both ends.
    fn fields(&self) -> Result<Vec<Vec<u8>>, Reject> {
        let names: Vec<_> = fields_of(self.template).collect();
        let is_path = |name: &&str| matches!(*name, "n" | "n-ng");
        let at = names.iter().position(is_path).ok_or(Reject::ImaMalformed)?;
        let mut rest = self.rest;
        let mut values = Vec::new();
        for name in names.iter().take(at) {
            let (value, after) = front(rest).ok_or(Reject::ImaMalformed)?;
            values.push(value_of(name, value)?);
            rest = after;
        }
        let mut last = Vec::new();
        for name in names.iter().skip(at + 1).rev() {
            // An editor may have taken off the space that ends a line without signature.
            let (before, value) = back(rest).unwrap_or((rest, &[]));
            last.push(value_of(name, value)?);
            rest = before;
        }
        let end: &[u8] = if self.template == LEGACY { b"" } else { b"\0" };
        values.push([rest, end].concat());
        values.extend(last.into_iter().rev());
        Ok(values)
    }
}

/// The bytes of a field that is no path.
fn value_of(name: &str, value: &[u8]) -> Result<Vec<u8>, Reject> {
    let decode = |hexadecimal| hex::decode(hexadecimal).map_err(|_| Reject::ImaMalformed);
    match name {
        // `sha256:` is followed by a zero in the binary form.
        "d-modsig" | "d-ng" | "d-ngv2" if !value.is_empty() => {
            let colon = value.iter().rposition(|byte| *byte == b':');
            let (alg, digest) = colon
                .and_then(|colon| value.split_at_checked(colon + 1))
                .ok_or(Reject::ImaMalformed)?;
            Ok([alg, b"\0", &decode(digest)?].concat())
        }
        "buf" | "d" | "d-modsig" | "evmsig" | "modsig" | "sig" | "xattrlengths" | "xattrvalues" => {
            decode(value)
        }
        // Names between bars.
        "xattrnames" if value.is_empty() => Ok(Vec::new()),
        "xattrnames" => Ok([value, b"\0"].concat()),
        // Decimal there, and of fixed size in the binary form.
        "igid" | "iuid" => number::<u32>(value).map(|number| number.to_le_bytes().into()),
        "imode" => number::<u16>(value).map(|number| number.to_le_bytes().into()),
        _ => Err(Reject::ImaMalformed),
    }
}

fn number<T: FromStr>(value: &[u8]) -> Result<T, Reject> {
    let text = str::from_utf8(value).map_err(|_| Reject::ImaMalformed)?;
    text.parse().map_err(|_| Reject::ImaMalformed)
}

fn write_sized(value: &[u8], bytes: &mut Vec<u8>) -> Result<(), Reject> {
    let len = u32::try_from(value.len()).map_err(|_| Reject::ImaLimit)?;
    bytes.extend(len.to_le_bytes());
    bytes.extend(value);
    Ok(())
}

/// What stands before the first space, and after it.
fn front(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == b' ')?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}

/// What stands before the last space, and after it.
fn back(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().rposition(|byte| *byte == b' ')?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}
