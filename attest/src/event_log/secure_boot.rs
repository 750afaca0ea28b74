//! What PCR 7 proves of Secure Boot (checks 50 and 51).

use super::{Content, EfiVariable, Measurement, Measurements, Phase, Signature, sbat, signatures};
use crate::{Digest, HashAlg, Reject};

/// The state of Secure Boot, as firmware measured it before it handed over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SecureBoot<'a> {
    /// Whether `SecureBoot` is 1.
    pub is_on: bool,
    /// Who may change the keys.
    pub mode: SecureBootMode,
    /// Whether firmware says that a debugger may be attached, or that devices may write to all memory.
    pub weaknesses: Vec<&'a [u8]>,
    /// The platform key; nothing in setup mode.
    pub pk: Vec<Signature<'a>>,
    /// Keys that may change `db` and `dbx`.
    pub kek: Vec<Signature<'a>>,
    /// What may start.
    pub db: Vec<Signature<'a>>,
    /// What may not.
    pub dbx: Vec<Signature<'a>>,
    /// By what images were verified. Most are measured after the separator, so that whatever runs later can add some.
    pub authorities: Vec<Authority<'a>>,
}

/// Who may change the keys of Secure Boot (UEFI 2.10 §32.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SecureBootMode {
    /// Whatever fails is started all the same, and noted.
    Audit,
    /// Nobody but the owner of the platform key; firmware can't leave this mode by itself.
    Deployed,
    /// Anybody: there is no platform key.
    Setup,
    /// The owner of the platform key.
    User,
}

/// By what an image was verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Authority<'a> {
    /// Where it was found: `db`, or `MokList`, `Shim`, `SbatLevel` of shim.
    pub database: String,
    /// The entry; of `db` and shim's lists a certificate behind its owner's GUID.
    pub data: &'a [u8],
    /// Whether it is an entry of the `db` that firmware measured.
    pub is_in_db: bool,
    /// Whether it is the [level](super::SbatLevel) of revocations that shim goes by.
    pub is_sbat_level: bool,
}

/// EFI_GLOBAL_VARIABLE.
const GLOBAL: u128 = 0x61df_e48b_ca93_d211_aa0d_00e0_9803_2b8c;
/// EFI_IMAGE_SECURITY_DATABASE_GUID.
const DATABASE: u128 = 0xcbb2_19d7_3a3d_9645_a3bc_dad0_0e67_656f;
/// What firmware measures when its protection is incomplete (PFP §3.3.4.8).
const WEAKNESSES: [&[u8]; 2] = [b"UEFI Debug Mode", b"DMA Protection Disabled"];

impl<'a> SecureBoot<'a> {
    /// Reads PCR 7: before the separator every event has to be understood, or else one could hide.
    ///
    /// # Errors
    ///
    /// [`Reject::SecureBootVariable`] if `SecureBoot`, `PK`, `KEK`, `db` or `dbx` were not measured exactly once
    /// before the separator, or what was measured makes no sense; [`Reject::SecureBootKeys`] if lists of keys are
    /// malformed.
    pub fn of(measurements: &'a Measurements) -> Result<Self, Reject> {
        let events = || measurements.of(7).into_iter().flatten();
        let firmware = Firmware::of(events().filter(|event| event.phase == Phase::Firmware))?;
        let later = || events().filter(|event| event.phase == Phase::Later);
        let spoofs = later().filter_map(|event| event.content.variable());
        if spoofs
            .into_iter()
            .any(|variable| is(&variable, GLOBAL, "SecureBoot"))
        {
            return Err(Reject::SecureBootVariable);
        }
        let db = signatures(firmware.first(DATABASE, "db")?)?;
        let mut authorities = firmware.authorities(&db)?;
        authorities.extend(later().filter_map(|event| Authority::of(&event.content.variable()?, &db)));
        let pk = signatures(firmware.one(GLOBAL, "PK")?)?;
        Ok(Self {
            is_on: flag(firmware.one(GLOBAL, "SecureBoot")?)?,
            mode: firmware.mode(pk.is_empty())?,
            kek: signatures(firmware.one(GLOBAL, "KEK")?)?,
            dbx: signatures(firmware.one(DATABASE, "dbx")?)?,
            authorities,
            weaknesses: firmware.weaknesses,
            db,
            pk,
        })
    }

    /// Checks that nothing starts but what `db` lets pass (50).
    ///
    /// # Errors
    ///
    /// [`Reject::SecureBootOff`] if it is off, in setup or audit mode, or firmware says that it can be got round.
    pub fn enforced(self) -> Result<Self, Reject> {
        let is_kept = matches!(self.mode, SecureBootMode::Deployed | SecureBootMode::User);
        if self.is_on && is_kept && self.weaknesses.is_empty() {
            Ok(self)
        } else {
            Err(Reject::SecureBootOff)
        }
    }
}

