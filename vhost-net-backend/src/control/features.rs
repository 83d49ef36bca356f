//! Virtio features offered.

use vhost::vhost_user::message::VhostUserVirtioFeatures;
use virtio_bindings::virtio_config::{
    VIRTIO_F_ANY_LAYOUT, VIRTIO_F_IN_ORDER, VIRTIO_F_RING_PACKED, VIRTIO_F_VERSION_1,
};
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS,
};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

/// VHOST_F_LOG_ALL: writes to the guest's memory are marked in the dirty log.
pub const LOG_ALL: u64 = VhostUserVirtioFeatures::LOG_ALL.bits();
/// VIRTIO_F_RING_PACKED: rings are packed (virtio 1.2, 2.8).
pub const RING_PACKED: u64 = 1 << VIRTIO_F_RING_PACKED;

/// Forms of rings, and whether the packet path has them.
const RING_FORMS: [(u32, bool); 5] = [
    (VIRTIO_RING_F_INDIRECT_DESC, true),
    (VIRTIO_RING_F_EVENT_IDX, true),
    (VIRTIO_F_ANY_LAYOUT, false),
    (VIRTIO_F_RING_PACKED, false),
    (VIRTIO_F_IN_ORDER, false),
];

/// The features of every end.
pub const FEATURES: u64 = 1 << VIRTIO_NET_F_MTU
    | 1 << VIRTIO_NET_F_MAC
    | 1 << VIRTIO_NET_F_MRG_RXBUF
    | 1 << VIRTIO_NET_F_STATUS
    | LOG_ALL
    | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    | 1 << VIRTIO_F_VERSION_1
    | ring_forms();

const fn ring_forms() -> u64 {
    let mut features = 0;
    let mut rest = RING_FORMS.as_slice();
    while let [(bit, is_there), more @ ..] = rest {
        if *is_there {
            features |= 1 << *bit;
        }
        rest = more;
    }
    features
}
