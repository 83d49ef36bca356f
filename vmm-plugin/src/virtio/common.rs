//! What a virtio driver and its device agree on: the common configuration (virtio 1.2, 4.1.4.3).

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Length of the structure in bytes.
pub const LENGTH: u8 = 0x38;
/// "No vector": the driver wants no interrupt.
const NO_VECTOR: U16 = U16::new(0xffff);

/// Where the driver writes the device's status, and the bits of that (virtio 1.2, 2.1).
const STATUS: usize = 0x14;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
const NEEDS_RESET: u8 = 64;
/// The device keeps to virtio 1.0 and later; nothing else is spoken here.
const VERSION_1: u64 = 1 << 32;

/// A ring as the driver described it: guest addresses that nobody has checked.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Queue {
    /// Entries, a power of two.
    pub size: U16,
    /// MSI-X vector of its interrupts, or 0xffff for none.
    pub vector: U16,
    /// 1: it may be used once the driver is ready.
    pub enabled: U16,
    /// The number of its notification address, which is its own.
    notification: U16,
    /// Descriptor table.
    pub descriptors: U64,
    /// Available ring.
    pub driver: U64,
    /// Used ring.
    pub device: U64,
}

/// The structure as it is read.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Common {
    offered_select: U32,
    offered: U32,
    accepted_select: U32,
    accepted: U32,
    config_vector: U16,
    queues: U16,
    status: u8,
    generation: u8,
    selected: U16,
    queue: Queue,
}

/// What a write changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The driver is ready: frames may flow.
    Start,
    /// The driver reset the device: nothing may be touched any more when the write is done.
    Stop,
}

/// The common configuration of a card: what its driver and it agree on.
///
/// A driver is hostile: whatever it writes, and however, is taken or dropped.
#[derive(Debug)]
pub struct CommonConfiguration {
    offered: u64,
    accepted: u64,
    most_entries: u16,
    queues: Vec<Queue>,
    shown: Common,
}

impl CommonConfiguration {
    /// Of a card that offers the features `offered` and has `queues` queues, each with a ring of
    /// `most_entries` at most, a power of two.
    #[must_use]
    pub fn new(offered: u64, queues: u16, most_entries: u16) -> Self {
        let queue = |notification: u16| Queue {
            size: most_entries.into(),
            vector: NO_VECTOR,
            notification: notification.into(),
            ..Queue::default()
        };
        let shown = Common { config_vector: NO_VECTOR, queues: queues.into(), ..Common::default() };
        let queues = (0..queues).map(queue).collect();
        let mut common = Self { offered, accepted: 0, most_entries, queues, shown };
        common.show();
        common
    }

    /// Follows what the driver selected.
    fn show(&mut self) {
        let shown = &mut self.shown;
        shown.offered = half(self.offered, shown.offered_select);
        shown.accepted = half(self.accepted, shown.accepted_select);
        // A queue that does not exist has no entries.
        let queue = self.queues.get(usize::from(shown.selected)).copied();
        shown.queue = queue.unwrap_or_default();
    }

    /// What the driver accepted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// The rings that may be used when the driver is at work, with their numbers.
    pub fn enabled(&self) -> impl Iterator<Item = (usize, &Queue)> {
        self.queues.iter().enumerate().filter(|(_, queue)| queue.enabled == 1)
    }

    /// MSI-X vector of changes of the configuration, or one that there is not.
    #[must_use]
    pub fn config_vector(&self) -> u16 {
        self.shown.config_vector.get()
    }

    /// Whether the driver is at work, and nothing it said was nonsense.
    #[must_use]
    pub fn running(&self) -> bool {
        self.shown.status & (DRIVER_OK | NEEDS_RESET) == DRIVER_OK
    }

    /// Says that nothing works until the driver resets the device.
    pub fn need_reset(&mut self) {
        self.shown.status |= NEEDS_RESET;
    }

    /// The structure's bytes as they read now.
    #[must_use]
    pub fn bytes(&self) -> [u8; LENGTH as usize] {
        zerocopy::transmute!(self.shown)
    }

