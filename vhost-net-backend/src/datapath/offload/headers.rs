//! From the Ethernet header to the transport header of a frame.

use zerocopy::FromBytes;

use super::wire::{self, Ipv4, Ipv6};
use crate::datapath::drop_reason::DropReason;

/// Most VLAN tags in front of the network header.
const MAX_TAGS: usize = 2;
/// Most IPv6 extension headers in front of the transport header.
const MAX_EXTENSIONS: usize = 8;
/// Bytes asked for are a multiple of this, so that a chain of headers is not asked for one by one.
const STEP: usize = 128;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

/// IPv4: more fragments, or not the first one.
const IS_FRAGMENT: u16 = 0x3fff;

/// Why a check ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The first so many bytes of the frame are needed.
    More(usize),
    /// The frame is not to be carried.
    Drop(DropReason),
}

impl From<DropReason> for Stop {
    fn from(reason: DropReason) -> Self {
        Self::Drop(reason)
    }
}

/// The private first bytes of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Prefix<'a> {
    bytes: &'a [u8],
    len: usize,
}

impl<'a> Prefix<'a> {
    /// The first bytes of a frame of `len` bytes.
    #[inline]
    pub fn new(bytes: &'a [u8], len: usize) -> Self {
        Self { bytes: bytes.get(..len).unwrap_or(bytes), len }
    }

    /// Length of the whole frame.
    pub const fn frame_len(self) -> usize {
        self.len
    }

    /// The `T` at `offset`. A frame that ends before it is dropped.
    #[inline]
    pub fn read<T: FromBytes>(self, offset: usize) -> Result<T, Stop> {
        let bytes = self.bytes.get(offset..).unwrap_or_default();
        if let Ok((value, _)) = T::read_from_prefix(bytes) {
            return Ok(value);
        }
        match offset.saturating_add(size_of::<T>()) {
            end if end > self.len => Err(DropReason::OffloadHeaders.into()),
            end => Err(Stop::More(end.next_multiple_of(STEP).min(self.len))),
        }
    }

    #[inline]
    fn read_u16(self, offset: usize) -> Result<u16, Stop> {
        self.read(offset).map(u16::from_be_bytes)
    }
}

/// Version of the Internet Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V4,
    V6,
}

/// Where the headers of a frame are, in bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    pub version: Version,
    /// Start of the network header.
    pub network: usize,
    /// Start of what follows the network header and its extensions; at most `end`.
    pub transport: usize,
    /// End of the packet by its own length field; at most the length of the frame.
    pub end: usize,
    /// What is at `transport`.
    pub protocol: u8,
    /// Whether it is a fragment: then there need not be a whole transport header.
    pub fragment: bool,
    /// Whether there is an IPv6 routing header: then the pseudo header may hold another
    /// destination than the network header.
    pub routed: bool,
}

impl Headers {
    /// Follows the headers of a frame. What is not IP, does not say the truth about its lengths or
    /// hides its transport header behind too much is dropped.
    #[inline]
    pub fn follow(frame: Prefix<'_>) -> Result<Self, Stop> {
        let mut network = wire::ETHERNET_LEN;
        let mut ethertype = frame.read_u16(wire::ETHERTYPE)?;
        for _ in 0..MAX_TAGS {
            if !matches!(ethertype, wire::VLAN | wire::SERVICE_VLAN) {
                break;
            }
            ethertype = frame.read_u16(network + 2)?;
            network += wire::TAG_LEN;
        }
        match ethertype {
            wire::IPV4 => Self::follow_ipv4(frame, network),
            wire::IPV6 => Self::follow_ipv6(frame, network),
            _ => Err(DropReason::OffloadHeaders.into()),
        }
    }

    #[inline]
    fn follow_ipv4(frame: Prefix<'_>, network: usize) -> Result<Self, Stop> {
        let header: Ipv4 = frame.read(network)?;
        let header_len = usize::from(header.version_length & 0xf) * 4;
        let headers = Self {
            version: Version::V4,
            network,
            transport: network + header_len,
            end: network + usize::from(header.total_length),
            protocol: header.protocol,
            fragment: header.fragment.get() & IS_FRAGMENT != 0,
            routed: false,
        };
        if header.version_length >> 4 != 4 || header_len < size_of::<Ipv4>() {
            return Err(DropReason::OffloadHeaders.into());
        }
        headers.bounded_by(frame)
    }

    #[inline]
    fn follow_ipv6(frame: Prefix<'_>, network: usize) -> Result<Self, Stop> {
        let header: Ipv6 = frame.read(network)?;
        if header.version_flow.get() >> 28 != 6 {
            return Err(DropReason::OffloadHeaders.into());
        }
        let transport = network + size_of::<Ipv6>();
        let mut headers = Self {
            version: Version::V6,
            network,
            transport,
            end: transport + usize::from(header.payload_length),
            protocol: header.next_header,
            fragment: false,
            routed: false,
        };
        for _ in 0..=MAX_EXTENSIONS {
            match headers.protocol {
                HOP_BY_HOP | DESTINATION | AUTHENTICATION => {}
                ROUTING => headers.routed = true,
                FRAGMENT => headers.fragment = true,
                _ => return headers.bounded_by(frame),
            }
            if headers.fragment {
                return headers.bounded_by(frame);
            }
            let [next, length]: [u8; 2] = frame.read(headers.transport)?;
            headers.transport += match headers.protocol {
                // RFC 4302, 2.2: in units of 4 bytes, minus 2.
                AUTHENTICATION => (usize::from(length) + 2) * 4,
                // RFC 8200, 4.3: in units of 8 bytes, minus 1.
                _ => (usize::from(length) + 1) * 8,
            };
            headers.protocol = next;
        }
        Err(DropReason::OffloadHeaders.into())
    }

    #[inline]
    fn bounded_by(self, frame: Prefix<'_>) -> Result<Self, Stop> {
        if self.transport <= self.end && self.end <= frame.frame_len() {
            Ok(self)
        } else {
            Err(DropReason::OffloadHeaders.into())
        }
    }
}
