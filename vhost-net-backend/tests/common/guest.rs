//! A guest: memory on a memfd, two rings, and a frontend that connects them to a link.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use vhost::vhost_user::message::{
    VhostUserHeaderFlag, VhostUserProtocolFeatures, VhostUserVirtioFeatures,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::driver::{Desc, Driver, DriverRing, WRITE};

pub const MRG_RXBUF: u64 = 1 << 15;
pub const INDIRECT_DESC: u64 = 1 << 28;
pub const EVENT_IDX: u64 = 1 << 29;
pub const PROTOCOL: u64 = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
pub const VERSION_1: u64 = 1 << 32;
pub const RING_PACKED: u64 = 1 << 34;
pub const IN_ORDER: u64 = 1 << 35;
/// VHOST_F_LOG_ALL.
pub const LOG_ALL: u64 = 1 << 26;

/// Where the guest's memory lies for its VMM. Nothing is there: the link must translate.
pub const USER_ADDRESS: u64 = 0x7f12_3400_0000;
pub const MEMORY_LEN: usize = 8 << 20;
/// Transmit buffers are one per descriptor from here; receive buffers follow.
const TX_BUFFERS: u64 = 0x10_0000;
const RX_BUFFERS: u64 = 0x40_0000;
const BUFFER_LEN: u32 = 2048;
const WAIT: Duration = Duration::from_secs(5);

/// A guest with a virtio-net card, whose rings are split unless it is said otherwise.
pub struct Guest<R = DriverRing> {
    pub file: File,
    pub memory: Arc<GuestMemoryMmap>,
    pub rx: R,
    pub tx: R,
    pub features: u64,
    /// Bytes per receive buffer.
    pub rx_buffer_len: u32,
    pub session: Option<Session>,
    tx_posted: u16,
}

/// A connected frontend.
pub struct Session {
    pub frontend: Frontend,
    /// Its connection, for what the frontend cannot say.
    stream: UnixStream,
    pub kick: [EventFd; 2],
    pub call: [EventFd; 2],
    pub error: [EventFd; 2],
}

impl Session {
    /// Sets where a ring is, with all 32 bits, of which [`Frontend`] sends 16.
    pub fn set_base(&self, ring: usize, base: u32) {
        let message = [10, 9, 8, ring as u32, base].map(u32::to_ne_bytes).concat();
        (&self.stream).write_all(&message).unwrap();
        let mut reply = [0xff; 20];
        (&self.stream).read_exact(&mut reply).unwrap();
        assert_eq!(reply[12..], [0; 8], "the base is accepted");
    }

    /// Replaces the call eventfd of a ring.
    pub fn frontend_call(&self, ring: usize, call: &EventFd) {
        self.frontend.set_vring_call(ring, call).unwrap();
    }
}

/// A memfd with these seals.
pub fn memfd(len: usize, seals: SealFlags) -> File {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = File::from(memfd_create("guest", flags).unwrap());
    file.set_len(len as u64).unwrap();
    fcntl_add_seals(&file, seals).unwrap();
    file
}

impl Guest {
    /// A guest that is not connected, with split rings of `size` entries.
    pub fn new(features: u64, size: u16) -> Self {
        Self::create(features, size)
    }
}

impl<R: Driver> Guest<R> {
    /// A guest that is not connected, with rings of `size` entries.
    pub fn create(features: u64, size: u16) -> Self {
        Self::with_rings(features, (0, size), (0x2_0000, size))
    }

    /// A guest that is not connected, with rings at these addresses and of these sizes.
    pub fn with_rings(features: u64, rx: (u64, u16), tx: (u64, u16)) -> Self {
        let file = memfd(MEMORY_LEN, SealFlags::SHRINK | SealFlags::GROW);
        let offset = FileOffset::new(file.try_clone().unwrap(), 0);
        let region = MmapRegion::<()>::from_file(offset, MEMORY_LEN).unwrap();
        let region = GuestRegionMmap::new(region, GuestAddress(0)).unwrap();
        let memory = Arc::new(GuestMemoryMmap::from_regions(vec![region]).unwrap());
        let rx = R::create(&memory, rx.0, rx.1);
        let tx = R::create(&memory, tx.0, tx.1);
        let features = features | R::FEATURES | VERSION_1 | PROTOCOL;
        Self {
            file,
            memory,
            rx,
            tx,
            features,
            rx_buffer_len: BUFFER_LEN,
            session: None,
            tx_posted: 0,
        }
    }

