//! The listening socket of an end.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_peercred};
use rustix::net::{AddressFamily, SocketFlags, accept_with};

/// Why an end cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process listens there.
    #[error("Another process listens on {0}; stop it, or choose another path")]
    InUse(PathBuf),
    /// Something that is no socket is there.
    #[error("{0} exists and is not a socket; remove it, or choose another path")]
    NotSocket(PathBuf),
    /// The socket cannot be made.
    #[error("Cannot listen on {path}")]
    Bind {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An inherited descriptor is not a listening UNIX socket.
    #[error("The inherited descriptor is not a listening UNIX stream socket")]
    NotListening,
}

/// A listening socket, and who may connect.
#[derive(Debug)]
pub struct EndListener {
    listener: OwnedFd,
    uid: Option<u32>,
}

/// Why a connection was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The peer runs as another user than the end's.
    #[error("The peer's user id is {found}, not {expected}")]
    Peer {
        /// The peer's.
        found: u32,
        /// The end's.
        expected: u32,
    },
    /// The system refused.
    #[error("Cannot accept a connection")]
    System(#[from] rustix::io::Errno),
}

/// Listens on `path`. A socket file that a dead process left there is replaced.
pub fn listen(path: &Path) -> Result<OwnedFd, ListenError> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ListenError::NotSocket(path.to_owned()));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(ListenError::InUse(path.to_owned()));
        }
        Ok(_) => {
            // If it cannot be removed, the bind says so.
            let _ = fs::remove_file(path);
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)
        .map_err(|source| ListenError::Bind { path: path.to_owned(), source })?;
    Ok(listener.into())
}

impl EndListener {
    /// Takes a listening socket. Only peers with the user id `uid` may connect, if one is given.
    pub fn new(listener: OwnedFd, uid: Option<u32>) -> Result<Self, ListenError> {
        let is_unix = socket_domain(&listener).is_ok_and(|family| family == AddressFamily::UNIX);
        if !is_unix || !socket_acceptconn(&listener).unwrap_or(false) {
            return Err(ListenError::NotListening);
        }
        let listener = UnixListener::from(listener);
        listener.set_nonblocking(true).map_err(|_| ListenError::NotListening)?;
        Ok(Self { listener: listener.into(), uid })
    }

    /// Readable when somebody wants to connect.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Takes the next connection; `None` when it has gone away.
    pub fn accept(&self) -> Result<Option<OwnedFd>, AcceptError> {
        use rustix::io::Errno;
        let socket = match accept_with(&self.listener, SocketFlags::CLOEXEC) {
            Ok(socket) => socket,
            Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if let Some(expected) = self.uid {
            let found = socket_peercred(&socket)?.uid.as_raw();
            if found != expected {
                return Err(AcceptError::Peer { found, expected });
            }
        }
        Ok(Some(socket))
    }
}
