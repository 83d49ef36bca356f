//! Opened VFIO files, handed from a process that may open them to one that may not.
//!
//! A small opener with the rights to `/dev/vfio` opens a container with its groups and devices,
//! and sends them ([`Opened::send`]) over a Unix socket of type `SOCK_SEQPACKET`; the VMM, which
//! needs no rights at all then, takes them ([`Opened::receive`]), maps its guest's memory and runs
//! the devices. Memory counts against the VMM's limit, not the opener's.
//!
//! The VMM believes the opener which devices these are, and checks that they are what they are
//! said to be: a container, groups that are in one, and devices of VFIO. Anything else is refused
//! as a whole, and every received descriptor is closed.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, fstat};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use crate::vfio::{AttachedGroup, Container, Group, OpenDevice, VfioError};
use crate::vmm::VfioFiles;

/// Most groups in one message.
pub const MOST_GROUPS: usize = 16;
/// Most devices in one message.
pub const MOST_DEVICES: usize = 64;
/// A container, its groups and their devices: fewer than the kernel passes at once (253).
const MOST_FILES: usize = 1 + MOST_GROUPS + MOST_DEVICES;
/// Longest text of a message.
const LONGEST: usize = 8192;
/// Longest name of a device.
const LONGEST_NAME: usize = 64;
/// The message's version.
const VERSION: u32 = 1;

/// A container, its groups, and their devices.
#[derive(Debug)]
pub struct Opened {
    /// The address space of all of them.
    pub container: Arc<Container>,
    /// Its groups, at most [`MOST_GROUPS`].
    pub groups: Vec<OpenedGroup>,
}

/// A group and what was opened of it.
#[derive(Debug)]
pub struct OpenedGroup {
    /// In [`Opened::container`].
    pub group: Arc<AttachedGroup>,
    /// At most [`MOST_DEVICES`] in all groups together.
    pub devices: Vec<OpenDevice>,
}

/// What the files of a message are, in their order: the container, then each group with its
/// devices after it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u32,
    groups: Vec<GroupContents>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupContents {
    number: u32,
    devices: Vec<String>,
}

impl Contents {
    fn files(&self) -> usize {
        self.groups
            .iter()
            .fold(1, |files, group| files.saturating_add(1).saturating_add(group.devices.len()))
    }

    fn check(&self) -> Result<(), OpenedError> {
        let devices =
            self.groups.iter().fold(0_usize, |sum, group| sum.saturating_add(group.devices.len()));
        let wrong = if self.version != VERSION {
            format!("it has version {}, and this is version {VERSION}", self.version)
        } else if self.groups.len() > MOST_GROUPS || devices > MOST_DEVICES {
            format!(
                "{} groups and {devices} devices are more than {MOST_GROUPS} and {MOST_DEVICES}",
                self.groups.len()
            )
        } else if let Some(name) =
            self.groups.iter().flat_map(|group| &group.devices).find(|name| !is_name(name))
        {
            format!("{name:?} is not a device's name")
        } else {
            return Ok(());
        };
        Err(OpenedError::Message(wrong))
    }
}

/// A BDF, or a platform device's name.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= LONGEST_NAME
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":.-_@,".contains(&byte))
}

impl Opened {
    /// Sends all of it over `socket`; it stays open here until it is dropped.
    ///
    /// # Errors
    /// Too much for one message, or the socket refuses.
    pub fn send(&self, socket: impl AsFd) -> Result<(), OpenedError> {
        let mut files = vec![self.container.as_fd()];
        let mut contents = Contents { version: VERSION, groups: Vec::new() };
        for OpenedGroup { group, devices } in &self.groups {
            files.push(group.as_fd());
            files.extend(devices.iter().map(AsFd::as_fd));
            let devices = devices.iter().map(|device| device.name().to_owned()).collect();
            contents.groups.push(GroupContents { number: group.number(), devices });
        }
        contents.check()?;
        let text = serde_json::to_vec(&contents).map_err(|e| OpenedError::Socket(e.into()))?;
        send(socket.as_fd(), &text, &files)
    }

    /// Waits for one message on `socket` and takes what is in it, telling `hypervisor` of the
    /// groups when there is one.
    ///
    /// # Errors
    /// The socket was closed, or what came is not what [`Opened::send`] sends.
    pub fn receive(
        socket: impl AsFd,
        hypervisor: Option<&Arc<dyn VfioFiles>>,
    ) -> Result<Self, OpenedError> {
        let (text, files) = receive(socket.as_fd())?;
        let contents: Contents = serde_json::from_slice(&text)
            .map_err(|error| OpenedError::Message(format!("its text is wrong: {error}")))?;
        contents.check()?;
        if contents.files() != files.len() {
            return Err(OpenedError::Message(format!(
                "{} files came, and it lists {}",
                files.len(),
                contents.files()
            )));
        }
        let mut files = files.into_iter();
        let mut next =
            || files.next().ok_or_else(|| OpenedError::Message("a file is missing".to_owned()));
        let container = Arc::new(Container::of_file(character_device(next()?)?)?);
        let mut groups = Vec::new();
        for GroupContents { number, devices: names } in contents.groups {
            let group = Group::of_file(character_device(next()?)?, number)?;
            let group = container.adopt(group, hypervisor.cloned())?;
            let mut devices = Vec::new();
            for name in names {
                devices.push(group.adopt(next()?, &name)?);
            }
            groups.push(OpenedGroup { group, devices });
        }
        Ok(Self { container, groups })
    }
}

