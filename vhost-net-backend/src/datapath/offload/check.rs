//! Whether a header says the truth about its frame.

use super::headers::{Headers, Prefix, Stop, Version};
use super::wire::{self, Tcp, Udp};
use super::{
    Checked, Checksum, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, MAX_FRAME,
    MAX_SEGMENTS, MIN_SEGMENT_SIZE, NEEDS_CSUM, Offload, SegmentKind, Segments, feature,
};
use crate::datapath::drop_reason::DropReason;
use crate::datapath::header::VirtioNetHeader;

/// Not a size in Linux, but a mark (GSO_BY_FRAGS).
const NOT_A_SIZE: u16 = 0xffff;

/// Ports of DHCP and DHCPv6, whose payload the frame rules read.
const DHCP_PORTS: [u16; 4] = [67, 68, 546, 547];

/// Proves what `header` claims for a frame of `len` bytes, of which `bytes` are the first (all of
/// them, or at least 128). `features` is what the driver that sent it negotiated.
///
/// Flags that are not for a driver to set (DATA_VALID, RSC_INFO) or unknown mean nothing, as the
/// specification wants (virtio 1.2, 5.1.6.2.2), and neither do `hdr_len` and `num_buffers`:
/// nothing of them reaches the receiver.
#[inline]
pub fn check(header: &VirtioNetHeader, features: u64, bytes: &[u8], len: usize) -> Checked {
    if header.is_plain() {
        return Checked::Ok(Offload::default());
    }
    match prove(header, features, Prefix::new(bytes, len)) {
        Ok(offload) => Checked::Ok(offload),
        Err(Stop::Drop(reason)) => Checked::Drop(reason),
        Err(Stop::More(bytes)) => Checked::More(bytes),
    }
}

/// What `gso_type` claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    Tcp(Version),
    Udp,
}

#[inline(never)]
fn prove(header: &VirtioNetHeader, features: u64, frame: Prefix<'_>) -> Result<Offload, Stop> {
    let claim = claim(header.gso_type, features)?;
    if header.flags & NEEDS_CSUM == 0 {
        // Every segment gets a checksum of its own, so there must be one to complete.
        return Err(DropReason::GsoNoChecksum.into());
    }
    if features & feature::CSUM == 0 {
        return Err(DropReason::HeaderOffload.into());
    }
    if frame.frame_len() > MAX_FRAME {
        return Err(DropReason::OffloadLong.into());
    }
    if claim.is_some() {
        check_size(header.gso_size.get(), frame)?;
    }
    let headers = Headers::follow(frame)?;
    if headers.fragment {
        return Err(DropReason::OffloadFragment.into());
    }
    let checksum = Checksum { start: header.csum_start.get(), offset: header.csum_offset.get() };
    check_place(checksum, &headers, frame)?;
    let segments = match claim {
        Some(claim) => segments(claim, header.gso_size.get(), checksum, &headers, frame)?,
        None => None,
    };
    Ok(Offload { checksum: Some(checksum), segments })
}

/// The one known type that `gso_type` stands for, if the sender may claim it.
#[inline]
fn claim(gso_type: u8, features: u64) -> Result<Option<Claim>, DropReason> {
    let (claim, needed) = match gso_type & !GSO_ECN {
        GSO_NONE if gso_type == GSO_NONE => return Ok(None),
        GSO_TCPV4 => (Claim::Tcp(Version::V4), feature::HOST_TSO4),
        GSO_TCPV6 => (Claim::Tcp(Version::V6), feature::HOST_TSO6),
        GSO_UDP_L4 if gso_type == GSO_UDP_L4 => (Claim::Udp, feature::HOST_USO),
        _ => return Err(DropReason::GsoType),
    };
    let ecn = if gso_type & GSO_ECN == 0 { 0 } else { feature::HOST_ECN };
    if features & (needed | ecn) == needed | ecn {
        Ok(Some(claim))
    } else {
        Err(DropReason::HeaderOffload)
    }
}

#[inline]
fn check_size(size: u16, frame: Prefix<'_>) -> Result<(), DropReason> {
    if size < MIN_SEGMENT_SIZE || size == NOT_A_SIZE || usize::from(size) > frame.frame_len() {
        return Err(DropReason::GsoSize);
    }
    Ok(())
}

