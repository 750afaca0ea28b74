//! Which generations of boot loaders are revoked: shim measures its variable `SbatLevel` into PCR 7 (check 51).
//!
//! The variable is a table: `sbat,1,2023012900`, then a line for each component, `grub,3`: what is older is not started.

use super::{Content, EfiVariable, Measurements, Phase};
use crate::Reject;

/// A level that was measured: what is older than its generations, shim does not start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SbatLevel<'a> {
    /// Position of the event.
    pub index: u32,
    /// When it was published, such as `2023012900`; of the first line.
    pub date: &'a str,
    /// The least generation of each component, `sbat` first.
    pub generations: Vec<(&'a str, u32)>,
}

/// SHIM_LOCK_GUID.
const SHIM: [u8; 16] = 0x50ab_5d60_46e0_0043_abb6_3dd8_10dd_8b23_u128.to_be_bytes();
/// Longest table in bytes: real ones have a hundred.
const MAX_LEN: usize = 4096;
/// Longest name of a component in bytes.
const MAX_NAME: usize = 64;

impl<'a> SbatLevel<'a> {
    /// All that were measured. shim measures one; whoever runs later can add some, and take none away.
    ///
    /// # Errors
    ///
    /// [`Reject::SecureBootSbat`] if one is no such table, or something was measured after firmware that the log does not
    /// show: it could be one.
    pub fn all(measurements: &'a Measurements) -> Result<Vec<Self>, Reject> {
        let mut levels = Vec::new();
        let later = measurements.of(7).into_iter().flatten();
        for event in later.filter(|event| event.phase == Phase::Later) {
            let Content::Whole(bytes) = event.content else {
                return Err(Reject::SecureBootSbat);
            };
            if let Some(variable) = EfiVariable::parse(bytes).filter(is_level) {
                let level = Self::parse(event.index, variable.data);
                levels.push(level.ok_or(Reject::SecureBootSbat)?);
            }
        }
        Ok(levels)
    }

    /// The least generation of a component, if it has one.
    #[must_use]
    pub fn generation(&self, component: &str) -> Option<u32> {
        let mut named = self.generations.iter().filter(|(name, _)| *name == component);
        named.next().map(|(_, generation)| *generation)
    }

    fn parse(index: u32, table: &'a [u8]) -> Option<Self> {
        if table.len() > MAX_LEN {
            return None;
        }
        let table = str::from_utf8(table).ok()?.trim_end_matches('\0');
        let mut lines = table.strip_suffix('\n').unwrap_or(table).split('\n');
        let (first, date) = lines.next()?.rsplit_once(',')?;
        let mut level = Self {
            index,
            date: Some(date).filter(|date| is_number(date))?,
            generations: vec![component(first).filter(|(name, _)| *name == "sbat")?],
        };
        for line in lines {
            let (name, generation) = component(line)?;
            if level.generation(name).is_some() {
                return None;
            }
            level.generations.push((name, generation));
        }
        Some(level)
    }
}

/// Whether it is shim's `SbatLevel`.
pub(super) fn is_level(variable: &EfiVariable<'_>) -> bool {
    variable.vendor == SHIM && variable.name().as_deref() == Some("SbatLevel")
}

fn component(line: &str) -> Option<(&str, u32)> {
    let (name, generation) = line.split_once(',')?;
    let is_name = (1..=MAX_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte));
    let generation = generation.parse().ok().filter(|_| is_number(generation))?;
    is_name.then_some((name, generation))
}

/// Digits alone: numbers have one form.
fn is_number(text: &str) -> bool {
    let is_plain = text == "0" || !text.starts_with('0');
    is_plain && (1..=10).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `2023012900: shim 2, grub 3`.
impl std::fmt::Display for SbatLevel<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.date)?;
        for (position, (name, generation)) in self.generations.iter().skip(1).enumerate() {
            let before = if position == 0 { ": " } else { ", " };
            write!(f, "{before}{name} {generation}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(table: &str, expected: Option<&[(&str, u32)]>) {
        let read = SbatLevel::parse(7, table.as_bytes());
        let read = read.as_ref().map(|level| level.generations.as_slice());
        assert_eq!(read, expected, "{table:?}");
    }

    #[test]
    fn a_level_names_each_component_once() {
        let base = [("sbat", 1)];
        check("sbat,1,2021030218\n", Some(&base));
        check("sbat,1,2021030218", Some(&base));
        check("sbat,1,2021030218\n\0", Some(&base));
        let later = [("sbat", 1), ("shim", 2), ("grub", 3), ("grub.debian", 4)];
        check("sbat,1,2023012900\nshim,2\ngrub,3\ngrub.debian,4\n", Some(&later));
    }

    #[test]
    fn what_is_no_level_is_refused() {
        for table in [
            "",
            "\n",
            "sbat,1",
            "sbat,1,",
            "sbat,1,now",
            "shim,1,2023012900",
            "sbat,1,2023012900\n\n",
            "sbat,1,2023012900\nshim",
            "sbat,1,2023012900\nshim,",
            "sbat,1,2023012900\nshim,-1",
            "sbat,1,2023012900\nshim,+2",
            "sbat,1,2023012900\nshim,02",
            "sbat,1,2023012900\nshim,4294967296",
            "sbat,1,2023012900\nshim,2,3",
            "sbat,1,2023012900\nsh im,2",
            "sbat,1,2023012900\n,2",
            "sbat,1,2023012900\nshim,2\nshim,3",
            "sbat,1,2023012900\nsbat,1",
        ] {
            check(table, None);
        }
        check(&format!("sbat,1,2023012900\n{}", "a".repeat(5000)), None);
        assert_eq!(SbatLevel::parse(7, b"sbat,1,2023012900\n\xff,1"), None);
    }
}
