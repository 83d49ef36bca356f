//! What a frontend may say about the size and place of rings.

use vhost::vhost_user::message::FrontendReq;
use zerocopy::native_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::message::Message;
use super::refusal::Refusal;
use crate::datapath::MAX_RING_SIZE;

/// Bits of a packed ring's index that are the index; the one above is the wrap counter.
const PACKED_INDEX: u16 = 0x7fff;
/// Flags of SET_VRING_ADDR: VHOST_VRING_F_LOG, the used ring is logged. It is whenever logging is
/// on, by the address it has for the guest, so the flag and the address beside it tell nothing.
const KNOWN_FLAGS: u32 = 1;

/// The body of SET_VRING_ADDR.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RingAddresses {
    index: U32,
    flags: U32,
    descriptors: U64,
    used: U64,
    available: U64,
    log: U64,
}

/// Size and base of one ring as far as they are known. The worker reads a packed ring at its base,
/// so the base must be in the ring.
#[derive(Clone, Copy, Debug, Default)]
pub struct RingRules {
    size: Option<u16>,
    packed_base: Option<u16>,
}

impl RingRules {
    /// SET_VRING_NUM.
    pub fn set_size(&mut self, size: u32) -> Result<(), Refusal> {
        let fits = u16::try_from(size)
            .ok()
            .filter(|size| size.is_power_of_two() && *size <= MAX_RING_SIZE);
        self.size = Some(fits.ok_or(Refusal::RingSize(size))?);
        self.check_base()
    }

    /// SET_VRING_BASE. Returns the 16 bits that the library gets.
    ///
    /// For a split ring that is the next entry of the available ring. For a packed ring the number
    /// has two halves, each with its wrap counter in the highest bit: bits 0 to 15 are where the
    /// device reads next, bits 16 to 31 where it writes next (vhost-user, "Vring descriptor indices
    /// for packed virtqueues"). A link uses all it has read before it stops, and so do DPDK and
    /// QEMU's own devices: both halves are equal. If they are not, what was read and not used is
    /// read again, so the second counts.
    ///
    /// Frontends that know 16 bits only (those on the vhost crate) leave it zero. Zero is a place
    /// too, slot 0 in an even lap. But then an equal first half is zero as well, and it makes no
    /// difference; and a first half that differs is more likely to be from such a frontend than
    /// from a device that stopped in between.
    ///
    /// A base may be out of date: see `docs/adr/0007-rings-of-our-own.md`.
    pub fn set_base(&mut self, base: u32, packed: bool) -> Result<u16, Refusal> {
        if !packed {
            self.packed_base = None;
            return u16::try_from(base).map_err(|_| Refusal::RingBase(base));
        }
        let [low0, low1, high0, high1] = base.to_le_bytes();
        let base = match u16::from_le_bytes([high0, high1]) {
            0 => u16::from_le_bytes([low0, low1]),
            used => used,
        };
        self.packed_base = Some(base);
        self.check_base()?;
        Ok(base)
    }

    fn check_base(&self) -> Result<(), Refusal> {
        match (self.size, self.packed_base) {
            (Some(size), Some(base)) if base & PACKED_INDEX >= size => {
                Err(Refusal::PackedBase { base, size })
            }
            _ => Ok(()),
        }
    }
}

/// Checks the addresses of a ring in the frontend; whether they are mapped, the library sees.
pub fn check_addresses(message: &Message, packed: bool) -> Result<(), Refusal> {
    let request = FrontendReq::SET_VRING_ADDR;
    let addresses = RingAddresses::read_from_bytes(&message.body)
        .map_err(|_| Refusal::Size { request, len: message.body.len() })?;
    let flags = addresses.flags.get();
    if flags & !KNOWN_FLAGS != 0 {
        return Err(Refusal::RingFlags(flags));
    }
    // Descriptors, driver area, device area (virtio 1.2, 2.7 and 2.8.10.1).
    let alignments = if packed { [16, 4, 4] } else { [16, 2, 4] };
    let areas = [addresses.descriptors, addresses.available, addresses.used];
    for (address, alignment) in areas.into_iter().zip(alignments) {
        if address.get() % alignment != 0 {
            return Err(Refusal::RingMisaligned { address: address.get(), alignment });
        }
    }
    Ok(())
}