/// `file`, if it is what `/dev/vfio` has. (An opened device is a file of no kind at all.)
fn character_device(file: OwnedFd) -> Result<OwnedFd, OpenedError> {
    let mode = fstat(&file).map_err(|error| OpenedError::Socket(error.into()))?.st_mode;
    match FileType::from_raw_mode(mode) {
        FileType::CharacterDevice => Ok(file),
        kind => Err(OpenedError::Message(format!(
            "a container or group is a character device, and this file is {kind:?}"
        ))),
    }
}

/// Sends one message.
fn send(socket: BorrowedFd<'_>, text: &[u8], files: &[BorrowedFd<'_>]) -> Result<(), OpenedError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if text.len() > LONGEST || !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(OpenedError::Message("it is too long".to_owned()));
    }
    let sent = rustix::io::retry_on_intr(|| {
        sendmsg(socket, &[IoSlice::new(text)], &mut control, SendFlags::NOSIGNAL)
    });
    match sent {
        Ok(sent) if sent == text.len() => Ok(()),
        Ok(_) => Err(OpenedError::Socket(io::ErrorKind::WriteZero.into())),
        Err(error) => Err(OpenedError::Socket(error.into())),
    }
}

/// Receives one message. Descriptors that are not returned are closed.
fn receive(socket: BorrowedFd<'_>) -> Result<(Vec<u8>, Vec<OwnedFd>), OpenedError> {
    let mut text = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        let buffers = &mut [IoSliceMut::new(&mut text)];
        recvmsg(socket, buffers, &mut control, RecvFlags::CMSG_CLOEXEC)
    });
    let received = received.map_err(|error| OpenedError::Socket(error.into()))?;
    let files: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        })
        .flatten()
        .collect();
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(OpenedError::Message(format!(
            "it is longer than {LONGEST} bytes and {MOST_FILES} files, or this process may not \
             have that many files (RLIMIT_NOFILE)"
        )));
    }
    if received.bytes == 0 && files.is_empty() {
        return Err(OpenedError::Socket(io::ErrorKind::UnexpectedEof.into()));
    }
    text.truncate(received.bytes);
    Ok((text, files))
}

/// Why opened files did not come across.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenedError {
    /// The socket.
    #[error("VFIO files cannot be passed over this socket: {0}")]
    Socket(#[source] io::Error),
    /// Not a message of this protocol, or too much for one.
    #[error("a message with VFIO files is refused: {0}")]
    Message(String),
    /// Not the files that they are said to be.
    #[error("a file in the message is not what it should be: {0}")]
    File(#[from] VfioError),
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        socketpair(family, kind, SocketFlags::CLOEXEC, None).unwrap()
    }

    /// Sends `text` with `null` files /dev/null and the end of a pipe, and says why the message
    /// was refused, after seeing that the received end of the pipe was closed.
    fn refused(text: &str, null: usize) -> OpenedError {
        let (here, there) = pair();
        let null: Vec<File> = (0..null).map(|_| File::open("/dev/null").unwrap()).collect();
        let (mut end, pipe) = std::io::pipe().unwrap();
        let mut files: Vec<_> = null.iter().map(AsFd::as_fd).collect();
        files.push(pipe.as_fd());
        send(here.as_fd(), text.as_bytes(), &files).unwrap();
        drop(files);
        drop(pipe);
        let error = Opened::receive(&there, None).unwrap_err();
        // Ends only when nobody has the other end any more: neither we nor the message.
        assert_eq!(end.read(&mut [0]).unwrap(), 0);
        error
    }

    fn contents(groups: &str) -> String {
        format!(r#"{{"version":1,"groups":[{groups}]}}"#)
    }

    #[test]
    fn wrong_messages_are_refused_and_their_files_closed() {
        let devices = format!(r#""a"{}"#, r#","a""#.repeat(MOST_DEVICES));
        for (text, files, why) in [
            (String::new(), 0, "its text is wrong"),
            ("{}".to_owned(), 0, "missing field"),
            (r#"{"version":1,"groups":[],"more":1}"#.to_owned(), 0, "unknown field"),
            (r#"{"version":2,"groups":[]}"#.to_owned(), 0, "version 2"),
            (contents(""), 1, "2 files came, and it lists 1"),
            (contents(r#"{"number":1,"devices":["../x"]}"#), 2, "not a device's name"),
            (contents(r#"{"number":-1,"devices":[]}"#), 1, "its text is wrong"),
            (contents(&format!(r#"{{"number":1,"devices":[{devices}]}}"#)), 0, "more than"),
            // The pipe, as a container; /dev/null, as a container.
            (contents(""), 0, "this file is Fifo"),
            (contents(r#"{"number":1,"devices":[]}"#), 1, "asking a VFIO container"),
        ] {
            let error = refused(&text, files).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn too_long_is_refused() {
        let (here, there) = pair();
        rustix::io::write(&here, &vec![b' '; LONGEST + 1]).unwrap();
        let error = Opened::receive(&there, None).unwrap_err();
        assert!(error.to_string().contains("longer than"), "{error}");
        let null = File::open("/dev/null").unwrap();
        let many = vec![null.as_fd(); MOST_FILES + 40];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES + 40))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&many)));
        sendmsg(&here, &[IoSlice::new(b"{}")], &mut control, SendFlags::empty()).unwrap();
        let error = Opened::receive(&there, None).unwrap_err();
        assert!(error.to_string().contains("longer than"), "{error}");
    }

    #[test]
    fn closed_socket_is_said() {
        let (here, there) = pair();
        drop(here);
        let error = Opened::receive(&there, None).unwrap_err();
        assert!(matches!(error, OpenedError::Socket(_)), "{error}");
    }
}
