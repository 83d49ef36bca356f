//! What a frontend may say, and when.
//!
//! Pure state: a message goes in, and out comes what the gate shall do with it. Everything the
//! library would take on trust is checked here.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::fs::{FileType, fstat};
use vhost::vhost_user::message::{
    FrontendReq, MAX_ATTACHED_FD_ENTRIES, VhostUserProtocolFeatures, VhostUserVirtioFeatures,
};
use zerocopy::{FromBytes, IntoBytes};

use super::eventfd::EventfdCheck;
use super::message::Message;
use super::region::{Region, RegionError};
use crate::datapath::MAX_RING_SIZE;

/// Rings of a virtio-net device with one queue pair and no control queue.
pub const RINGS: usize = 2;
/// Memory regions of one frontend together, as the library reports it to frontends.
pub const MAX_REGIONS: usize = 509;
/// Protocol features offered. A later version may add to them, never remove: a reconnecting
/// cloud-hypervisor replays the set it acknowledged first.
pub const PROTOCOL_FEATURES: VhostUserProtocolFeatures = VhostUserProtocolFeatures::MQ
    .union(VhostUserProtocolFeatures::REPLY_ACK)
    .union(VhostUserProtocolFeatures::BACKEND_REQ)
    .union(VhostUserProtocolFeatures::CONFIG)
    .union(VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS);

/// Bit of a SET_VRING_KICK, CALL or ERR that says no descriptor comes with it.
const NO_FD: u64 = 0x100;
/// Bits of the same that hold the ring's index.
const INDEX_MASK: u64 = 0xff;
/// Bytes of a region.
const REGION_LEN: usize = size_of::<Region>();

/// Why a message ends the session.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The link does not take this request.
    #[error("Request {0:?} is not supported")]
    Unsupported(FrontendReq),
    /// The body is not as long as the request says.
    #[error("{request:?} with a body of {len} bytes")]
    Size {
        /// The request.
        request: FrontendReq,
        /// Length of its body.
        len: usize,
    },
    /// Too many or too few descriptors.
    #[error("{request:?} with {count} descriptors")]
    Fds {
        /// The request.
        request: FrontendReq,
        /// Descriptors that came with it.
        count: usize,
    },
    /// A ring that does not exist.
    #[error("{request:?} for ring {index}; there are {RINGS}")]
    Ring {
        /// The request.
        request: FrontendReq,
        /// The ring's index.
        index: u64,
    },
    /// A ring size that is none.
    #[error("Ring size {0} is not a power of two from 1 to {MAX_RING_SIZE}")]
    RingSize(u32),
    /// A ring base that does not fit 16 bits.
    #[error("Ring base {0} is above 65535")]
    RingBase(u32),
    /// SET_VRING_ENABLE with a value that means nothing.
    #[error("SET_VRING_ENABLE with {0}, which is neither 0 nor 1")]
    Enable(u32),
    /// A descriptor that must be an eventfd.
    #[error("{0:?} with a descriptor that is not an eventfd")]
    NotEventfd(FrontendReq),
    /// A descriptor that must be a socket.
    #[error("The backend request channel is not a stream socket")]
    NotSocket,
    /// A memory region that must not be mapped.
    #[error("Memory region {index} is refused")]
    Region {
        /// Its position in the message.
        index: usize,
        /// Why.
        #[source]
        source: RegionError,
    },
    /// More regions than allowed.
    #[error("More than {MAX_REGIONS} memory regions")]
    TooManyRegions,
    /// Protocol features that were not offered.
    #[error("Protocol features {0:#x} were not offered")]
    ProtocolFeatures(u64),
    /// A request that needs a feature which was not negotiated.
    #[error("{0:?} without the feature it needs")]
    NotNegotiated(FrontendReq),
}

/// What the gate does with a message.
#[derive(Debug, Default)]
pub struct Admission {
    /// Goes to the library.
    pub forward: Option<Message>,
    /// The library will reply to it, and the reply goes to the frontend.
    pub reply: bool,
    /// Goes to the frontend at once.
    pub answer: Option<Message>,
    /// Goes to the library after all that. No replies come to these.
    pub then: Vec<Message>,
    /// The frontend's channel for requests of the link.
    pub channel: Option<UnixStream>,
}

