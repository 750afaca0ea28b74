//! The TPM as its thread owns it: open, or to be opened with the next request.

use std::{collections::HashMap, str::FromStr};

use plugin_api::{TpmError, TpmIdentity};
use svid::TrustDomain;
use tracing::warn;
use tss_esapi::{Context, TctiNameConf, handles::ObjectHandle, structures::Auth};

use crate::{Config, SecretFile, ak::Ak, ek::Ek, error};

/// The TPM, whether or not it is reachable at the moment.
pub(crate) struct Device {
    config: Config,
    open: Option<Open>,
}

/// A connection, and what is known of the keys behind it.
pub(crate) struct Open {
    pub(crate) context: Context,
    pub(crate) config: Config,
    pub(crate) eks: Vec<Ek>,
    pub(crate) aks: HashMap<TrustDomain, Ak>,
}

impl Device {
    /// It is opened with the first request.
    pub(crate) const fn closed(config: Config) -> Self {
        Self { config, open: None }
    }

    /// Opens it, anew where it is open.
    pub(crate) fn open(&mut self) -> Result<(), TpmError> {
        // Some TPMs take one connection at a time.
        self.open = None;
        self.open = Some(Open::connect(&self.config)?);
        Ok(())
    }

    /// Runs a request, on a new connection if the last one broke.
    pub(crate) fn run<T>(
        &mut self,
        request: impl FnOnce(&mut Open) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => Open::connect(&self.config)?,
        };
        let result = request(&mut open);
        match &result {
            Err(error) if error::is_lost(error) => {
                warn!(tcti = %self.config.tcti, %error, "TPM connection given up");
            }
            _ => self.open = Some(open),
        }
        result
    }
}

impl Open {
    fn connect(config: &Config) -> Result<Self, TpmError> {
        let unreachable = |source| TpmError::Open {
            tcti: config.tcti.clone(),
            source,
        };
        let context = new_context(&config.tcti).map_err(unreachable)?;
        let mut open = Self {
            context,
            config: config.clone(),
            eks: Vec::new(),
            aks: HashMap::new(),
        };
        open.set_auth(
            ObjectHandle::Endorsement,
            "endorsement_auth",
            config.endorsement_auth.as_ref(),
        )?;
        open.set_auth(ObjectHandle::Owner, "owner_auth", config.owner_auth.as_ref())?;
        Ok(open)
    }

    fn set_auth(
        &mut self,
        hierarchy: ObjectHandle,
        setting: &'static str,
        file: Option<&SecretFile>,
    ) -> Result<(), TpmError> {
        let Some(file) = file else { return Ok(()) };
        let unusable = |source| TpmError::Secret {
            setting,
            path: file.path().into(),
            source,
        };
        let secret = file.read().map_err(|error| unusable(error.into()))?;
        Auth::try_from(secret.as_slice())
            .and_then(|auth| self.context.tr_set_auth(hierarchy, auth))
            .map_err(|error| unusable(error.into()))
    }

    pub(crate) fn identify(&mut self, trust_domain: &TrustDomain) -> Result<TpmIdentity, TpmError> {
        let attestation_key = self.attestation_key(trust_domain)?.public;
        let endorsement_keys = self.endorsement_keys()?.iter().map(Ek::describe).collect();
        Ok(TpmIdentity {
            endorsement_keys,
            attestation_key,
        })
    }
}

fn new_context(tcti: &str) -> Result<Context, Box<dyn std::error::Error + Send + Sync>> {
    // tss-esapi 7.7 ignores the key and would open another TPM, at the default port.
    if tcti.contains("path=") {
        return Err(error::Misuse::UnixSocket.into());
    }
    Ok(Context::new(TctiNameConf::from_str(tcti)?)?)
}
