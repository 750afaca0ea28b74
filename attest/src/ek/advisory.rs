//! Advisories: which TPMs have a published flaw (16), as an operator lists them.

use std::{fmt, str::FromStr};

use super::{TpmAttributes, VendorId};

/// A list of advisories.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Advisories(Vec<Advisory>);

/// A published flaw, and the TPMs that have it. What is not said is not restricted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Advisory {
    /// Such as `CVE-2017-15361`.
    pub id: String,
    /// What becomes of these TPMs.
    pub action: Action,
    /// Who makes them.
    pub manufacturer: VendorId,
    /// Their model, as their certificates have it; one that ends in `*` stands for all that begin so.
    pub model: Option<String>,
    /// Their firmware, as it is now: a quote says it.
    pub firmware: Option<VersionRange>,
}

/// What becomes of a TPM with a flaw.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// It is refused.
    Deny,
    /// It is let in, and the log says so.
    Warn,
}

/// Firmware versions from one on, and below another. Written `7.0..7.63`; either side may be missing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VersionRange {
    from: u64,
    below: Option<u64>,
}

/// A text is no range of firmware versions.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "firmware is a range such as `7.0..7.63`: up to four numbers of 16 bits, joined by dots, on either side"
)]
pub struct VersionError;

impl Advisories {
    /// Of these.
    #[must_use]
    pub const fn new(advisories: Vec<Advisory>) -> Self {
        Self(advisories)
    }

    /// Those that are about a TPM: `attributes` are those of its verified certificate, `firmware` is what its quote
    /// says.
    pub fn about(&self, attributes: &TpmAttributes, firmware: u64) -> impl Iterator<Item = &Advisory> {
        self.0
            .iter()
            .filter(move |advisory| advisory.is_about(attributes, firmware))
    }
}

impl Advisory {
    fn is_about(&self, attributes: &TpmAttributes, firmware: u64) -> bool {
        let is_model = |model: &String| match model.strip_suffix('*') {
            Some(start) => attributes.model.starts_with(start),
            None => attributes.model == *model,
        };
        attributes
            .vendor()
            .is_some_and(|vendor| vendor.is(self.manufacturer))
            && self.model.as_ref().is_none_or(is_model)
            && self.firmware.is_none_or(|range| range.contains(firmware))
    }
}

impl VersionRange {
    /// Whether it has this version, as TPMS_ATTEST has it: four numbers of 16 bits.
    #[must_use]
    pub fn contains(self, version: u64) -> bool {
        version >= self.from && self.below.is_none_or(|below| version < below)
    }
}

impl FromStr for VersionRange {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let (from, below) = text.split_once("..").ok_or(VersionError)?;
        let side = |side: &str| (!side.is_empty()).then(|| version(side)).transpose();
        let range = Self {
            from: side(from)?.unwrap_or_default(),
            below: side(below)?,
        };
        if range.below.is_some_and(|below| below <= range.from) {
            return Err(VersionError);
        }
        Ok(range)
    }
}

/// Major and minor in the upper half (TPM_PT_FIRMWARE_VERSION_1), what follows in the lower.
fn version(text: &str) -> Result<u64, VersionError> {
    let numbers: Result<Vec<u16>, _> = text.split('.').map(str::parse).collect();
    let numbers = numbers.map_err(|_| VersionError)?;
    if numbers.len() > 4 {
        return Err(VersionError);
    }
    let padded = numbers.into_iter().chain(std::iter::repeat(0)).take(4);
    Ok(padded.fold(0, |version, number| (version << 16) | u64::from(number)))
}

impl fmt::Display for Advisory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V7_62: u64 = 0x0007_003e_0000_0000;
    const V7_63: u64 = 0x0007_003f_0000_0000;

    fn tpm(manufacturer: &str, model: &str) -> TpmAttributes {
        TpmAttributes {
            manufacturer: manufacturer.into(),
            model: model.into(),
            version: "id:00070000".into(),
        }
    }

    fn check(advisory: &Advisory, tpm: &TpmAttributes, firmware: u64, expected: bool) {
        let list = Advisories::new(vec![advisory.clone()]);
        assert_eq!(
            list.about(tpm, firmware).count() == 1,
            expected,
            "{tpm:?} {firmware:x}"
        );
    }

    #[test]
    fn is_about_manufacturer_model_and_firmware() {
        let mut advisory = Advisory {
            id: "CVE-2017-15361".into(),
            action: Action::Deny,
            manufacturer: "IFX".parse().unwrap(),
            model: Some("SLB96*".into()),
            firmware: Some("7.0..7.63".parse().unwrap()),
        };
        let good = tpm("id:49465800", "SLB9670");
        check(&advisory, &good, V7_62, true);
        check(&advisory, &good, V7_63, false);
        check(&advisory, &good, V7_63 + 5, false);
        check(&advisory, &tpm("id:49465800", "SLI9670"), V7_62, false);
        check(&advisory, &tpm("id:4E544300", "SLB9670"), V7_62, false);
        check(&advisory, &tpm("Infineon", "SLB9670"), V7_62, false);
        advisory.model = Some("SLB9670".into());
        check(&advisory, &tpm("id:49465800", "SLB9670X"), V7_62, false);
        advisory.model = None;
        advisory.firmware = None;
        check(&advisory, &tpm("id:49465820", "any"), 0, true);
    }

    #[test]
    fn a_range_is_open_or_closed() {
        for (text, inside, outside) in [
            ("7..", V7_62, 0x0006_ffff_ffff_ffff),
            ("..7.63", V7_62, V7_63),
            ("7.62.0.1..7.62.0.2", V7_62 + 1, V7_62 + 2),
        ] {
            let range: VersionRange = text.parse().unwrap();
            assert!(range.contains(inside) && !range.contains(outside), "{text}");
        }
        assert!("..".parse::<VersionRange>().unwrap().contains(0));
        for text in ["", "7.0", "7.0..6", "7..7", "a..b", "1.2.3.4.5..", "65536.."] {
            assert_eq!(text.parse::<VersionRange>(), Err(VersionError), "{text}");
        }
    }
}
