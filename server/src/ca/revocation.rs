//! Keeping the CRLs: signed with their authorities' keys, stored, and written to files.

use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use edge::{Chain, file};
use plugin_api::Signer;
use svid::{
    Timestamp,
    x509::{CrlContent, Issuer, Revoked, sign_crl},
};
use tokio::sync::watch;
use tracing::{error, info};

use super::{
    AuthorityState, Crl, Rotation, RotationError, X509Authority, condemned::Condemned, crl, sign::KeyAdapter,
    steps::SERVER,
};
use crate::{
    journal::{self, Record},
    registry::Snapshot,
};

/// Where CRLs come from and go to.
#[derive(Clone, Debug)]
pub struct CrlPaths {
    /// The ledger of what was signed.
    pub ledger: PathBuf,
    /// Folder of the files.
    pub crls: PathBuf,
}

/// Which CRLs are in files: the number of each, by authority.
pub(super) type Written = BTreeMap<Arc<str>, u64>;

/// CRLs by authority.
type Crls = Vec<(String, Crl)>;

/// How far clocks may have been set back in an authority's life without a record being missed.
const CLOCK_SLACK: Duration = Duration::from_secs(3600);

impl Rotation {
    /// Makes the CRLs that are due, and writes those that are not in files.
    pub(super) async fn publish_crls(&mut self) -> Result<(), RotationError> {
        let snapshot = self.registry.snapshot();
        let condemned = self.condemned(&snapshot).await?;
        let crls = self.due_crls(&snapshot, &condemned).await?;
        if !crls.is_empty() || !snapshot.withdrawals.is_empty() {
            self.store_crls(crls, snapshot).await?;
        }
        self.write_crls().await
    }

    /// The certificates of agents that lost their standing, by authority.
    async fn condemned(
        &self,
        snapshot: &Arc<Snapshot>,
    ) -> Result<BTreeMap<String, Vec<Revoked>>, RotationError> {
        let own = own(snapshot);
        let Some(from) = own.map(|authority| authority.not_before).min() else {
            return Ok(BTreeMap::new());
        };
        if snapshot.withdrawals.is_empty() {
            return Ok(BTreeMap::new());
        }
        let from = from.minus(CLOCK_SLACK).as_unix().saturating_mul(1_000_000_000);
        let mut condemned = Condemned::new(snapshot, self.clock.now());
        let ledger = self.config.crl_paths.ledger.clone();
        let scanned = tokio::task::spawn_blocking(move || {
            journal::scan(&ledger, from, |record| condemned.see(record)).map(|()| condemned.finish())
        });
        Ok(scanned.await.map_err(|_| RotationError::Stopping)??)
    }

    async fn due_crls(
        &self,
        snapshot: &Snapshot,
        condemned: &BTreeMap<String, Vec<Revoked>>,
    ) -> Result<Crls, RotationError> {
        let mut crls = Vec::new();
        for authority in own(snapshot) {
            let id = authority.authority_id.as_str();
            let last = snapshot.crls.get(id).map(|last| &last.content);
            let fresh = condemned.get(id).map(Vec::as_slice).unwrap_or_default();
            let Some(content) = crl::decide(authority, last, fresh, self.clock.now()) else {
                continue;
            };
            match self.signer_of(authority).await? {
                Some(signer) => crls.push((id.to_owned(), signed(authority.clone(), signer, content).await?)),
                None if fresh.is_empty() => {}
                None => error!(
                    authority_id = id,
                    revoked = fresh.len(),
                    "SVIDs can't be revoked, the key of their authority is gone; taint and revoke the authority"
                ),
            }
        }
        Ok(crls)
    }

