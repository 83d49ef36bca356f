//! Telling an eventfd from other descriptors.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl, fstat};

/// Checks descriptors against an eventfd of our own.
#[derive(Debug)]
pub struct EventfdCheck {
    device: u64,
    inode: u64,
    _own: OwnedFd,
}

impl EventfdCheck {
    /// Makes the eventfd to compare with.
    pub fn new() -> rustix::io::Result<Self> {
        let own = eventfd(0, EventfdFlags::CLOEXEC)?;
        let stat = fstat(&own)?;
        Ok(Self { device: stat.st_dev, inode: stat.st_ino, _own: own })
    }

    /// Whether `fd` is an eventfd; if so, it no longer blocks writers.
    ///
    /// Eventfds share one anonymous inode with a few other kinds of descriptor (timerfd, epoll,
    /// ...), which rules out files, pipes, sockets and devices. Of those few only an eventfd takes
    /// a write of eight bytes; a write of zero leaves its counter as it is.
    pub fn accepts(&self, fd: impl AsFd) -> bool {
        let fd = fd.as_fd();
        let is_anonymous =
            fstat(fd).is_ok_and(|stat| stat.st_dev == self.device && stat.st_ino == self.inode);
        is_anonymous
            && fcntl_getfl(fd).and_then(|flags| fcntl_setfl(fd, flags | OFlags::NONBLOCK)).is_ok()
            && matches!(
                rustix::io::write(fd, &0_u64.to_ne_bytes()),
                // A full counter refuses even a write of zero.
                Ok(8) | Err(rustix::io::Errno::AGAIN)
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::epoll;
    use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};

    #[test]
    fn eventfd_is_accepted_whatever_its_counter() {
        let check = EventfdCheck::new().unwrap();
        let fd = eventfd(7, EventfdFlags::CLOEXEC).unwrap();
        assert!(check.accepts(&fd));
        rustix::io::write(&fd, &(u64::MAX - 8).to_ne_bytes()).unwrap();
        assert!(check.accepts(&fd));
        let mut counter = [0; 8];
        rustix::io::read(&fd, &mut counter).unwrap();
        assert_eq!(u64::from_ne_bytes(counter), u64::MAX - 1);
    }

    #[test]
    fn other_descriptors_are_refused() {
        let check = EventfdCheck::new().unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).unwrap();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let null = std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap();
        let file = tempfile::tempfile().unwrap();
        assert!(!check.accepts(&reader));
        assert!(!check.accepts(&writer));
        assert!(!check.accepts(&timer));
        assert!(!check.accepts(&epoll));
        assert!(!check.accepts(&socket));
        assert!(!check.accepts(&null));
        assert!(!check.accepts(&file));
    }
}