    /// A driver writes one field, or half of one that has 64 bits. What makes no sense is dropped.
    pub fn write(&mut self, offset: usize, data: &[u8]) -> Option<Change> {
        // The field's other bytes, and all other fields, stay as they are.
        let mut bytes = self.bytes();
        bytes.get_mut(offset..offset.checked_add(data.len())?)?.copy_from_slice(data);
        let (old, new): (_, Common) = (self.shown, zerocopy::transmute!(bytes));
        if offset == STATUS {
            return self.set_status(new.status);
        }
        if old.accepted_select < 2 && old.status & FEATURES_OK == 0 {
            let shift = 32 * old.accepted_select.get();
            let other = self.accepted & !(u64::from(u32::MAX) << shift);
            self.accepted = other | u64::from(new.accepted) << shift;
        }
        let running = self.running();
        let most = self.most_entries;
        if let Some(queue) = self.queues.get_mut(usize::from(old.selected)) {
            queue.vector = new.queue.vector;
            let size = new.queue.size.get();
            // A ring does not move while it is in use.
            if !running && queue.enabled == 0 && size.is_power_of_two() && size <= most {
                *queue = Queue { notification: queue.notification, ..new.queue };
            }
        }
        let Common { offered_select, accepted_select, config_vector, selected, .. } = new;
        self.shown = Common { offered_select, accepted_select, config_vector, selected, ..old };
        self.show();
        None
    }

    /// As after power came: for a reset of the card.
    pub fn reset(&mut self) {
        let queues = self.shown.queues.get();
        *self = Self::new(self.offered, queues, self.most_entries);
    }

    fn set_status(&mut self, status: u8) -> Option<Change> {
        if status == 0 {
            self.reset();
            return Some(Change::Stop);
        }
        let before = self.shown.status;
        self.shown.status = status | before & NEEDS_RESET;
        let agreed = self.accepted & !self.offered == 0 && self.accepted & VERSION_1 != 0;
        if !agreed {
            self.shown.status &= !(FEATURES_OK | DRIVER_OK);
        }
        (self.shown.status & !before & DRIVER_OK != 0).then_some(Change::Start)
    }
}

/// The lower or the upper half; there are no more features.
fn half(features: u64, select: U32) -> U32 {
    let [lower, upper]: [U32; 2] = zerocopy::transmute!(U64::new(features));
    match select.get() {
        0 => lower,
        1 => upper,
        _ => U32::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERED: u64 = VERSION_1 | 1 << 5;

    /// The status after a driver accepted `features` and said that it is ready, and the change.
    fn ready(common: &mut CommonConfiguration, features: u64) -> (u8, Option<Change>) {
        for (select, half) in [0_u32, 1].into_iter().zip(features.to_le_bytes().chunks(4)) {
            assert_eq!(common.write(0x08, &select.to_le_bytes()), None);
            assert_eq!(common.write(0x0c, half), None);
        }
        let change = common.write(STATUS, &[3 | FEATURES_OK | DRIVER_OK]);
        (common.bytes()[STATUS], change)
    }

    #[test]
    fn driver_starts_if_it_accepts_what_is_offered() {
        for (features, status, change) in [
            (OFFERED, 3 | FEATURES_OK | DRIVER_OK, Some(Change::Start)),
            (OFFERED | 1 << 6, 3, None),
            (OFFERED & !VERSION_1, 3, None),
        ] {
            let mut common = CommonConfiguration::new(OFFERED, 2, 1024);
            assert_eq!(ready(&mut common, features), (status, change), "{features:#x}");
            assert_eq!(common.write(STATUS, &[0]), Some(Change::Stop));
            assert_eq!((common.accepted(), common.bytes()[STATUS]), (0, 0));
        }
    }

    #[test]
    fn queue_keeps_its_place_while_it_is_enabled() {
        let mut common = CommonConfiguration::new(OFFERED, 2, 1024);
        common.write(0x16, &[1, 0]);
        common.write(0x18, &300_u16.to_le_bytes());
        common.write(0x18, &256_u16.to_le_bytes());
        common.write(0x20, &0x1000_u32.to_le_bytes());
        common.write(0x24, &0x2_u32.to_le_bytes());
        common.write(0x1c, &[1, 0]);
        common.write(0x20, &0x9000_u32.to_le_bytes());
        let (number, queue) = common.enabled().next().unwrap();
        assert_eq!((number, queue.size.get(), queue.descriptors.get()), (1, 256, 0x2_0000_1000));
        common.write(0x16, &[2, 0]);
        assert_eq!(common.bytes()[0x18..0x1a], [0, 0], "there is no queue 2");
    }

    #[test]
    fn writes_of_any_place_and_width_are_taken() {
        let mut common = CommonConfiguration::new(OFFERED, 2, 1024);
        for offset in 0..0x40 {
            for width in 0..10 {
                common.write(offset, &vec![0xff; width]);
            }
        }
        assert!(!common.running());
    }
}