    /// Connects to the socket and sets the rings up, in cloud-hypervisor's order.
    pub fn connect(&mut self, socket: &Path) {
        let stream = UnixStream::connect(socket).unwrap();
        self.connect_stream(stream);
    }

    /// As [`Guest::connect`], with buffers posted already that no link has seen.
    pub fn connect_at_its_start(&mut self, socket: &Path) {
        self.connect_at(UnixStream::connect(socket).unwrap(), |_| R::START);
    }

    pub fn connect_stream(&mut self, stream: UnixStream) {
        self.connect_at(stream, R::base);
    }

    /// Connects, with the base that `base` finds for each ring.
    fn connect_at(&mut self, stream: UnixStream, base: impl Fn(&R) -> u32) {
        let mut frontend = Frontend::from_stream(stream.try_clone().unwrap(), 17);
        frontend.set_owner().unwrap();
        let offered = frontend.get_features().unwrap();
        assert_eq!(offered & self.features, self.features, "{offered:#x}");
        let protocol = frontend.get_protocol_features().unwrap();
        let wanted = VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
            | VhostUserProtocolFeatures::LOG_SHMFD
            | VhostUserProtocolFeatures::MQ;
        assert!(protocol.contains(wanted), "{protocol:?}");
        frontend.set_protocol_features(wanted).unwrap();
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        frontend.set_features(self.features).unwrap();
        frontend.set_mem_table(&[self.region()]).unwrap();
        let eventfds = || [(); 2].map(|()| EventFd::new(EFD_NONBLOCK).unwrap());
        let (kick, call, error) = (eventfds(), eventfds(), eventfds());
        let session = self.session.insert(Session { frontend, stream, kick, call, error });
        let Session { frontend, kick, call, error, .. } = &*session;
        for (index, ring) in [&self.rx, &self.tx].into_iter().enumerate() {
            frontend.set_vring_num(index, ring.layout().size).unwrap();
            frontend.set_vring_addr(index, &ring_config(ring)).unwrap();
            session.set_base(index, base(ring));
            frontend.set_vring_call(index, &call[index]).unwrap();
            frontend.set_vring_err(index, &error[index]).unwrap();
            frontend.set_vring_kick(index, &kick[index]).unwrap();
        }
        for index in 0..2 {
            session.frontend.set_vring_enable(index, true).unwrap();
        }
    }

    pub fn region(&self) -> VhostUserMemoryRegionInfo {
        VhostUserMemoryRegionInfo {
            guest_phys_addr: 0,
            memory_size: MEMORY_LEN as u64,
            userspace_addr: USER_ADDRESS,
            mmap_offset: 0,
            mmap_handle: self.file.as_raw_fd(),
        }
    }

    pub fn disconnect(&mut self) {
        self.session = None;
    }

    pub fn session(&mut self) -> &mut Session {
        self.session.as_mut().expect("the test connected the guest")
    }

    pub fn kick_tx(&self) {
        self.session.as_ref().unwrap().kick[1].write(1).unwrap();
    }

    /// Fills the receive ring.
    pub fn fill_rx(&mut self) {
        self.post_rx(self.rx.layout().size - self.rx.in_flight());
    }

    /// Offers `count` receive buffers.
    pub fn post_rx(&mut self, count: u16) {
        for _ in 0..count {
            let index = self.rx.offered() % self.rx.layout().size;
            let addr = RX_BUFFERS + u64::from(index) * u64::from(BUFFER_LEN);
            let desc = Desc { addr, len: self.rx_buffer_len, flags: WRITE, next: 0 };
            self.rx.offer(index, &[desc]);
        }
        self.rx.publish();
    }

