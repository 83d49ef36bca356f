//! The vhost-user frontend: tells a link where memory and rings are, and what signals whom.

use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use vhost::vhost_user::message::{
    VhostUserHeaderFlag, VhostUserProtocolFeatures, VhostUserVirtioFeatures,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend as _};
use vhost::{VhostBackend as _, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryBackend as _};
use vmm_plugin::virtio::Queue;
use vmm_sys_util::eventfd::EventFd;

use super::card::QUEUES;
use crate::memory::Memory;

/// How long the first connection may take: a link starts at about the same time.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a link may take for an answer. A processor waits meanwhile.
const ANSWER: Duration = Duration::from_secs(5);

/// Features that go through from a link to a driver (virtio 1.2, 5.1.3 and 6): checksums, MTU, MAC
/// and segmentation (0 to 14, but for 2, which wants a control queue); merged buffers and link
/// status (15, 16); ring forms (28, 29); 1.0 (32) and order (35, 36); longer segments (54 to 56).
/// No several queue pairs, and no packed rings: those cannot be resumed from guest memory alone.
const PASSED: u64 = 0x1_fffb | 3 << 28 | 1 << 32 | 3 << 35 | 7 << 54;
const PROTOCOL: u64 = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();

/// A ring of an enabled queue.
pub struct Ring<'a> {
    /// Its number.
    pub index: usize,
    /// Where the driver has it.
    pub queue: Queue,
    /// The driver signals it.
    pub kick: &'a EventFd,
    /// The link signals it.
    pub call: &'a EventFd,
}

/// A link, or the place where one was.
pub struct Link {
    socket: PathBuf,
    memory: Memory,
    offered: u64,
    session: Option<Session>,
}

/// A connection, and a second handle of it to end it by.
struct Session {
    frontend: Frontend,
    stream: UnixStream,
    rings: Vec<usize>,
}

impl Link {
    /// Connects, and asks what the link offers.
    pub fn connect(socket: &Path, memory: Memory) -> Result<Self> {
        let started = Instant::now();
        let session = loop {
            match Session::open(socket) {
                Ok(session) => break session,
                Err(error) if started.elapsed() > PATIENCE => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        };
        let offered = session.frontend.get_features()? & PASSED;
        Ok(Self { socket: socket.to_owned(), memory, offered, session: Some(session) })
    }

    /// What a driver may accept.
    pub fn offered(&self) -> u64 {
        self.offered
    }

    /// To wait for the connection's end.
    pub fn connection(&self) -> Option<RawFd> {
        self.session.as_ref().map(|session| session.stream.as_raw_fd())
    }

    /// Connects anew after [`Link::forget`].
    pub fn reconnect(&mut self) -> Result<()> {
        let session = Session::open(&self.socket)?;
        let missing = self.offered & !session.frontend.get_features()?;
        ensure!(missing == 0, "The new link lacks features that the old one had: {missing:#x}");
        self.session = Some(session);
        Ok(())
    }

    /// Ends a session that cannot be trusted to be in step; whoever waits for its end is told.
    pub fn hang_up(&self) {
        if let Some(session) = &self.session {
            let _ = session.stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// There is no link any more.
    pub fn forget(&mut self) {
        self.session = None;
    }

    /// Whether all of the queue's ring lies in guest memory (its parts' sizes: virtio 1.2, 2.7).
    pub fn can_reach(&self, queue: &Queue) -> bool {
        let size = usize::from(queue.size.get());
        let parts = [
            (queue.descriptors, 16 * size),
            (queue.driver, 6 + 2 * size),
            (queue.device, 6 + 8 * size),
        ];
        let inside = |start: u64, length| self.memory.check_range(GuestAddress(start), length);
        parts.iter().all(|(start, length)| inside(start.get(), *length))
    }

    /// Gives the rings, which [`Link::can_reach`], to the link, from where their used indexes are:
    /// a new ring begins at zero, and of an old one the last link has used exactly so much.
    ///
    /// Without a link nothing is lost: it is told when it is there.
    pub fn start(&mut self, features: u64, rings: &[Ring<'_>]) -> Result<()> {
        self.stop()?;
        let Some(session) = &mut self.session else { return Ok(()) };
        let frontend = &mut session.frontend;
        frontend.set_features(features | PROTOCOL)?;
        let regions = self.memory.iter().map(VhostUserMemoryRegionInfo::from_guest_region);
        frontend.set_mem_table(&regions.collect::<Result<Vec<_>, _>>()?)?;
        for Ring { index, queue, kick, call } in rings {
            let host = |address| -> Result<u64> {
                Ok(self.memory.get_host_address(GuestAddress(address))?.addr() as u64)
            };
            frontend.set_vring_num(*index, queue.size.get())?;
            frontend.set_vring_addr(
                *index,
                &VringConfigData {
                    queue_max_size: queue.size.get(),
                    queue_size: queue.size.get(),
                    flags: 0,
                    desc_table_addr: host(queue.descriptors.get())?,
                    avail_ring_addr: host(queue.driver.get())?,
                    used_ring_addr: host(queue.device.get())?,
                    log_addr: None,
                },
            )?;
            // After the flags of the used ring.
            let used: u16 = self.memory.read_obj(GuestAddress(queue.device.get() + 2))?;
            frontend.set_vring_base(*index, u16::from_le(used))?;
            frontend.set_vring_call(*index, call)?;
            frontend.set_vring_kick(*index, kick)?;
            frontend.set_vring_enable(*index, true)?;
            session.rings.push(*index);
            // What the driver said when nobody listened.
            let _ = kick.write(1);
        }
        Ok(())
    }

    /// Takes the rings back: the link touches nothing when this returns.
    pub fn stop(&mut self) -> Result<()> {
        let Some(session) = &mut self.session else { return Ok(()) };
        for index in session.rings.drain(..) {
            session.frontend.set_vring_enable(index, false)?;
            session.frontend.get_vring_base(index)?;
        }
        Ok(())
    }
}

impl Session {
    fn open(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("Cannot connect to the link at {}", socket.display()))?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        let mut frontend = Frontend::from_stream(stream.try_clone()?, QUEUES.into());
        let shown = || format!("The link at {} does not speak vhost-user", socket.display());
        frontend.set_owner().with_context(shown)?;
        let features = frontend.get_features().with_context(shown)?;
        ensure!(features & PROTOCOL != 0, "{} has no protocol features", socket.display());
        let offered = frontend.get_protocol_features().with_context(shown)?;
        // Every message is acknowledged: an error is known where it was made.
        let wanted = VhostUserProtocolFeatures::REPLY_ACK;
        ensure!(offered.contains(wanted), "{} does not acknowledge messages", socket.display());
        frontend.set_protocol_features(wanted).with_context(shown)?;
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        Ok(Self { frontend, stream, rings: Vec::new() })
    }
}