/// Checks that the checksum is that of the transport header, or of one in a tunnel. Whoever
/// completes it writes two bytes that the sender chooses, so they must not be bytes that the
/// frame rules have looked at, or that decide where a packet goes.
#[inline]
fn check_place(checksum: Checksum, headers: &Headers, frame: Prefix<'_>) -> Result<(), Stop> {
    let start = usize::from(checksum.start);
    let field = start + usize::from(checksum.offset);
    if start < headers.transport || field + 2 > headers.end {
        return Err(DropReason::ChecksumPlace.into());
    }
    let right = if start == headers.transport {
        match headers.protocol {
            wire::TCP => checksum.offset == wire::TCP_CHECKSUM,
            wire::UDP => checksum.offset == wire::UDP_CHECKSUM,
            wire::GRE => checksum.offset == wire::GRE_CHECKSUM && gre_has_checksum(headers, frame)?,
            _ => false,
        }
    } else {
        let inner = matches!(checksum.offset, wire::TCP_CHECKSUM | wire::UDP_CHECKSUM);
        inner
            && tunnel_header_len(headers, frame)?
                .is_some_and(|len| start >= headers.transport + len)
    };
    if right { Ok(()) } else { Err(DropReason::ChecksumPlace.into()) }
}

fn gre_has_checksum(headers: &Headers, frame: Prefix<'_>) -> Result<bool, Stop> {
    let [flags]: [u8; 1] = frame.read(headers.transport)?;
    Ok(flags & 0x80 != 0)
}

/// Least length of the header of a tunnel, if the packet can be one.
fn tunnel_header_len(headers: &Headers, frame: Prefix<'_>) -> Result<Option<usize>, Stop> {
    Ok(match headers.protocol {
        wire::UDP => {
            let udp: Udp = frame.read(headers.transport)?;
            let ports = [udp.source_port.get(), udp.destination_port.get()];
            let dhcp = ports.iter().any(|port| DHCP_PORTS.contains(port));
            (!dhcp).then_some(size_of::<Udp>())
        }
        wire::GRE => Some(4),
        wire::IPIP => Some(size_of::<wire::Ipv4>()),
        wire::IPV6_IN_IP => Some(size_of::<wire::Ipv6>()),
        _ => None,
    })
}

/// How the frame is to be cut; `None` when it is one segment already, which is no lie.
#[inline]
fn segments(
    claim: Claim,
    size: u16,
    checksum: Checksum,
    headers: &Headers,
    frame: Prefix<'_>,
) -> Result<Option<Segments>, Stop> {
    let mismatch = Err(DropReason::GsoMismatch.into());
    let len = frame.frame_len();
    // Tunnels are not segmented. Nothing follows a packet that was too long to need padding.
    if usize::from(checksum.start) != headers.transport || headers.routed || headers.end != len {
        return mismatch;
    }
    let (kind, transport_len, ecn) = match (claim, headers.protocol, headers.version) {
        (Claim::Tcp(claimed), wire::TCP, version) if claimed == version => {
            let tcp: Tcp = frame.read(headers.transport)?;
            let tcp_len = usize::from(tcp.data_offset >> 4) * 4;
            if tcp_len < size_of::<Tcp>() {
                return mismatch;
            }
            let kind = match version {
                Version::V4 => SegmentKind::Tcp4,
                Version::V6 => SegmentKind::Tcp6,
            };
            (kind, tcp_len, tcp.flags & wire::CWR != 0)
        }
        (Claim::Udp, wire::UDP, version) => {
            let udp: Udp = frame.read(headers.transport)?;
            if usize::from(udp.length) != len - headers.transport {
                return mismatch;
            }
            let kind = match version {
                Version::V4 => SegmentKind::Udp4,
                Version::V6 => SegmentKind::Udp6,
            };
            (kind, size_of::<Udp>(), false)
        }
        _ => return mismatch,
    };
    let header_len = headers.transport + transport_len;
    let (Some(payload), Ok(header_len), Ok(network)) =
        (len.checked_sub(header_len), u16::try_from(header_len), u16::try_from(headers.network))
    else {
        return mismatch;
    };
    if payload <= usize::from(size) {
        return Ok(None);
    }
    if payload.div_ceil(usize::from(size)) > MAX_SEGMENTS {
        return Err(DropReason::GsoSize.into());
    }
    Ok(Some(Segments { kind, size, header_len, network, ecn }))
}