/// What firmware measured before the separator.
struct Firmware<'a> {
    variables: Vec<EfiVariable<'a>>,
    weaknesses: Vec<&'a [u8]>,
}

impl<'a> Firmware<'a> {
    fn of(events: impl Iterator<Item = Measurement<'a>>) -> Result<Self, Reject> {
        let mut firmware = Self {
            variables: Vec::new(),
            weaknesses: Vec::new(),
        };
        for event in events {
            match (event.content.variable(), event.content) {
                (Some(variable), _) => firmware.variables.push(variable),
                (None, Content::Whole(text)) => firmware.weaknesses.extend(weakness(text)),
                (None, _) => return Err(Reject::SecureBootVariable),
            }
        }
        Ok(firmware)
    }

    /// The value of a variable that has to be there once.
    fn one(&self, vendor: u128, name: &str) -> Result<&'a [u8], Reject> {
        self.at_most_one(vendor, name)?.ok_or(Reject::SecureBootVariable)
    }

    /// The value of a variable that firmware measures again, in part, when it verifies a driver by it.
    fn first(&self, vendor: u128, name: &str) -> Result<&'a [u8], Reject> {
        let mut named = self
            .variables
            .iter()
            .filter(|variable| is(variable, vendor, name));
        named
            .next()
            .map(|variable| variable.data)
            .ok_or(Reject::SecureBootVariable)
    }

    /// By what drivers were verified before firmware handed over: entries of `db`, or else a second `db` would pass.
    fn authorities(&self, db: &[Signature<'_>]) -> Result<Vec<Authority<'a>>, Reject> {
        let again = self
            .variables
            .iter()
            .filter(|variable| is(variable, DATABASE, "db"))
            .skip(1);
        let known = |variable| Authority::of(variable, db).filter(|authority| authority.is_in_db);
        again
            .map(|variable| known(variable).ok_or(Reject::SecureBootVariable))
            .collect()
    }

    fn at_most_one(&self, vendor: u128, name: &str) -> Result<Option<&'a [u8]>, Reject> {
        let mut found = self
            .variables
            .iter()
            .filter(|variable| is(variable, vendor, name));
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(Reject::SecureBootVariable),
            (found, None) => Ok(found.map(|variable| variable.data)),
        }
    }

    /// Firmware measures the modes where it has them; setup mode is that there is no platform key.
    fn mode(&self, is_setup: bool) -> Result<SecureBootMode, Reject> {
        let of = |name| self.at_most_one(GLOBAL, name)?.map_or(Ok(false), flag);
        let (setup, audit, deployed) = (of("SetupMode")?, of("AuditMode")?, of("DeployedMode")?);
        match (setup || is_setup, audit, deployed) {
            (_, true, false) => Ok(SecureBootMode::Audit),
            (true, false, false) => Ok(SecureBootMode::Setup),
            (false, false, true) => Ok(SecureBootMode::Deployed),
            (false, false, false) => Ok(SecureBootMode::User),
            (_, true, true) | (true, false, true) => Err(Reject::SecureBootVariable),
        }
    }
}

fn weakness(text: &[u8]) -> Option<&[u8]> {
    let plain = text.strip_suffix(b"\0").unwrap_or(text);
    WEAKNESSES.contains(&plain).then_some(plain)
}

fn is(variable: &EfiVariable<'_>, vendor: u128, name: &str) -> bool {
    variable.vendor == vendor.to_be_bytes() && variable.name().as_deref() == Some(name)
}

/// A variable of one byte that is 0 or 1. Some firmware measures one that is not there, which is off.
fn flag(value: &[u8]) -> Result<bool, Reject> {
    match value {
        [] | [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(Reject::SecureBootVariable),
    }
}

impl<'a> Authority<'a> {
    fn of(variable: &EfiVariable<'a>, db: &[Signature<'_>]) -> Option<Self> {
        let entry = variable.data.get(16..).unwrap_or_default();
        Some(Self {
            database: variable.name()?,
            data: variable.data,
            is_in_db: db.iter().any(|known| known.data == entry),
            is_sbat_level: sbat::is_level(variable),
        })
    }
}

impl Authority<'_> {
    /// SHA-256 of the certificate, without its owner's GUID; of what is no certificate, of the whole.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        let entry = match self.data.get(16..) {
            Some(certificate @ [0x30, ..]) => certificate,
            _ => self.data,
        };
        HashAlg::Sha256.digest(&[entry])
    }
}
