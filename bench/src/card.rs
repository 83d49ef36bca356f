//! A virtio-net card, from the driver's side.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::features::{self, PROTOCOL_FEATURES, VERSION_1};
use crate::header::HEADER_BYTES;
use crate::memory::{Allotment, GuestMemory};
use crate::pair::{Events, PairLayout, QueuePair};
use crate::ring::RingKind;
use crate::session::{Session, SessionError};

/// What a card is like.
#[derive(Clone, Debug)]
pub struct CardConfig {
    /// Format of its rings.
    pub ring: RingKind,
    /// Entries of a receive ring: a power of two up to 32768.
    pub receive_size: u16,
    /// Entries of a transmit ring: a power of two up to 32768.
    pub transmit_size: u16,
    /// Queue pairs.
    pub pairs: u16,
    /// Features to use if the backend offers them; VERSION_1 and what `ring` needs are always used.
    pub features: u64,
    /// Bytes of a receive buffer, virtio-net header included.
    pub receive_buffer: u32,
    /// Bytes of the longest frame to send, Ethernet header included.
    pub longest_frame: u32,
    /// Whether header and frame are sent as two descriptors.
    pub split_header: bool,
}

impl CardConfig {
    /// A card with one pair of 256 entries for frames up to 2 KiB: what Linux has without offloads.
    pub const fn new(ring: RingKind) -> Self {
        Self {
            ring,
            receive_size: 256,
            transmit_size: 256,
            pairs: 1,
            features: features::MRG_RXBUF,
            receive_buffer: 2048,
            longest_frame: 2048,
            split_header: false,
        }
    }

    /// Bytes of a transmit buffer.
    pub(crate) const fn transmit_buffer(&self) -> u32 {
        self.longest_frame + HEADER_BYTES
    }
}

/// A card that is connected to a backend. Its rings stop when it is dropped.
#[derive(Debug)]
pub struct Card {
    /// Its queue pairs.
    pub pairs: Vec<QueuePair>,
    features: u64,
    session: Session,
}

/// What the backend that listens at `socket` offers.
pub fn offered_features(socket: &Path) -> Result<u64, SessionError> {
    let stream = UnixStream::connect(socket)
        .map_err(|source| SessionError::System { action: "connect to the backend", source })?;
    Session::begin(stream, 1).map(|session| session.offered())
}

impl Card {
    /// Connects a new card to the backend that listens at `socket`.
    pub fn connect(config: &CardConfig, socket: &Path) -> Result<Self, SessionError> {
        let stream = UnixStream::connect(socket)
            .map_err(|source| SessionError::System { action: "connect to the backend", source })?;
        Self::with_stream(config, stream)
    }

    /// As [`Card::connect`], over a connection.
    pub fn with_stream(config: &CardConfig, stream: UnixStream) -> Result<Self, SessionError> {
        let system = |action| move |source| SessionError::System { action, source };
        let mut session = Session::begin(stream, config.pairs)?;
        let mut needed = VERSION_1 | PROTOCOL_FEATURES;
        if config.ring == RingKind::Packed {
            needed |= features::RING_PACKED;
        }
        let offered = session.offered();
        if offered & VERSION_1 == 0 {
            return Err(SessionError::NotOffered("virtio 1.0 (VERSION_1)"));
        }
        if offered & needed != needed {
            return Err(SessionError::NotOffered("packed rings (RING_PACKED)"));
        }
        let features = needed | (config.features & !features::RING_PACKED & offered);

        let mut allotment = Allotment::default();
        let layouts: Vec<_> =
            (0..config.pairs).map(|_| PairLayout::allot(config, &mut allotment)).collect();
        let memory =
            GuestMemory::new(allotment.total()).map_err(system("make the guest's memory"))?;
        let memory = Arc::new(memory);
        session.set_up(features, &memory)?;
        let mut pairs = Vec::with_capacity(layouts.len());
        for (index, layout) in layouts.into_iter().enumerate() {
            let events = [events(), events()];
            let [Ok(receive), Ok(transmit)] = events else {
                let error = io::Error::last_os_error();
                return Err(system("make eventfds")(error));
            };
            session.add_ring(2 * index, &layout.receive, &receive)?;
            session.add_ring(2 * index + 1, &layout.transmit, &transmit)?;
            let events = [receive, transmit];
            let mut pair = QueuePair::new(memory.clone(), layout, config, features, events)
                .map_err(system("watch a ring's calls"))?;
            pair.flush().map_err(system("kick the backend"))?;
            pairs.push(pair);
        }
        for index in 0..2 * pairs.len() {
            session.enable(index)?;
        }
        Ok(Self { pairs, features, session })
    }

    /// Features in use.
    pub const fn features(&self) -> u64 {
        self.features
    }

    /// Features that the backend offers.
    pub const fn offered(&self) -> u64 {
        self.session.offered()
    }

    /// The first queue pair.
    pub fn pair(&mut self) -> &mut QueuePair {
        // `with_stream` makes one at least, unless it was asked for none.
        &mut self.pairs[0]
    }
}

fn events() -> io::Result<Events> {
    let eventfd = || EventFd::new(EFD_NONBLOCK);
    Ok(Events { kick: eventfd()?, call: eventfd()?, error: eventfd()? })
}