/// The reply to GET_VRING_BASE for a packed ring: the library's 16 bits in both halves.
pub fn double_base(reply: &mut Message) {
    if let Some((index, base)) = reply.ring_state() {
        let base = base & u32::from(u16::MAX);
        reply.body = [index, base | base << 16].map(u32::to_ne_bytes).concat();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t53_base_of_a_split_ring_has_16_bits() {
        let mut ring = RingRules::default();
        ring.set_size(256).unwrap();
        assert_eq!(ring.set_base(0xffff, false).unwrap(), 0xffff);
        for base in [0x1_0000, 0x8000_8000, u32::MAX] {
            assert!(matches!(ring.set_base(base, false), Err(Refusal::RingBase(_))));
        }
    }

    #[test]
    fn t53_base_of_a_packed_ring_is_its_used_half() {
        let mut ring = RingRules::default();
        ring.set_size(256).unwrap();
        // New, both wrap counters 1; stopped in its midst; ahead of what was used; 16 bits only.
        for (given, expected) in [
            (0x8000_8000, 0x8000),
            (0x0011_0011, 0x0011),
            (0x80ff_0003, 0x80ff),
            (0x8005, 0x8005),
            (0, 0),
        ] {
            assert_eq!(ring.set_base(given, true).unwrap(), expected, "{given:#x}");
        }
    }

    #[test]
    fn t35_t53_base_outside_a_packed_ring_is_refused_in_either_order() {
        for base in [256, 0x8100, 0x0100_0000, 0xffff_0000, 0x8100_8000] {
            let mut ring = RingRules::default();
            ring.set_size(256).unwrap();
            assert!(matches!(ring.set_base(base, true), Err(Refusal::PackedBase { .. })));
            let mut ring = RingRules::default();
            ring.set_base(base, true).unwrap();
            assert!(matches!(ring.set_size(256), Err(Refusal::PackedBase { .. })));
        }
    }

    #[test]
    fn t35_size_of_a_packed_ring_is_a_power_of_two_too() {
        for size in [0, 3, 100, 32769, 0x1_0008, u32::MAX] {
            let result = RingRules::default().set_size(size);
            assert!(matches!(result, Err(Refusal::RingSize(refused)) if refused == size));
        }
    }

    fn addresses(flags: u32, [descriptors, used, available]: [u64; 3]) -> Message {
        let numbers = [descriptors, used, available, 0].map(u64::to_ne_bytes).concat();
        let body = [[0, flags].map(u32::to_ne_bytes).concat(), numbers].concat();
        Message::new(FrontendReq::SET_VRING_ADDR, body)
    }

    #[test]
    fn t52_misaligned_areas_are_refused() {
        let check = |areas, packed| check_addresses(&addresses(0, areas), packed);
        for packed in [false, true] {
            assert!(check([0x10, 4, 8], packed).is_ok());
            assert!(check([8, 4, 8], packed).is_err());
            assert!(check([0x10, 2, 8], packed).is_err());
            assert!(check([0x10, 4, 7], packed).is_err());
        }
        assert!(check([0x10, 4, 6], false).is_ok());
        assert!(check([0x10, 4, 6], true).is_err(), "event suppression areas are 4-byte aligned");
    }

    #[test]
    fn t52_unknown_flags_are_refused() {
        assert!(check_addresses(&addresses(1, [0, 0, 0]), false).is_ok());
        for flags in [2, 3, 1 << 31] {
            let result = check_addresses(&addresses(flags, [0, 0, 0]), false);
            assert!(matches!(result, Err(Refusal::RingFlags(found)) if found == flags));
        }
    }

    #[test]
    fn reply_has_the_base_of_a_packed_ring_twice() {
        let body = [7_u32, 0x8011].map(u32::to_ne_bytes).concat();
        let mut reply = Message::new(FrontendReq::GET_VRING_BASE, body);
        double_base(&mut reply);
        assert_eq!(reply.ring_state(), Some((7, 0x8011_8011)));
    }
}