/// State of one session, as far as the rules need it.
#[derive(Debug)]
pub struct Rules {
    eventfd: EventfdCheck,
    unsealed: bool,
    regions: usize,
    features_asked: bool,
    features: Option<u64>,
    protocol_features: VhostUserProtocolFeatures,
    /// SET_VRING_ENABLE per ring that came before SET_FEATURES.
    early_enable: [Option<u32>; RINGS],
}

impl Rules {
    /// The rules at the start of a session. `unsealed` allows memory without F_SEAL_SHRINK.
    pub fn new(unsealed: bool) -> rustix::io::Result<Self> {
        Ok(Self {
            eventfd: EventfdCheck::new()?,
            unsealed,
            regions: 0,
            features_asked: false,
            features: None,
            protocol_features: VhostUserProtocolFeatures::empty(),
            early_enable: [None; RINGS],
        })
    }

    /// Checks a message. On a refusal its descriptors are closed, and the session must end.
    pub fn admit(&mut self, mut message: Message) -> Result<Admission, Refusal> {
        use FrontendReq as Req;
        check_size(&message)?;
        check_fds(&mut message)?;
        match message.request {
            Req::GET_FEATURES => self.features_asked = true,
            Req::SET_FEATURES => return Ok(self.set_features(message)),
            Req::SET_PROTOCOL_FEATURES => self.set_protocol_features(&message)?,
            Req::SET_MEM_TABLE => self.set_mem_table(&mut message)?,
            Req::ADD_MEM_REG => self.add_region(&message)?,
            Req::REM_MEM_REG => self.regions = self.regions.saturating_sub(1),
            Req::SET_VRING_NUM => {
                let (_, size) = ring_state(&message)?;
                if !size.is_power_of_two() || size > u32::from(MAX_RING_SIZE) {
                    return Err(Refusal::RingSize(size));
                }
            }
            Req::SET_VRING_BASE => {
                let (_, base) = ring_state(&message)?;
                if base > u32::from(u16::MAX) {
                    return Err(Refusal::RingBase(base));
                }
            }
            Req::GET_VRING_BASE | Req::SET_VRING_ADDR => {
                ring_state(&message)?;
            }
            Req::SET_VRING_ENABLE => return self.set_enable(message),
            Req::SET_VRING_KICK | Req::SET_VRING_CALL | Req::SET_VRING_ERR => {
                self.check_ring_fd(&message)?;
            }
            Req::SET_BACKEND_REQ_FD => return self.set_channel(message),
            _ => {}
        }
        let reply = self.has_reply(&message);
        Ok(Admission { forward: Some(message), reply, ..Admission::default() })
    }

    /// Whether the library replies to this request.
    fn has_reply(&self, message: &Message) -> bool {
        use FrontendReq as Req;
        matches!(
            message.request,
            Req::GET_FEATURES
                | Req::GET_PROTOCOL_FEATURES
                | Req::GET_QUEUE_NUM
                | Req::GET_VRING_BASE
                | Req::GET_CONFIG
                | Req::GET_MAX_MEM_SLOTS
        ) || self.is_acknowledged(message)
    }

    /// Whether an acknowledgement is wanted and agreed on. The library acknowledges only after it
    /// was asked for its features.
    fn is_acknowledged(&self, message: &Message) -> bool {
        message.needs_reply()
            && self.features_asked
            && self.protocol_features.contains(VhostUserProtocolFeatures::REPLY_ACK)
    }

    /// SET_FEATURES, and after it what was held back until it.
    fn set_features(&mut self, message: Message) -> Admission {
        self.features = message.u64();
        let then = if self.has_protocol_features() {
            let held = self.early_enable.iter_mut().enumerate();
            held.filter_map(|(index, value)| Some((index, value.take()?)))
                .map(|(index, value)| enable_message(index, value))
                .collect()
        } else {
            // Without VHOST_USER_F_PROTOCOL_FEATURES all rings are enabled by this very message.
            self.early_enable = [None; RINGS];
            Vec::new()
        };
        let reply = self.has_reply(&message);
        Admission { forward: Some(message), reply, then, ..Admission::default() }
    }

