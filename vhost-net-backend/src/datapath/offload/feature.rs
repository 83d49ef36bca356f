//! The features that offloads depend on, as masks of negotiated bits (virtio 1.2, 5.1.3).
//!
//! What a driver may claim for frames it sends depends on CSUM and the HOST_* bits, what it takes
//! in frames it receives on GUEST_CSUM and the GUEST_* bits. UFO is not here and never offered:
//! it makes IP fragments.

use virtio_bindings::virtio_net as bit;

/// The driver may send frames with an incomplete checksum.
pub const CSUM: u64 = 1 << bit::VIRTIO_NET_F_CSUM;
/// The driver takes frames with an incomplete checksum.
pub const GUEST_CSUM: u64 = 1 << bit::VIRTIO_NET_F_GUEST_CSUM;
/// The driver takes unsegmented TCP over IPv4.
pub const GUEST_TSO4: u64 = 1 << bit::VIRTIO_NET_F_GUEST_TSO4;
/// The driver takes unsegmented TCP over IPv6.
pub const GUEST_TSO6: u64 = 1 << bit::VIRTIO_NET_F_GUEST_TSO6;
/// The driver takes unsegmented TCP with the CWR flag.
pub const GUEST_ECN: u64 = 1 << bit::VIRTIO_NET_F_GUEST_ECN;
/// The driver may send unsegmented TCP over IPv4.
pub const HOST_TSO4: u64 = 1 << bit::VIRTIO_NET_F_HOST_TSO4;
/// The driver may send unsegmented TCP over IPv6.
pub const HOST_TSO6: u64 = 1 << bit::VIRTIO_NET_F_HOST_TSO6;
/// The driver may send unsegmented TCP with the CWR flag.
pub const HOST_ECN: u64 = 1 << bit::VIRTIO_NET_F_HOST_ECN;
/// The driver takes several UDP datagrams over IPv4 as one frame.
pub const GUEST_USO4: u64 = 1 << bit::VIRTIO_NET_F_GUEST_USO4;
/// The driver takes several UDP datagrams over IPv6 as one frame.
pub const GUEST_USO6: u64 = 1 << bit::VIRTIO_NET_F_GUEST_USO6;
/// The driver may send several UDP datagrams as one frame.
pub const HOST_USO: u64 = 1 << bit::VIRTIO_NET_F_HOST_USO;

/// What a driver may claim.
pub const SENDER: u64 = CSUM | HOST_TSO4 | HOST_TSO6 | HOST_ECN | HOST_USO;
/// What a driver may take.
pub const RECEIVER: u64 =
    GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6 | GUEST_ECN | GUEST_USO4 | GUEST_USO6;
/// Everything a link can offer: what one end may send and the other does not take is done in
/// software.
pub const OFFERED: u64 = SENDER | RECEIVER;
