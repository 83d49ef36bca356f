//! The frontend's side of a vhost-user session.

use std::fmt;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use vhost::vhost_user::message::{VhostUserHeaderFlag, VhostUserProtocolFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend as _};
use vhost::{VhostBackend as _, VhostUserMemoryRegionInfo, VringConfigData};

use crate::features;
use crate::memory::GuestMemory;
use crate::pair::Events;
use crate::ring::{RingKind, RingLayout};

/// Where the guest's memory lies for its VMM, were there one: nothing is there, so a backend must translate.
const USER_ADDRESS: u64 = 0x7f12_3400_0000;
/// How long a backend may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// SET_VRING_BASE.
const SET_VRING_BASE: u32 = 10;
/// Version 1 of the protocol, in a message's flags.
const VERSION: u32 = 1;

/// Why a session could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The backend refused, or is no vhost-user backend.
    #[error("The backend did not take {step}")]
    Refused {
        /// The message.
        step: &'static str,
        /// What went wrong.
        #[source]
        source: vhost::Error,
    },
    /// It does not offer what is needed.
    #[error("The backend does not offer {0}")]
    NotOffered(&'static str),
    /// Something of this machine failed.
    #[error("Cannot {action}")]
    System {
        /// What.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A session. The backend stops the rings when it is dropped.
pub struct Session {
    frontend: Frontend,
    stream: UnixStream,
    offered: u64,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("stream", &self.stream).finish_non_exhaustive()
    }
}

fn refused(step: &'static str) -> impl FnOnce(vhost::Error) -> SessionError {
    move |source| SessionError::Refused { step, source }
}

fn system(action: &'static str) -> impl FnOnce(io::Error) -> SessionError {
    move |source| SessionError::System { action, source }
}

impl Session {
    /// Begins a session with a backend that has `pairs` queue pairs, and asks what it offers.
    pub fn begin(stream: UnixStream, pairs: u16) -> Result<Self, SessionError> {
        // Both ends of the clone share the file description, so the timeouts are the frontend's too.
        let clone = stream.try_clone().map_err(system("duplicate the socket"))?;
        for set in [UnixStream::set_read_timeout, UnixStream::set_write_timeout] {
            set(&stream, Some(PATIENCE)).map_err(system("set the socket's timeout"))?;
        }
        let mut frontend = Frontend::from_stream(stream, u64::from(pairs) * 2);
        frontend.set_owner().map_err(refused("SET_OWNER"))?;
        let offered = frontend.get_features().map_err(refused("GET_FEATURES"))?;
        if offered & features::PROTOCOL_FEATURES == 0 {
            return Err(SessionError::NotOffered("protocol features"));
        }
        let offered_protocol =
            frontend.get_protocol_features().map_err(refused("GET_PROTOCOL_FEATURES"))?;
        let wanted = VhostUserProtocolFeatures::REPLY_ACK | VhostUserProtocolFeatures::MQ;
        frontend
            .set_protocol_features(wanted & offered_protocol)
            .map_err(refused("SET_PROTOCOL_FEATURES"))?;
        if offered_protocol.contains(VhostUserProtocolFeatures::REPLY_ACK) {
            frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        }
        Ok(Self { frontend, stream: clone, offered })
    }

    /// Features that the backend offers.
    pub const fn offered(&self) -> u64 {
        self.offered
    }

    /// Tells the backend the features and shows it the memory.
    pub fn set_up(&mut self, features: u64, memory: &GuestMemory) -> Result<(), SessionError> {
        self.frontend.set_features(features).map_err(refused("SET_FEATURES"))?;
        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: 0,
            memory_size: memory.size(),
            userspace_addr: USER_ADDRESS,
            mmap_offset: 0,
            mmap_handle: memory.fd().as_raw_fd(),
        };
        self.frontend.set_mem_table(&[region]).map_err(refused("SET_MEM_TABLE"))?;
        Ok(())
    }

    /// Hands a fresh ring over; [`Session::enable`] starts it.
    pub fn add_ring(
        &mut self,
        index: usize,
        layout: &RingLayout,
        events: &Events,
    ) -> Result<(), SessionError> {
        let frontend = &self.frontend;
        frontend.set_vring_num(index, layout.size).map_err(refused("SET_VRING_NUM"))?;
        let addresses = VringConfigData {
            queue_max_size: 32768,
            queue_size: layout.size,
            flags: 0,
            desc_table_addr: USER_ADDRESS + layout.descriptors,
            used_ring_addr: USER_ADDRESS + layout.device,
            avail_ring_addr: USER_ADDRESS + layout.driver,
            log_addr: None,
        };
        frontend.set_vring_addr(index, &addresses).map_err(refused("SET_VRING_ADDR"))?;
        match layout.kind {
            RingKind::Split => {
                frontend.set_vring_base(index, 0).map_err(refused("SET_VRING_BASE"))?;
            }
            // Both wrap counters begin at 1.
            RingKind::Packed => self.set_packed_base(index, 0x8000_8000)?,
        }
        let frontend = &self.frontend;
        frontend.set_vring_call(index, &events.call).map_err(refused("SET_VRING_CALL"))?;
        frontend.set_vring_err(index, &events.error).map_err(refused("SET_VRING_ERR"))?;
        frontend.set_vring_kick(index, &events.kick).map_err(refused("SET_VRING_KICK"))
    }

    /// SET_VRING_BASE as packed rings need it: the library has only 16 bits for it.
    fn set_packed_base(&mut self, index: usize, base: u32) -> Result<(), SessionError> {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let words = [SET_VRING_BASE, VERSION, 8, index, base];
        let mut message = [0; 20];
        for (place, word) in message.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        self.stream.write_all(&message).map_err(system("send SET_VRING_BASE"))
    }

    /// Lets the backend work on a ring.
    pub fn enable(&mut self, index: usize) -> Result<(), SessionError> {
        self.frontend.set_vring_enable(index, true).map_err(refused("SET_VRING_ENABLE"))
    }
}