    fn has_protocol_features(&self) -> bool {
        self.features.is_some_and(|features| {
            features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() != 0
        })
    }

    /// SET_VRING_ENABLE. QEMU sends it before SET_FEATURES, and from version 10 waits for its
    /// acknowledgement there; the library would end the session. So it is held, acknowledged, and
    /// delivered after SET_FEATURES.
    fn set_enable(&mut self, message: Message) -> Result<Admission, Refusal> {
        let (index, value) = ring_state(&message)?;
        if value > 1 {
            return Err(Refusal::Enable(value));
        }
        if self.features.is_some() {
            if !self.has_protocol_features() {
                return Err(Refusal::NotNegotiated(message.request));
            }
            let reply = self.has_reply(&message);
            return Ok(Admission { forward: Some(message), reply, ..Admission::default() });
        }
        if let Some(held) = self.early_enable.get_mut(index) {
            *held = Some(value);
        }
        let answer = self.is_acknowledged(&message).then(|| message.acknowledgement());
        Ok(Admission { answer, ..Admission::default() })
    }

    fn set_protocol_features(&mut self, message: &Message) -> Result<(), Refusal> {
        let bits = message.u64().unwrap_or_default();
        let features = VhostUserProtocolFeatures::from_bits(bits)
            .filter(|features| PROTOCOL_FEATURES.contains(*features))
            .ok_or(Refusal::ProtocolFeatures(bits & !PROTOCOL_FEATURES.bits()))?;
        self.protocol_features = features;
        Ok(())
    }

    /// SET_MEM_TABLE. The library wants the regions sorted by guest address; frontends need not.
    fn set_mem_table(&mut self, message: &mut Message) -> Result<(), Refusal> {
        let (count, bodies) = message.body.split_at_checked(8).unwrap_or_default();
        let mut regions: Vec<(Region, OwnedFd)> = Vec::with_capacity(message.fds.len());
        let bodies = bodies.chunks_exact(REGION_LEN);
        for (index, (bytes, file)) in bodies.zip(message.fds.drain(..)).enumerate() {
            regions.push((self.check_region(index, bytes, &file)?, file));
        }
        regions.sort_by_key(|(region, _)| region.guest_address.get());
        let mut body = count.to_vec();
        for (region, file) in regions {
            body.extend_from_slice(region.as_bytes());
            message.fds.push(file);
        }
        message.body = body;
        self.regions = message.fds.len();
        Ok(())
    }

    fn add_region(&mut self, message: &Message) -> Result<(), Refusal> {
        if self.regions >= MAX_REGIONS {
            return Err(Refusal::TooManyRegions);
        }
        if let (Some(bytes), [file]) = (message.body.get(8..), message.fds.as_slice()) {
            self.check_region(0, bytes, file)?;
        }
        self.regions += 1;
        Ok(())
    }

    fn check_region(&self, index: usize, bytes: &[u8], file: &OwnedFd) -> Result<Region, Refusal> {
        let region = Region::read_from_bytes(bytes)
            .map_err(|_| Refusal::Region { index, source: RegionError::Empty })?;
        match region.check_file(file, self.unsealed) {
            Ok(()) => Ok(region),
            Err(source) => Err(Refusal::Region { index, source }),
        }
    }

    fn check_ring_fd(&self, message: &Message) -> Result<(), Refusal> {
        let request = message.request;
        let value = message.u64().unwrap_or(u64::MAX);
        let index = value & INDEX_MASK;
        if value & !(INDEX_MASK | NO_FD) != 0 || index >= RINGS as u64 {
            return Err(Refusal::Ring { request, index: value });
        }
        let expected = usize::from(value & NO_FD == 0);
        if message.fds.len() != expected {
            return Err(Refusal::Fds { request, count: message.fds.len() });
        }
        if message.fds.iter().all(|fd| self.eventfd.accepts(fd)) {
            Ok(())
        } else {
            Err(Refusal::NotEventfd(request))
        }
    }

