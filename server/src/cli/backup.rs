//! `backup` and `restore`.

use std::{
    fs::File,
    io::{BufReader, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use edge::{Clock, grpc::Client};
use nix::sys::stat::{Mode, umask};
use proto::plastron::{
    admin::v1::{BackupRequest, admin_client::AdminClient},
    backup::v1::Summary,
};
use svid::Timestamp;
use tempfile::NamedTempFile;

use super::{
    CommandError, Common, ConfigArgs,
    output::{self, Output},
};
use crate::backup::{self, NOTES, Part, Reader, RestoreError, Target};

/// Writes everything that a running server keeps to one file: entries, agents, hosts, authorities, signing keys.
///
/// The server goes on working. The file holds the signing keys, unencrypted: whoever reads it can be the server. What
/// happens after it was taken is not in it, and the audit trail is only by where it stands: keep `audit/` apart.
#[derive(Args, Debug)]
pub(super) struct Backup {
    /// The file to write; there must be none of that name. Its mode is 0600.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// Makes a data directory of a backup. The server has to be stopped.
///
/// Afterwards hosts that attest by TPM attest anew before anything is signed for them, join tokens are void, and agents
/// that renewed their SVID by join token since need a new token. No number is given twice: revisions and sequence
/// numbers go on far beyond those of the backup. The audit trail begins with the restore.
#[derive(Args, Debug)]
pub(super) struct Restore {
    /// The backup.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// Moves what is in the data directory aside, into a folder `before-restore-…` in it.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    config: ConfigArgs,
    /// `pretty` for people, `json` for programs.
    #[arg(long, value_enum, default_value_t = Output::Pretty)]
    output: Output,
}

impl Backup {
    pub(super) async fn execute(self) -> Result<(), CommandError> {
        let folder = folder_of(&self.file);
        if self.file.exists() {
            let message = format!("`{}` exists; name another file", self.file.display());
            return Err(CommandError::Input(message));
        }
        // Temporary files are made with mode 0600.
        let mut partial = NamedTempFile::new_in(folder).map_err(at(&self.file))?;
        self.common
            .call(async |client| receive(client, &self.file, &mut partial).await)
            .await?;
        let summary = check(&self.file, &mut partial)?;
        let sync = || {
            partial.as_file().sync_all()?;
            partial.persist_noclobber(&self.file)?;
            File::open(folder)?.sync_all()
        };
        sync().map_err(at(&self.file))?;
        print(self.common.output, &summary)
    }
}

impl Restore {
    pub(super) fn execute(self) -> Result<(), CommandError> {
        // As `run` does: what the server keeps is nobody else's.
        umask(Mode::from_bits_truncate(0o077));
        let config = self.config.load()?;
        let data_dir = config.server.data_dir.clone();
        let clock = Clock::system();
        let target = Target {
            keys_path: config.plugins.keys_path(&data_dir),
            data_dir,
            trust_domain: config.server.trust_domain.clone(),
            store: config.store,
            force: self.force,
            actor: format!("local uid={} pid={}", nix::unistd::getuid(), std::process::id()),
            now: clock.now_nanos(),
        };
        let mut shown = 0;
        let restored = backup::restore(&self.file, &target, |done, all| {
            // A thousand lines are enough for anybody.
            if done == all || (done - shown) * 1000 > all {
                shown = done;
                output::progress("KiB restored", kib(done), kib(all));
            }
        })?;
        let mut notes = NOTES.map(String::from).to_vec();
        notes.push(format!(
            "{} agents have to attest anew, {} join tokens are void.",
            restored.must_attest, restored.void_tokens
        ));
        if !restored.has_keys || target.keys_path.is_none() {
            notes.push("No signing keys were restored: the server makes new authorities.".into());
        }
        if let Some(aside) = &restored.moved_to {
            notes.push(format!("What was there before is in {}.", aside.display()));
        }
        let summary = Summary {
            file: self.file.display().to_string(),
            created_at: restored.created_at.as_unix(),
            trust_domain: target.trust_domain.to_string(),
            file_len: restored.file_len,
            revision: restored.revision,
            records: restored.records,
            has_keys: restored.has_keys,
            notes,
        };
        print(self.output, &summary)
    }
}

async fn receive(client: Client, path: &Path, partial: &mut NamedTempFile) -> Result<(), CommandError> {
    let backup = AdminClient::new(client).backup(BackupRequest {}).await?;
    let (mut chunks, mut done) = (backup.into_inner(), 0);
    while let Some(chunk) = chunks.message().await? {
        partial.write_all(&chunk.data).map_err(at(path))?;
        done += u64::try_from(chunk.data.len()).unwrap_or(u64::MAX);
        output::progress("KiB received", kib(done), kib(chunk.file_len));
    }
    Ok(())
}

/// Reads what came once more, from begin to end: a backup that can't be read is found now, not when it is needed.
fn check(path: &Path, partial: &mut NamedTempFile) -> Result<Summary, CommandError> {
    let unreadable = |source| RestoreError::Backup {
        path: path.into(),
        source,
    };
    let file = partial.as_file_mut();
    let file_len = file.metadata().map_err(at(path))?.len();
    file.seek(SeekFrom::Start(0)).map_err(at(path))?;
    let (mut reader, header) = Reader::open(BufReader::new(file)).map_err(unreadable)?;
    let mut has_keys = false;
    loop {
        match reader.next().map_err(unreadable)? {
            Part::Keys(_) => has_keys = true,
            Part::End(end) => {
                let mut notes = NOTES.map(String::from).to_vec();
                let secret = "The file holds the signing keys: keep it as safe as the server itself.";
                notes.extend(has_keys.then(|| secret.into()));
                return Ok(Summary {
                    file: path.display().to_string(),
                    created_at: header.created_at,
                    trust_domain: header.trust_domain,
                    file_len,
                    revision: end.revision,
                    records: end.records,
                    has_keys,
                    notes,
                });
            }
            Part::Header(_) | Part::Record(_) | Part::Trail(_) => {}
        }
    }
}

fn print(output: Output, summary: &Summary) -> Result<(), CommandError> {
    output.print("plastron.backup.v1.Summary", summary, || {
        let facts = output::facts(&[
            ("File", summary.file.clone()),
            ("Made at", Timestamp::from_unix(summary.created_at).to_string()),
            ("Trust domain", summary.trust_domain.clone()),
            ("Length", format!("{} bytes", summary.file_len)),
            ("Revision", summary.revision.to_string()),
            ("Records", summary.records.to_string()),
            ("Signing keys", if summary.has_keys { "yes" } else { "no" }.into()),
        ]);
        let notes: Vec<_> = summary.notes.iter().map(|note| format!("- {note}\n")).collect();
        format!("{facts}\n{}", notes.concat())
    })
}

fn kib(bytes: u64) -> usize {
    usize::try_from(bytes.div_ceil(1024)).unwrap_or(usize::MAX)
}

fn folder_of(file: &Path) -> &Path {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> CommandError {
    move |source| CommandError::File {
        path: path.into(),
        source,
    }
}