    async fn store_crls(&self, crls: Crls, seen: Arc<Snapshot>) -> Result<(), RotationError> {
        let changed = self.registry.change(move |draft| {
            for (id, crl) in crls {
                let revoked = crl.content.revoked.len();
                info!(
                    authority_id = id,
                    crl_number = crl.content.number,
                    revoked,
                    "CRL signed"
                );
                if crl.is_large() {
                    error!(
                        authority_id = id,
                        bytes = crl.der.len(),
                        revoked,
                        "CRL nears 1 MiB, beyond which workloads do not get it; taint its authority, and revoke it when \
                         SVIDs are replaced"
                    );
                }
                draft.audit(issued(&id, &crl.content));
                draft.put_crl(&id, crl);
            }
            for (path, withdrawal) in &seen.withdrawals {
                draft.settle(path, withdrawal);
            }
        });
        Ok(changed.await?)
    }

    async fn write_crls(&mut self) -> Result<(), RotationError> {
        let snapshot = self.registry.snapshot();
        let numbers = snapshot.crls.iter();
        let wanted: Written = numbers
            .map(|(id, crl)| (Arc::clone(id), crl.content.number))
            .collect();
        if self.written_crls == wanted {
            return Ok(());
        }
        let (folder, written) = (self.config.crl_paths.crls.clone(), self.written_crls.clone());
        let done = tokio::task::spawn_blocking(move || write(&folder, &snapshot, &written));
        done.await
            .map_err(|_| RotationError::Stopping)?
            .map_err(RotationError::CrlFile)?;
        self.written_crls = wanted;
        Ok(())
    }
}

/// The first CRL of an authority that is not published yet.
pub(super) fn first_crl(
    authority: &X509Authority,
    signer: Arc<dyn Signer>,
    now: Timestamp,
) -> Result<Option<Crl>, RotationError> {
    crl::decide(authority, None, &[], now)
        .map(|content| sign(authority, signer, content))
        .transpose()
}

/// What the audit trail says of a CRL.
pub(super) fn issued(authority_id: &str, content: &CrlContent) -> Record {
    Record::new("crl_issued", &SERVER)
        .with("authority_id", &authority_id)
        .with("crl_number", &content.number)
        .with("revoked", &content.revoked.len())
        .with("expires_at", &content.next_update)
}

/// Is done when an agent lost its standing and no CRL says so yet; says whether it can still happen.
pub(super) async fn withdrawn(snapshots: &mut watch::Receiver<Arc<Snapshot>>) -> bool {
    let found = snapshots.wait_for(|snapshot| !snapshot.withdrawals.is_empty());
    found.await.is_ok()
}

fn own(snapshot: &Snapshot) -> impl Iterator<Item = &X509Authority> {
    let all = snapshot.authorities.x509.iter();
    all.filter(|authority| authority.state != AuthorityState::Foreign)
}

async fn signed(
    authority: X509Authority,
    signer: Arc<dyn Signer>,
    content: CrlContent,
) -> Result<Crl, RotationError> {
    tokio::task::spawn_blocking(move || sign(&authority, signer, content))
        .await
        .map_err(|_| RotationError::Stopping)?
}

fn sign(
    authority: &X509Authority,
    signer: Arc<dyn Signer>,
    content: CrlContent,
) -> Result<Crl, RotationError> {
    let failed = |error: &dyn std::error::Error| RotationError::Crl(Chain(error).to_string());
    let issuer =
        Issuer::from_ca_cert_der(&authority.material, KeyAdapter(signer)).map_err(|error| failed(&error))?;
    let der = sign_crl(&content, &issuer).map_err(|error| failed(&error))?;
    let der = der.into();
    Ok(Crl { content, der })
}

/// Writes the CRLs that are not `written`, and removes the files of those that are no more.
fn write(folder: &Path, snapshot: &Snapshot, written: &Written) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut files = HashSet::new();
    for (id, crl) in &snapshot.crls {
        let path = folder.join(format!("{id}.crl"));
        if written.get(id) != Some(&crl.content.number) {
            file::replace(&path, &crl.der, 0o644)?;
        }
        files.insert(path);
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "crl") && !files.contains(&path) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