    /// SET_BACKEND_REQ_FD. The library keeps such a channel but cannot say "configuration changed"
    /// on it, so it stays here.
    fn set_channel(&self, message: Message) -> Result<Admission, Refusal> {
        if !self.protocol_features.contains(VhostUserProtocolFeatures::BACKEND_REQ) {
            return Err(Refusal::NotNegotiated(message.request));
        }
        let answer = self.is_acknowledged(&message).then(|| message.acknowledgement());
        let is_socket = |fd: &OwnedFd| {
            fstat(fd).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Socket)
        };
        let socket = message.fds.into_iter().next().filter(is_socket);
        let channel = Some(UnixStream::from(socket.ok_or(Refusal::NotSocket)?));
        Ok(Admission { answer, channel, ..Admission::default() })
    }
}

fn enable_message(index: usize, value: u32) -> Message {
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    let body = [index.to_ne_bytes(), value.to_ne_bytes()].concat();
    Message::new(FrontendReq::SET_VRING_ENABLE, body)
}

/// The ring a message is about, checked, and the value beside it.
fn ring_state(message: &Message) -> Result<(usize, u32), Refusal> {
    let request = message.request;
    let (index, value) =
        message.ring_state().ok_or(Refusal::Size { request, len: message.body.len() })?;
    match usize::try_from(index) {
        Ok(position) if position < RINGS => Ok((position, value)),
        _ => Err(Refusal::Ring { request, index: u64::from(index) }),
    }
}

/// Checks the length of a body against its request, and refuses requests the link does not take.
fn check_size(message: &Message) -> Result<(), Refusal> {
    use FrontendReq as Req;
    let request = message.request;
    let len = message.body.len();
    let fits = match request {
        Req::GET_FEATURES
        | Req::SET_OWNER
        | Req::RESET_OWNER
        | Req::GET_PROTOCOL_FEATURES
        | Req::GET_QUEUE_NUM
        | Req::GET_MAX_MEM_SLOTS
        | Req::SET_BACKEND_REQ_FD => len == 0,
        Req::SET_FEATURES
        | Req::SET_PROTOCOL_FEATURES
        | Req::SET_VRING_NUM
        | Req::SET_VRING_BASE
        | Req::GET_VRING_BASE
        | Req::SET_VRING_ENABLE
        | Req::SET_VRING_KICK
        | Req::SET_VRING_CALL
        | Req::SET_VRING_ERR => len == 8,
        Req::SET_VRING_ADDR => len == 40,
        Req::ADD_MEM_REG | Req::REM_MEM_REG => len == 8 + REGION_LEN,
        Req::SET_MEM_TABLE => {
            let count = message.ring_state().map_or(0, |(count, _)| count as usize);
            (1..=MAX_ATTACHED_FD_ENTRIES).contains(&count) && len == 8 + count * REGION_LEN
        }
        // Offset, size and flags, and then `size` bytes.
        Req::GET_CONFIG | Req::SET_CONFIG => {
            let size = message.ring_state().map_or(u32::MAX, |(_, size)| size);
            len.checked_sub(12) == Some(size as usize)
        }
        _ => return Err(Refusal::Unsupported(request)),
    };
    if fits { Ok(()) } else { Err(Refusal::Size { request, len }) }
}

/// Checks how many descriptors came with a request. The ring requests are checked with their body.
fn check_fds(message: &mut Message) -> Result<(), Refusal> {
    use FrontendReq as Req;
    let count = message.fds.len();
    let fits = match message.request {
        Req::SET_MEM_TABLE => {
            message.ring_state().is_some_and(|(regions, _)| regions as usize == count)
        }
        Req::ADD_MEM_REG | Req::SET_BACKEND_REQ_FD => count == 1,
        Req::SET_VRING_KICK | Req::SET_VRING_CALL | Req::SET_VRING_ERR => count <= 1,
        // Old frontends send one; the specification has it closed unused.
        Req::REM_MEM_REG => {
            message.fds.clear();
            count <= 1
        }
        _ => count == 0,
    };
    if fits { Ok(()) } else { Err(Refusal::Fds { request: message.request, count }) }
}
