//! What a frontend may say, and when.
//!
//! Pure state: a message goes in, and out comes what the gate shall do with it. Everything the
//! library would take on trust is checked here.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::fs::{FileType, fstat};
use vhost::vhost_user::message::{FrontendReq, VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use zerocopy::{FromBytes, IntoBytes};

use super::eventfd::EventfdCheck;
use super::features::{LOG_ALL, RING_PACKED, rings};
use super::log_rules::{LogChange, LogRules};
use super::message::Message;
use super::refusal::Refusal;
use super::region::{Region, RegionError};
use super::ring_rules::{RingRules, check_addresses};
use super::shape::{check_fds, check_size};
use crate::mac::MacAddr;

/// Memory regions of one frontend together, as the library reports it to frontends.
pub const MAX_REGIONS: usize = 509;
/// Protocol features offered. A later version may add to them, never remove: a reconnecting
/// cloud-hypervisor replays the set it acknowledged first.
pub const PROTOCOL_FEATURES: VhostUserProtocolFeatures = VhostUserProtocolFeatures::MQ
    .union(VhostUserProtocolFeatures::LOG_SHMFD)
    .union(VhostUserProtocolFeatures::RARP)
    .union(VhostUserProtocolFeatures::MTU)
    .union(VhostUserProtocolFeatures::REPLY_ACK)
    .union(VhostUserProtocolFeatures::BACKEND_REQ)
    .union(VhostUserProtocolFeatures::CONFIG)
    .union(VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS);

/// Bit of a SET_VRING_KICK, CALL or ERR that says no descriptor comes with it.
const NO_FD: u64 = 0x100;
/// Bits of the same that hold the ring's index.
const INDEX_MASK: u64 = 0xff;
/// Smallest MTU: what IPv4 asks of every network (RFC 791).
pub const MIN_MTU: u16 = 68;
/// Bytes of the largest configuration space.
const CONFIG_LEN: u32 = 256;
/// Bytes of a region.
const REGION_LEN: usize = size_of::<Region>();

/// What the gate does with a message.
#[derive(Debug, Default)]
pub struct Admission {
    /// Goes to the library.
    pub forward: Option<Message>,
    /// The library will reply to it, and the reply goes to the frontend.
    pub reply: bool,
    /// That reply is the base of a packed ring.
    pub packed_base: bool,
    /// Goes to the frontend at once.
    pub answer: Option<Message>,
    /// Goes to the library after all that. No replies come to these.
    pub then: Vec<Message>,
    /// The frontend's channel for requests of the link.
    pub channel: Option<UnixStream>,
    /// The dirty log from now on, before anything of the above.
    pub log: Option<LogChange>,
    /// To be announced to the other end.
    pub announce: Option<MacAddr>,
}

/// What the rules need to know of the end.
#[derive(Clone, Copy, Debug)]
pub struct EndConfig {
    /// Whether memory without F_SEAL_SHRINK is taken.
    pub unsealed: bool,
    /// MAC of the card the guest sees.
    pub mac: MacAddr,
    /// MTU of the link, which is that of the card.
    pub mtu: u16,
    /// Queue pairs the card can have, from 1 to
    /// [`MAX_PAIRS`](crate::datapath::command::MAX_PAIRS).
    pub queue_pairs: usize,
}

/// State of one session, as far as the rules need it.
#[derive(Debug)]
pub struct Rules {
    eventfd: EventfdCheck,
    end: EndConfig,
    rings: Vec<RingRules>,
    regions: Vec<Region>,
    log: LogRules,
    features_asked: bool,
    features: Option<u64>,
    protocol_features: VhostUserProtocolFeatures,
    /// SET_VRING_ENABLE per ring that came before SET_FEATURES.
    early_enable: Vec<Option<u32>>,
}

impl Rules {
    /// The rules at the start of a session.
    pub fn new(end: EndConfig) -> rustix::io::Result<Self> {
        Ok(Self {
            eventfd: EventfdCheck::new()?,
            end,
            rings: vec![RingRules::default(); rings(end.queue_pairs)],
            regions: Vec::new(),
            log: LogRules::default(),
            features_asked: false,
            features: None,
            protocol_features: VhostUserProtocolFeatures::empty(),
            early_enable: vec![None; rings(end.queue_pairs)],
        })
    }

    /// Checks a message. On a refusal its descriptors are closed, and the session must end.
    pub fn admit(&mut self, mut message: Message) -> Result<Admission, Refusal> {
        use FrontendReq as Req;
        check_size(&message)?;
        check_fds(&mut message)?;
        match message.request {
            Req::GET_FEATURES => self.features_asked = true,
            Req::SET_FEATURES => return self.set_features(message),
            Req::SET_PROTOCOL_FEATURES => self.set_protocol_features(&message)?,
            Req::SET_MEM_TABLE => self.set_mem_table(&mut message)?,
            Req::ADD_MEM_REG => self.add_region(&message)?,
            Req::REM_MEM_REG => self.remove_region(&message)?,
            Req::SET_LOG_BASE => return self.set_log(message),
            Req::SET_LOG_FD => return self.set_log_fd(&message),
            Req::SET_VRING_NUM => {
                let (_, size) = self.ring_state(&message)?;
                self.ring(&message)?.set_size(size)?;
            }
            Req::SET_VRING_BASE => {
                let (_, base) = self.ring_state(&message)?;
                let packed = self.is_packed();
                let base = self.ring(&message)?.set_base(base, packed)?;
                message.set_ring_value(base.into());
            }
            Req::GET_VRING_BASE => {
                self.ring_state(&message)?;
            }
            Req::SET_VRING_ADDR => {
                self.ring_state(&message)?;
                check_addresses(&message, self.is_packed())?;
            }
            Req::SET_VRING_ENABLE => return self.set_enable(message),
            Req::SET_VRING_KICK | Req::SET_VRING_CALL | Req::SET_VRING_ERR => {
                self.check_ring_fd(&message)?;
            }
            Req::SET_BACKEND_REQ_FD => return self.set_channel(message),
            Req::NET_SET_MTU => return self.set_mtu(&message),
            Req::SEND_RARP => return self.announce(&message),
            Req::GET_CONFIG | Req::SET_CONFIG => check_config(&message)?,
            _ => {}
        }
        let reply = self.has_reply(&message);
        let packed_base = message.request == Req::GET_VRING_BASE && self.is_packed();
        Ok(Admission { forward: Some(message), reply, packed_base, ..Admission::default() })
    }

    /// The index of the ring a message is about, checked, and the value beside it.
    fn ring_state(&self, message: &Message) -> Result<(usize, u32), Refusal> {
        let request = message.request;
        let (index, value) =
            message.ring_state().ok_or(Refusal::Size { request, len: message.body.len() })?;
        let rings = self.rings.len();
        match usize::try_from(index) {
            Ok(position) if position < rings => Ok((position, value)),
            _ => Err(Refusal::Ring { request, index: u64::from(index), rings }),
        }
    }

    /// The ring a message is about.
    fn ring(&mut self, message: &Message) -> Result<&mut RingRules, Refusal> {
        let (index, _) = self.ring_state(message)?;
        let (request, rings) = (message.request, self.rings.len());
        self.rings.get_mut(index).ok_or(Refusal::Ring { request, index: index as u64, rings })
    }

    /// Whether the rings are packed.
    fn is_packed(&self) -> bool {
        self.features.is_some_and(|features| features & RING_PACKED != 0)
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
    fn set_features(&mut self, message: Message) -> Result<Admission, Refusal> {
        self.features = message.u64();
        let log_all = self.features.is_some_and(|features| features & LOG_ALL != 0);
        let log = self.log.set_on(log_all, &self.regions)?;
        let then = if self.has_protocol_features() {
            let held = self.early_enable.iter_mut().enumerate();
            held.filter_map(|(index, value)| Some((index, value.take()?)))
                .map(|(index, value)| enable_message(index, value))
                .collect()
        } else {
            // Without VHOST_USER_F_PROTOCOL_FEATURES all rings are enabled by this very message.
            self.early_enable.fill(None);
            Vec::new()
        };
        let reply = self.has_reply(&message);
        Ok(Admission { forward: Some(message), reply, then, log, ..Admission::default() })
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
        let (index, value) = self.ring_state(&message)?;
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
        Ok(self.acknowledge(&message))
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
        self.regions.clear();
        for (region, file) in regions {
            body.extend_from_slice(region.as_bytes());
            message.fds.push(file);
            self.regions.push(region);
        }
        message.body = body;
        self.log.check_covers(&self.regions)
    }

    fn add_region(&mut self, message: &Message) -> Result<(), Refusal> {
        if self.regions.len() >= MAX_REGIONS {
            return Err(Refusal::TooManyRegions);
        }
        if let (Some(bytes), [file]) = (message.body.get(8..), message.fds.as_slice()) {
            let region = self.check_region(0, bytes, file)?;
            self.log.check_covers(&[region])?;
            self.regions.push(region);
        }
        Ok(())
    }

    /// REM_MEM_REG. A region is known by its addresses and size.
    fn remove_region(&mut self, message: &Message) -> Result<(), Refusal> {
        let request = message.request;
        let region = message.body.get(8..).and_then(|bytes| Region::read_from_bytes(bytes).ok());
        let region = region.ok_or(Refusal::Size { request, len: message.body.len() })?;
        let found = self.regions.iter().position(|known| {
            (known.guest_address, known.size, known.user_address)
                == (region.guest_address, region.size, region.user_address)
        });
        let (guest_address, size) = (region.guest_address.get(), region.size.get());
        self.regions.swap_remove(found.ok_or(Refusal::NoSuchRegion { guest_address, size })?);
        Ok(())
    }

    /// SET_LOG_BASE. The library knows of no log that is written past it, so it stays here.
    /// Frontends wait for this reply whether or not they ask for one.
    fn set_log(&mut self, message: Message) -> Result<Admission, Refusal> {
        self.check_negotiated(&message, VhostUserProtocolFeatures::LOG_SHMFD)?;
        let answer = Some(message.reply(message.body.clone()));
        let log = self.log.set_base(message, self.end.unsealed, &self.regions)?;
        Ok(Admission { answer, log, ..Admission::default() })
    }

    /// SET_LOG_FD: an eventfd to be signalled when the log is written. Frontends look at the log
    /// when they want to know, so it is closed.
    fn set_log_fd(&self, message: &Message) -> Result<Admission, Refusal> {
        if !message.fds.iter().all(|fd| self.eventfd.accepts(fd)) {
            return Err(Refusal::NotEventfd(message.request));
        }
        Ok(self.acknowledge(message))
    }

    fn check_region(&self, index: usize, bytes: &[u8], file: &OwnedFd) -> Result<Region, Refusal> {
        let region = Region::read_from_bytes(bytes)
            .map_err(|_| Refusal::Region { index, source: RegionError::Empty })?;
        match region.check_file(file, self.end.unsealed) {
            Ok(()) => Ok(region),
            Err(source) => Err(Refusal::Region { index, source }),
        }
    }

    /// NET_SET_MTU: the driver is told of this MTU. The link carries up to its own, so there is
    /// nothing to do for a smaller one.
    fn set_mtu(&self, message: &Message) -> Result<Admission, Refusal> {
        self.check_negotiated(message, VhostUserProtocolFeatures::MTU)?;
        let mtu = message.u64().unwrap_or_default();
        let max = self.end.mtu;
        if !(u64::from(MIN_MTU)..=u64::from(max)).contains(&mtu) {
            return Err(Refusal::Mtu { mtu, max });
        }
        Ok(self.acknowledge(message))
    }

    /// SEND_RARP: a guest that has moved here and cannot announce itself. Only its own address is
    /// announced.
    fn announce(&self, message: &Message) -> Result<Admission, Refusal> {
        self.check_negotiated(message, VhostUserProtocolFeatures::RARP)?;
        let expected = self.end.mac;
        // The address is in the first six of eight bytes.
        let found = message.body.first_chunk().map(|octets| MacAddr::new(*octets));
        match found.filter(|found| *found != expected) {
            Some(found) => Err(Refusal::Announcement { found, expected }),
            None => Ok(Admission { announce: Some(expected), ..self.acknowledge(message) }),
        }
    }

    /// An acknowledgement, if one is wanted, and nothing for the library.
    fn acknowledge(&self, message: &Message) -> Admission {
        let answer = self.is_acknowledged(message).then(|| message.acknowledgement());
        Admission { answer, ..Admission::default() }
    }

    fn check_negotiated(
        &self,
        message: &Message,
        feature: VhostUserProtocolFeatures,
    ) -> Result<(), Refusal> {
        if self.protocol_features.contains(feature) {
            Ok(())
        } else {
            Err(Refusal::NotNegotiated(message.request))
        }
    }

    fn check_ring_fd(&self, message: &Message) -> Result<(), Refusal> {
        let request = message.request;
        let value = message.u64().unwrap_or(u64::MAX);
        let index = value & INDEX_MASK;
        let rings = self.rings.len();
        if value & !(INDEX_MASK | NO_FD) != 0 || index >= rings as u64 {
            return Err(Refusal::Ring { request, index: value, rings });
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
        self.check_negotiated(&message, VhostUserProtocolFeatures::BACKEND_REQ)?;
        let acknowledgement = self.acknowledge(&message);
        let is_socket = |fd: &OwnedFd| {
            fstat(fd).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Socket)
        };
        let socket = message.fds.into_iter().next().filter(is_socket);
        let channel = Some(UnixStream::from(socket.ok_or(Refusal::NotSocket)?));
        Ok(Admission { channel, ..acknowledgement })
    }
}

fn enable_message(index: usize, value: u32) -> Message {
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    let body = [index.to_ne_bytes(), value.to_ne_bytes()].concat();
    Message::new(FrontendReq::SET_VRING_ENABLE, body)
}

/// Checks where in the configuration space a message is about.
fn check_config(message: &Message) -> Result<(), Refusal> {
    let request = message.request;
    let (offset, size) =
        message.ring_state().ok_or(Refusal::Size { request, len: message.body.len() })?;
    match offset.checked_add(size) {
        Some(end) if size > 0 && end <= CONFIG_LEN => Ok(()),
        _ => Err(Refusal::Config { offset, size }),
    }
}
