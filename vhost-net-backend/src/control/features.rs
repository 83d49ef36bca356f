//! Virtio features offered.

use vhost::vhost_user::message::VhostUserVirtioFeatures;
use virtio_bindings::virtio_config::{
    VIRTIO_F_ANY_LAYOUT, VIRTIO_F_IN_ORDER, VIRTIO_F_RING_PACKED, VIRTIO_F_VERSION_1,
};
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CTRL_RX, VIRTIO_NET_F_CTRL_RX_EXTRA, VIRTIO_NET_F_CTRL_VLAN, VIRTIO_NET_F_CTRL_VQ,
    VIRTIO_NET_F_MAC, VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU,
    VIRTIO_NET_F_STATUS,
};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use crate::datapath::offload::feature;

/// VHOST_F_LOG_ALL: writes to the guest's memory are marked in the dirty log.
pub const LOG_ALL: u64 = VhostUserVirtioFeatures::LOG_ALL.bits();
/// VIRTIO_F_RING_PACKED: rings are packed (virtio 1.2, 2.8).
pub const RING_PACKED: u64 = 1 << VIRTIO_F_RING_PACKED;

/// VIRTIO_NET_F_MQ: the driver may use several queue pairs.
pub const MQ: u64 = 1 << VIRTIO_NET_F_MQ;
/// VIRTIO_NET_F_CTRL_VQ: there is a control queue.
pub const CTRL_VQ: u64 = 1 << VIRTIO_NET_F_CTRL_VQ;
/// VIRTIO_NET_F_CTRL_RX: the driver says by the control queue what it wants to receive.
pub const CTRL_RX: u64 = 1 << VIRTIO_NET_F_CTRL_RX;
/// VIRTIO_NET_F_CTRL_RX_EXTRA: the same, in more ways.
pub const CTRL_RX_EXTRA: u64 = 1 << VIRTIO_NET_F_CTRL_RX_EXTRA;
/// VIRTIO_NET_F_CTRL_VLAN: the same, for VLANs.
pub const CTRL_VLAN: u64 = 1 << VIRTIO_NET_F_CTRL_VLAN;

/// Features that a control queue brings. VIRTIO_NET_F_CTRL_MAC_ADDR is not among them: a card's
/// address is the link's to say.
const CONTROL: u64 = CTRL_VQ | CTRL_RX | CTRL_RX_EXTRA | CTRL_VLAN;

/// Forms of rings, and whether the packet path has them.
const RING_FORMS: [(u32, bool); 5] = [
    (VIRTIO_RING_F_INDIRECT_DESC, true),
    (VIRTIO_RING_F_EVENT_IDX, true),
    (VIRTIO_F_ANY_LAYOUT, true),
    (VIRTIO_F_RING_PACKED, true),
    (VIRTIO_F_IN_ORDER, true),
];

/// Offloads that the link takes from a driver, and those it leaves to one. What one end gives and
/// the other does not take, the link does itself.
const OFFLOADS: u64 = feature::CSUM
    | feature::GUEST_CSUM
    | feature::GUEST_TSO4
    | feature::GUEST_TSO6
    | feature::GUEST_ECN
    | feature::GUEST_USO4
    | feature::GUEST_USO6
    | feature::HOST_TSO4
    | feature::HOST_TSO6
    | feature::HOST_ECN
    | feature::HOST_USO;

/// The features of every end.
const FEATURES: u64 = 1 << VIRTIO_NET_F_MTU
    | 1 << VIRTIO_NET_F_MAC
    | 1 << VIRTIO_NET_F_MRG_RXBUF
    | 1 << VIRTIO_NET_F_STATUS
    | OFFLOADS
    | LOG_ALL
    | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    | 1 << VIRTIO_F_VERSION_1
    | ring_forms();

/// Features offered at an end with this many queue pairs. With several, the driver says by the
/// control queue how many it uses. cloud-hypervisor and QEMU serve that queue themselves; crosvm
/// passes it on.
pub const fn features(queue_pairs: usize) -> u64 {
    if queue_pairs > 1 { FEATURES | MQ | CONTROL } else { FEATURES }
}

/// Rings of a device with this many queue pairs (virtio 1.2, 5.1.2).
pub const fn rings(queue_pairs: usize) -> usize {
    if queue_pairs > 1 { 2 * queue_pairs + 1 } else { 2 }
}

/// Index of the control queue, if these features were negotiated.
pub const fn control_queue(features: u64, queue_pairs: usize) -> Option<usize> {
    if features & CTRL_VQ == 0 { None } else { Some(2 * pairs(features, queue_pairs)) }
}

/// Queue pairs in use at most with these features.
pub const fn pairs(features: u64, queue_pairs: usize) -> usize {
    if features & MQ == 0 { 1 } else { queue_pairs }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t51_control_queue_follows_the_pairs_in_use() {
        assert_eq!(control_queue(MQ, 4), None);
        assert_eq!(control_queue(MQ | CTRL_VQ, 4), Some(8));
        assert_eq!(control_queue(MQ | CTRL_VQ, 8), Some(16));
        assert_eq!(control_queue(CTRL_VQ, 4), Some(2));
        assert_eq!((rings(1), rings(2), rings(8)), (2, 5, 17));
    }

    #[test]
    fn one_pair_offers_neither_multiqueue_nor_control_queue() {
        assert_eq!(features(1) & (MQ | CONTROL), 0);
        assert_eq!(features(2), features(1) | MQ | CONTROL);
    }
}