    /// Writes a frame with a zero header into the transmit buffer of descriptor `index`.
    pub fn write_tx(&self, index: u16, frame: &[u8]) -> Desc {
        let addr = TX_BUFFERS + u64::from(index) * u64::from(BUFFER_LEN);
        self.memory.write_slice(&[0; 12], GuestAddress(addr)).unwrap();
        self.memory.write_slice(frame, GuestAddress(addr + 12)).unwrap();
        Desc { addr, len: 12 + frame.len() as u32, flags: 0, next: 0 }
    }

    /// Puts a frame into the transmit ring, one descriptor, without a kick. The ring must have
    /// room.
    pub fn post(&mut self, frame: &[u8]) {
        let index = self.tx_posted % self.tx.layout().size;
        self.tx_posted = self.tx_posted.wrapping_add(1);
        let desc = self.write_tx(index, frame);
        self.tx.offer(index, &[desc]);
        self.tx.publish();
    }

    /// As [`Guest::post`], in two descriptors: header and frame apart.
    pub fn post_split(&mut self, frame: &[u8]) {
        let index = self.tx_posted % self.tx.layout().size;
        self.tx_posted = self.tx_posted.wrapping_add(2);
        let whole = self.write_tx(index, frame);
        let (header, body) = (12, whole.len - 12);
        let parts =
            [Desc { len: header, ..whole }, Desc { addr: whole.addr + 12, len: body, ..whole }];
        self.tx.offer(index, &parts);
        self.tx.publish();
    }

    /// Sends a frame and waits until the link has taken it.
    pub fn send(&mut self, frame: &[u8]) {
        self.post(frame);
        self.kick_tx();
        self.wait_tx();
    }

    /// Waits until everything posted was used.
    pub fn wait_tx(&mut self) {
        let done = wait_for(|| {
            while self.tx.pop_used().is_some() {}
            self.tx.in_flight() == 0
        });
        assert!(done, "the link did not take the frame");
    }

    /// The next frame received, and how many buffers it took; none within a moment if `wait` is
    /// zero.
    pub fn receive_within(&mut self, wait: Duration) -> Option<(Vec<u8>, u16)> {
        let start = Instant::now();
        loop {
            if let Some(frame) = self.try_receive() {
                return Some(frame);
            }
            if start.elapsed() >= wait {
                return None;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// The next frame received; fails the test when none comes.
    pub fn receive(&mut self) -> Vec<u8> {
        self.receive_within(WAIT).expect("a frame arrives").0
    }

    fn try_receive(&mut self) -> Option<(Vec<u8>, u16)> {
        let (id, len) = self.rx.pop_used()?;
        let mut bytes = self.read_rx(id, len);
        let buffers = u16::from_le_bytes([bytes[10], bytes[11]]);
        assert_eq!(&bytes[..10], &[0; 10], "the header claims nothing");
        for _ in 1..buffers {
            // They must have appeared together.
            let (id, len) = self.rx.pop_used().expect("all buffers of a frame are used at once");
            bytes.extend(self.read_rx(id, len));
        }
        Some((bytes.split_off(12), buffers))
    }

    pub fn read_rx(&self, id: u32, len: u32) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        let address = RX_BUFFERS + u64::from(id) * u64::from(BUFFER_LEN);
        self.memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }
}

/// The addresses of a ring, as a VMM gives them.
pub fn ring_config<R: Driver>(ring: &R) -> VringConfigData {
    let layout = ring.layout();
    VringConfigData {
        queue_max_size: 32768,
        queue_size: layout.size,
        flags: 0,
        desc_table_addr: USER_ADDRESS + layout.descriptors,
        used_ring_addr: USER_ADDRESS + layout.used,
        avail_ring_addr: USER_ADDRESS + layout.available,
        log_addr: None,
    }
}

/// Waits until `condition` holds; false when it does not within some seconds.
pub fn wait_for(mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < WAIT {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    condition()
}
