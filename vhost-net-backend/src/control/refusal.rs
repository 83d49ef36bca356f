//! Why the gate ends a session.

use vhost::vhost_user::message::FrontendReq;

use super::region::RegionError;
use super::rules::{MAX_REGIONS, MIN_MTU};
use crate::datapath::MAX_RING_SIZE;
use crate::datapath::log::LogError;
use crate::mac::MacAddr;

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
    #[error("{request:?} for ring {index}; there are {rings}")]
    Ring {
        /// The request.
        request: FrontendReq,
        /// The ring's index.
        index: u64,
        /// Rings of the device.
        rings: usize,
    },
    /// A ring size that is none.
    #[error("Ring size {0} is not a power of two from 1 to {MAX_RING_SIZE}")]
    RingSize(u32),
    /// A ring base that does not fit 16 bits.
    #[error("Ring base {0} is above 65535")]
    RingBase(u32),
    /// A packed ring's base that is not in the ring.
    #[error("Base {base:#06x} of a packed ring is outside its {size} entries")]
    PackedBase {
        /// Index in bits 0 to 14, wrap counter in bit 15.
        base: u16,
        /// Entries.
        size: u16,
    },
    /// SET_VRING_ADDR with flags that mean nothing.
    #[error("SET_VRING_ADDR with flags {0:#x}")]
    RingFlags(u32),
    /// A ring's area that does not lie as it must.
    #[error("A ring's area at {address:#x} is not {alignment}-byte aligned")]
    RingMisaligned {
        /// In the frontend.
        address: u64,
        /// Bytes.
        alignment: u64,
    },
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
    /// A region to be removed that is not there.
    #[error("There is no memory region of {size:#x} bytes at guest address {guest_address:#x}")]
    NoSuchRegion {
        /// Its guest address.
        guest_address: u64,
        /// Bytes.
        size: u64,
    },
    /// A dirty log that must not be used.
    #[error("The dirty log is refused")]
    Log(#[from] LogError),
    /// A dirty log that is shorter than the guest's memory.
    #[error("The dirty log has no bits for the memory region at guest address {0:#x}")]
    LogShort(u64),
    /// An MTU the link does not carry.
    #[error("MTU {mtu} is not from {MIN_MTU} to {max}, the link's own")]
    Mtu {
        /// The MTU to be.
        mtu: u64,
        /// The link's.
        max: u16,
    },
    /// An announcement for somebody else.
    #[error("An announcement for {found} at the end of {expected}")]
    Announcement {
        /// The MAC address to be announced.
        found: MacAddr,
        /// The end's own.
        expected: MacAddr,
    },
    /// A part of the configuration space that cannot be.
    #[error("{size} bytes at offset {offset} are not in a configuration space of 256 bytes")]
    Config {
        /// Where it begins.
        offset: u32,
        /// Bytes.
        size: u32,
    },
    /// Protocol features that were not offered.
    #[error("Protocol features {0:#x} were not offered")]
    ProtocolFeatures(u64),
    /// A request that needs a feature which was not negotiated.
    #[error("{0:?} without the feature it needs")]
    NotNegotiated(FrontendReq),
}
