//! Commands of the control queue (virtio 1.2, 5.1.6.5), answered by rule.
//!
//! A link carries the frames of one card and no others, whatever the driver asks for. So wishes
//! about what to receive are granted and change nothing: they are about the driver's own filter,
//! and a device may always pass more than was asked for. What would change whose card it is is
//! refused.

use virtio_bindings::virtio_net::{
    VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, VIRTIO_NET_CTRL_MAC,
    VIRTIO_NET_CTRL_MAC_TABLE_SET, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET,
    VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, VIRTIO_NET_CTRL_RX_ALLUNI,
    VIRTIO_NET_CTRL_RX_NOBCAST, VIRTIO_NET_CTRL_RX_PROMISC, VIRTIO_NET_CTRL_VLAN,
    VIRTIO_NET_CTRL_VLAN_ADD, VIRTIO_NET_CTRL_VLAN_DEL, VIRTIO_NET_F_GUEST_ANNOUNCE,
};

use super::features::{CTRL_RX, CTRL_RX_EXTRA, CTRL_VLAN, MQ};

/// Longest command looked at, bytes: room for some 1300 MAC addresses. A longer one is refused.
pub const MAX_COMMAND: usize = 8192;
/// Largest VLAN id, and so the last bit of a VLAN filter.
const MAX_VLAN: u16 = 4095;
/// Bytes of a MAC address.
const MAC_LEN: usize = 6;

/// What becomes of a command that is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granted {
    /// Nothing.
    Noted,
    /// The driver uses this many queue pairs from now on.
    Pairs(usize),
}

/// Answers a command: class, command and data, without the byte for the answer. `None` is
/// VIRTIO_NET_ERR.
pub fn answer(features: u64, queue_pairs: usize, command: &[u8]) -> Option<Granted> {
    let [class, code, data @ ..] = command else {
        return None;
    };
    let granted = |is_good: bool| is_good.then_some(Granted::Noted);
    let has = |feature| features & feature != 0;
    match (u32::from(*class), u32::from(*code)) {
        (VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC..=VIRTIO_NET_CTRL_RX_ALLMULTI) => {
            granted(has(CTRL_RX) && is_switch(data))
        }
        (VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLUNI..=VIRTIO_NET_CTRL_RX_NOBCAST) => {
            granted(has(CTRL_RX_EXTRA) && is_switch(data))
        }
        (VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET) => {
            // Unicast addresses, then multicast ones.
            let rest = table(data).and_then(table);
            granted(has(CTRL_RX) && rest.is_some_and(<[u8]>::is_empty))
        }
        (VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD | VIRTIO_NET_CTRL_VLAN_DEL) => {
            granted(has(CTRL_VLAN) && number(data).is_some_and(|id| id <= MAX_VLAN))
        }
        (VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK) => {
            granted(has(1 << VIRTIO_NET_F_GUEST_ANNOUNCE) && data.is_empty())
        }
        (VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET) if has(MQ) => {
            let pairs = usize::from(number(data)?);
            (1..=queue_pairs).contains(&pairs).then_some(Granted::Pairs(pairs))
        }
        _ => None,
    }
}

/// Whether data is one byte that says on or off.
const fn is_switch(data: &[u8]) -> bool {
    matches!(data, [0 | 1])
}

/// Data that is a 16-bit number.
fn number(data: &[u8]) -> Option<u16> {
    data.try_into().ok().map(u16::from_le_bytes)
}

/// What follows a table of MAC addresses with its length in front.
fn table(data: &[u8]) -> Option<&[u8]> {
    let (len, rest) = data.split_first_chunk()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
    rest.get(len.checked_mul(MAC_LEN)?..)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = CTRL_RX | CTRL_RX_EXTRA | CTRL_VLAN | MQ | 1 << VIRTIO_NET_F_GUEST_ANNOUNCE;

    fn granted(command: &[u8]) -> Option<Granted> {
        answer(ALL, 4, command)
    }

    /// A table of `len` addresses of which `present` are there.
    fn addresses(len: u32, present: usize) -> Vec<u8> {
        [len.to_le_bytes().as_slice(), &vec![0x55; 6 * present]].concat()
    }

    #[test]
    fn wishes_about_the_own_filter_are_granted() {
        for code in 0..6 {
            for value in [0, 1] {
                assert_eq!(granted(&[0, code, value]), Some(Granted::Noted));
            }
        }
        let table = [vec![1, 0], addresses(3, 3), addresses(2, 2)].concat();
        assert_eq!(granted(&table), Some(Granted::Noted));
        assert_eq!(granted(&[2, 0, 0xff, 0x0f]), Some(Granted::Noted));
        assert_eq!(granted(&[2, 1, 0, 0]), Some(Granted::Noted));
        assert_eq!(granted(&[3, 0]), Some(Granted::Noted));
    }

    #[test]
    fn t51_pairs_are_from_one_to_those_there_are() {
        for pairs in 1..=4 {
            assert_eq!(granted(&[4, 0, pairs, 0]), Some(Granted::Pairs(pairs.into())));
        }
        for pairs in [[0, 0], [5, 0], [0, 1], [1, 0x80], [0xff, 0xff]] {
            assert_eq!(granted(&[4, 0, pairs[0], pairs[1]]), None);
        }
    }

    #[test]
    fn t64_mac_address_is_not_the_drivers_to_change() {
        assert_eq!(granted(&[1, 1, 2, 3, 4, 5, 6, 7]), None);
    }

    #[test]
    fn vlan_above_4095_is_refused() {
        for id in [4096_u16, 0x7fff, 0xffff] {
            let [low, high] = id.to_le_bytes();
            assert_eq!(granted(&[2, 0, low, high]), None);
            assert_eq!(granted(&[2, 1, low, high]), None);
        }
    }

    #[test]
    fn t16_tables_that_lie_about_their_length_are_refused() {
        for (unicast, multicast) in [
            (addresses(2, 1), addresses(0, 0)),
            (addresses(1, 1), addresses(1, 2)),
            (addresses(u32::MAX, 1), addresses(0, 0)),
            (addresses(u32::MAX / 6 + 1, 1), addresses(0, 0)),
            (addresses(0, 0), addresses(0x8000_0000, 0)),
            (addresses(0, 0), vec![]),
            (vec![1, 0, 0], vec![]),
        ] {
            assert_eq!(granted(&[vec![1, 0], unicast, multicast].concat()), None);
        }
    }

    #[test]
    fn commands_that_are_none_are_refused() {
        let commands: [&[u8]; 12] = [
            &[],
            &[0],
            &[0, 0],
            &[0, 0, 2],
            &[0, 0, 1, 0],
            &[0, 6, 1],
            &[2, 0, 1],
            &[3, 0, 0],
            &[3, 1],
            &[4, 0, 1],
            &[4, 1, 1, 0],
            &[0xff, 0xff, 0xff],
        ];
        for command in commands {
            assert_eq!(granted(command), None, "{command:?}");
        }
    }

    #[test]
    fn each_command_needs_its_feature() {
        for (command, feature) in [
            (vec![0, 0, 1], CTRL_RX),
            (vec![0, 2, 1], CTRL_RX_EXTRA),
            ([vec![1, 0], addresses(0, 0), addresses(0, 0)].concat(), CTRL_RX),
            (vec![2, 0, 1, 0], CTRL_VLAN),
            (vec![3, 0], 1 << VIRTIO_NET_F_GUEST_ANNOUNCE),
            (vec![4, 0, 1, 0], MQ),
        ] {
            assert!(answer(feature, 4, &command).is_some());
            assert!(answer(ALL & !feature, 4, &command).is_none());
        }
    }
}
