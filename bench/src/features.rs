//! Feature bits of virtio (virtio 1.3, 6) and of its network device (5.1.3).

/// The device takes frames whose checksum is not complete.
pub const CSUM: u64 = 1 << 0;
/// The driver takes frames whose checksum is not complete.
pub const GUEST_CSUM: u64 = 1 << 1;
/// The driver takes TCP over IPv4 that is not segmented.
pub const GUEST_TSO4: u64 = 1 << 7;
/// The device takes TCP over IPv4 that is not segmented.
pub const HOST_TSO4: u64 = 1 << 11;
/// A frame may lie in several receive buffers.
pub const MRG_RXBUF: u64 = 1 << 15;
/// Chains may be in tables of their own.
pub const INDIRECT_DESC: u64 = 1 << 28;
/// Notifications are asked for by index.
pub const EVENT_IDX: u64 = 1 << 29;
/// There are vhost-user protocol features.
pub const PROTOCOL_FEATURES: u64 = 1 << 30;
/// The device keeps to virtio 1.0 or later.
pub const VERSION_1: u64 = 1 << 32;
/// The rings are packed ones.
pub const RING_PACKED: u64 = 1 << 34;
/// The device uses buffers in the order in which they were made available.
pub const IN_ORDER: u64 = 1 << 35;

/// All that 64 KiB frames need in both directions, apart from [`MRG_RXBUF`].
pub const GSO: u64 = CSUM | GUEST_CSUM | GUEST_TSO4 | HOST_TSO4;
