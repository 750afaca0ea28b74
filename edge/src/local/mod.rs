//! Local sockets: listening where only some may connect, knowing who connected, and hearing whoever speaks gRPC.

mod authority;
mod header_block;
mod stream;

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{FileTypeExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

pub use authority::Authorities;
use nix::sys::socket::{getsockopt, sockopt};
pub use stream::Stream;
use tokio::net::{UnixListener, UnixStream};

/// A socket can't be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process listens there.
    #[error("socket `{}` is in use by another process", path.display())]
    InUse {
        /// Which socket.
        path: PathBuf,
    },
    /// Something that is no socket is in the way.
    #[error("`{}` exists and is no socket; remove it or choose another `socket_path`", path.display())]
    NotASocket {
        /// Which file.
        path: PathBuf,
    },
    /// The folder or socket can't be made.
    #[error("cannot listen on `{}`", path.display())]
    Io {
        /// Which socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Listens on `path`, which gets the permissions `mode`; missing folders are made, a socket that a dead process
/// left behind is replaced.
///
/// # Errors
///
/// Another process listens there, or the socket can't be made.
pub fn listen(path: &Path, mode: u32) -> Result<UnixListener, ListenError> {
    let failed = |source| ListenError::Io {
        path: path.into(),
        source,
    };
    if let Some(folder) = path.parent()
        && !folder.exists()
    {
        // Whoever may open the socket must get to it, whatever the process's umask.
        fs::create_dir_all(folder).map_err(failed)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    }
    remove_stale(path)?;
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)?;
    Ok(listener)
}

fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(ListenError::NotASocket { path: path.into() });
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(ListenError::InUse { path: path.into() });
    }
    fs::remove_file(path).map_err(|source| ListenError::Io {
        path: path.into(),
        source,
    })
}

/// Who connected, as the kernel noted at `connect`.
#[derive(Debug)]
pub struct Peer {
    /// Process.
    pub pid: i32,
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Holds the process, where the kernel knows SO_PEERPIDFD (Linux 6.5).
    pub pidfd: Option<OwnedFd>,
}

/// Asks the kernel who is at the other end.
///
/// # Errors
///
/// The kernel does not say.
pub fn peer(stream: &UnixStream) -> io::Result<Peer> {
    let credentials = getsockopt(&stream.as_fd(), sockopt::PeerCredentials)?;
    let pidfd = getsockopt(&stream.as_fd(), sockopt::PeerPidfd).ok();
    Ok(Peer {
        pid: credentials.pid(),
        uid: credentials.uid(),
        gid: credentials.gid(),
        pidfd,
    })
}
