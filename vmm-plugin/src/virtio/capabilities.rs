//! Where a card's structures are: the image of its configuration space (virtio 1.2, 4.1.2 to 4.1.4).

use super::common;

/// Virtio's vendor ID, and the number of the first device type's device ID.
const VENDOR: u16 = 0x1af4;
const FIRST_DEVICE: u16 = 0x1040;
/// The kinds of structures (4.1.4), and the capability IDs of all of them and of MSI-X.
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const ISR: u8 = 3;
const DEVICE: u8 = 4;
const STRUCTURE: u8 = 0x09;
const MSIX: u8 = 0x11;

/// A card whose structures are in BAR 0, a page each, and whose MSI-X is in BAR 1.
///
/// The window into BARs through configuration space (4.1.4.9) is for firmware; there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Card {
    /// Device type (5): 1 is a network card.
    pub device_type: u16,
    /// Class and subclass (PCI code and ID assignment specification 1.11, 1).
    pub class: [u8; 2],
    /// Bytes of device configuration, at [`Card::DEVICE`].
    pub configuration: u32,
    /// MSI-X vectors, 1 to 128.
    pub vectors: u8,
}

impl Card {
    /// Where BAR 0 has the ISR status, of which a driver with MSI-X makes no use. At 0 it has the
    /// [common configuration](super::CommonConfiguration).
    pub const ISR: u32 = 0x1000;
    /// Where BAR 0 has the device configuration.
    pub const DEVICE: u32 = 0x2000;
    /// Where queue 0 is notified in BAR 0.
    pub const NOTIFY: u32 = 0x3000;
    /// From where one queue is notified to where the next one is, in bytes.
    pub const NOTIFY_STRIDE: u32 = 4;
    /// Bytes of BAR 0.
    pub const REGISTERS_SIZE: u64 = 0x4000;
    /// Bytes of BAR 1.
    pub const MSIX_SIZE: u64 = 0x1000;
    /// Where BAR 1 has MSI-X's pending bits, behind the table.
    const PENDING: u32 = 0x800;

    /// Configuration space as a [`Device`](crate::vfio::Device) of the VMM's own shows it.
    #[must_use]
    pub fn config_space(&self) -> [u8; 256] {
        let mut space = [0; 256];
        let mut put = |at: usize, bytes: &[u8]| space[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x00, &VENDOR.to_le_bytes());
        put(0x02, &(FIRST_DEVICE.saturating_add(self.device_type)).to_le_bytes());
        // A list of capabilities; revision 1: virtio 1.0 and nothing older.
        put(0x06, &[0x10, 0, 1]);
        put(0x0a, &[self.class[1], self.class[0]]);
        // The subsystem: virtio's vendor, and any number from 0x40 on.
        put(0x2c, &VENDOR.to_le_bytes());
        put(0x2e, &[0x40]);
        // Kind, place in BAR 0, and what follows: the way from queue to queue.
        let stride = Self::NOTIFY_STRIDE.to_le_bytes();
        let structures: [(u8, u32, u32, &[u8]); 4] = [
            (COMMON, 0, common::LENGTH.into(), &[]),
            (NOTIFY, Self::NOTIFY, 0x1000, &stride),
            (ISR, Self::ISR, 1, &[]),
            (DEVICE, Self::DEVICE, self.configuration, &[]),
        ];
        let mut at = 0x40;
        put(0x34, &[at]);
        for (kind, offset, length, more) in structures {
            let size = if more.is_empty() { 16 } else { 20 };
            let place = usize::from(at);
            put(place, &[STRUCTURE, at + size, size, kind]);
            put(place + 8, &offset.to_le_bytes());
            put(place + 12, &length.to_le_bytes());
            put(place + 16, more);
            at += size;
        }
        // The number of vectors less one, and both of MSI-X's structures in BAR 1.
        let place = usize::from(at);
        put(place, &[MSIX, 0, self.vectors.saturating_sub(1)]);
        put(place + 4, &1_u32.to_le_bytes());
        put(place + 8, &(Self::PENDING | 1).to_le_bytes());
        space
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_a_list_that_ends() {
        let card = Card { device_type: 1, class: [2, 0], configuration: 12, vectors: 3 };
        let space = card.config_space();
        assert_eq!(space[..12], [0xf4, 0x1a, 0x41, 0x10, 0, 0, 0x10, 0, 1, 0, 0, 2]);
        let (mut at, mut found) = (usize::from(space[0x34]), Vec::new());
        while at != 0 {
            found.push((space[at], if space[at] == STRUCTURE { space[at + 3] } else { 0 }));
            at = usize::from(space[at + 1]);
        }
        let structures = [COMMON, NOTIFY, ISR, DEVICE].map(|kind| (STRUCTURE, kind));
        assert_eq!(found[..4], structures);
        assert_eq!(found[4..], [(MSIX, 0)]);
    }
}
