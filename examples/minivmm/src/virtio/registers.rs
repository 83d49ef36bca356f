//! What a virtio driver and its device agree on: the common configuration (virtio 1.2, 4.1.4.3).

/// Length of the structure in bytes.
pub const LENGTH: u8 = 0x38;
/// Queues: one receives, one transmits.
pub const QUEUES: usize = 2;
/// The same as a register.
const QUEUE_COUNT: u16 = 2;
/// Entries of a ring at most; a power of two.
const MOST_ENTRIES: u16 = 1024;
/// "No vector": the driver wants no interrupt.
pub const NO_VECTOR: u16 = 0xffff;

/// Bits of the device's status (virtio 1.2, 2.1).
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
const NEEDS_RESET: u8 = 64;
/// The device keeps to virtio 1.0 and later; nothing else is spoken here.
const VERSION_1: u64 = 1 << 32;

/// A ring as the driver described it: guest addresses that nobody has checked.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    /// Entries, a power of two.
    pub size: u16,
    /// MSI-X vector of its interrupts, or [`NO_VECTOR`].
    pub vector: u16,
    /// It may be used once the driver is ready.
    pub enabled: bool,
    /// Descriptor table.
    pub descriptors: u64,
    /// Available ring.
    pub driver: u64,
    /// Used ring.
    pub device: u64,
}

const UNSET: Queue = Queue {
    size: MOST_ENTRIES,
    vector: NO_VECTOR,
    enabled: false,
    descriptors: 0,
    driver: 0,
    device: 0,
};

/// What a write changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The driver is ready: frames may flow.
    Start,
    /// The driver reset the device: nothing may be touched any more when the write is done.
    Stop,
}

/// The registers.
#[derive(Debug)]
pub struct Registers {
    offered: u64,
    offered_select: u32,
    accepted: u64,
    accepted_select: u32,
    config_vector: u16,
    status: u8,
    selected: u16,
    queues: [Queue; QUEUES],
}

impl Registers {
    /// Registers of a device that offers these features.
    pub fn new(offered: u64) -> Self {
        Self {
            offered,
            offered_select: 0,
            accepted: 0,
            accepted_select: 0,
            config_vector: NO_VECTOR,
            status: 0,
            selected: 0,
            queues: [UNSET; QUEUES],
        }
    }

    /// What the driver accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// The rings.
    pub fn queues(&self) -> &[Queue; QUEUES] {
        &self.queues
    }

    /// MSI-X vector of changes of the configuration, or [`NO_VECTOR`].
    pub fn config_vector(&self) -> u16 {
        self.config_vector
    }

    /// Whether the driver is at work, and nothing it said was nonsense.
    pub fn running(&self) -> bool {
        self.status & (DRIVER_OK | NEEDS_RESET) == DRIVER_OK
    }

    /// Says that nothing works until the driver resets the device.
    pub fn need_reset(&mut self) {
        self.status |= NEEDS_RESET;
    }

    /// The structure's bytes as they read now.
    pub fn bytes(&self) -> [u8; LENGTH as usize] {
        // A queue that does not exist has no entries.
        let queue = self.queues.get(usize::from(self.selected));
        let queue = queue.copied().unwrap_or(Queue { size: 0, ..UNSET });
        let mut bytes = [0; LENGTH as usize];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0x00, &self.offered_select.to_le_bytes());
        put(0x04, &half(self.offered, self.offered_select));
        put(0x08, &self.accepted_select.to_le_bytes());
        put(0x0c, &half(self.accepted, self.accepted_select));
        put(0x10, &self.config_vector.to_le_bytes());
        put(0x12, &QUEUE_COUNT.to_le_bytes());
        put(0x14, &[self.status]);
        put(0x16, &self.selected.to_le_bytes());
        put(0x18, &queue.size.to_le_bytes());
        put(0x1a, &queue.vector.to_le_bytes());
        put(0x1c, &u16::from(queue.enabled).to_le_bytes());
        // Each queue has a notification address of its own.
        put(0x1e, &self.selected.to_le_bytes());
        put(0x20, &queue.descriptors.to_le_bytes());
        put(0x28, &queue.driver.to_le_bytes());
        put(0x30, &queue.device.to_le_bytes());
        bytes
    }

    /// A driver writes one field, or half of one that has 64 bits. What makes no sense is dropped.
    pub fn write(&mut self, offset: usize, data: &[u8]) -> Option<Change> {
        // The field's other bytes stay as they are.
        let mut bytes = self.bytes();
        bytes.get_mut(offset..offset.checked_add(data.len())?)?.copy_from_slice(data);
        let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let long = |at: usize| u32::from(word(at)) | u32::from(word(at + 2)) << 16;
        let address = |at: usize| u64::from(long(at)) | u64::from(long(at + 4)) << 32;
        match offset {
            0x00 => self.offered_select = long(0x00),
            0x08 => self.accepted_select = long(0x08),
            0x0c if self.accepted_select < 2 && self.status & FEATURES_OK == 0 => {
                let shift = 32 * self.accepted_select;
                let other = self.accepted & !(u64::from(u32::MAX) << shift);
                self.accepted = other | u64::from(long(0x0c)) << shift;
            }
            0x10 => self.config_vector = word(0x10),
            0x14 => return self.set_status(bytes[0x14]),
            0x16 => self.selected = word(0x16),
            _ => {
                let running = self.running();
                let queue = self.queues.get_mut(usize::from(self.selected))?;
                let size = word(0x18);
                match offset {
                    0x1a => queue.vector = word(0x1a),
                    // A ring does not move while it is in use.
                    _ if running || queue.enabled => {}
                    0x18 if size.is_power_of_two() && size <= MOST_ENTRIES => queue.size = size,
                    0x1c => queue.enabled = word(0x1c) == 1,
                    0x20 | 0x24 => queue.descriptors = address(0x20),
                    0x28 | 0x2c => queue.driver = address(0x28),
                    0x30 | 0x34 => queue.device = address(0x30),
                    _ => {}
                }
            }
        }
        None
    }

    fn set_status(&mut self, status: u8) -> Option<Change> {
        if status == 0 {
            *self = Self::new(self.offered);
            return Some(Change::Stop);
        }
        let before = self.status;
        self.status = status | before & NEEDS_RESET;
        let agreed = self.accepted & !self.offered == 0 && self.accepted & VERSION_1 != 0;
        if !agreed {
            self.status &= !(FEATURES_OK | DRIVER_OK);
        }
        (self.status & !before & DRIVER_OK != 0).then_some(Change::Start)
    }
}

/// The lower or the upper four bytes; there are no more features.
fn half(features: u64, select: u32) -> [u8; 4] {
    let [a, b, c, d, e, f, g, h] = features.to_le_bytes();
    match select {
        0 => [a, b, c, d],
        1 => [e, f, g, h],
        _ => [0; 4],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERED: u64 = VERSION_1 | 1 << 5;

    fn accept(registers: &mut Registers, features: u64) {
        for select in [0, 1] {
            assert_eq!(registers.write(0x08, &u32::to_le_bytes(select)), None);
            let half = u32::try_from(features >> (32 * select) & 0xffff_ffff).unwrap();
            assert_eq!(registers.write(0x0c, &half.to_le_bytes()), None);
        }
    }

    fn status(registers: &Registers) -> u8 {
        registers.bytes()[0x14]
    }

    #[test]
    fn driver_that_accepts_what_is_offered_starts_and_stops() {
        let mut registers = Registers::new(OFFERED);
        accept(&mut registers, OFFERED);
        assert_eq!(registers.write(0x14, &[3 | FEATURES_OK]), None);
        assert_eq!(status(&registers) & FEATURES_OK, FEATURES_OK);
        assert_eq!(registers.write(0x14, &[3 | FEATURES_OK | DRIVER_OK]), Some(Change::Start));
        assert_eq!(registers.write(0x14, &[3 | FEATURES_OK | DRIVER_OK]), None);
        assert_eq!(registers.write(0x14, &[0]), Some(Change::Stop));
        assert_eq!((registers.accepted(), status(&registers)), (0, 0));
    }

    #[test]
    fn driver_that_accepts_what_is_not_offered_never_starts() {
        for features in [OFFERED | 1 << 6, OFFERED & !VERSION_1] {
            let mut registers = Registers::new(OFFERED);
            accept(&mut registers, features);
            assert_eq!(registers.write(0x14, &[3 | FEATURES_OK | DRIVER_OK]), None);
            assert_eq!(status(&registers), 3);
        }
    }

    #[test]
    fn queue_keeps_its_place_while_it_is_enabled() {
        let mut registers = Registers::new(OFFERED);
        registers.write(0x16, &[1, 0]);
        registers.write(0x18, &300_u16.to_le_bytes());
        registers.write(0x18, &256_u16.to_le_bytes());
        registers.write(0x20, &0x1000_u32.to_le_bytes());
        registers.write(0x24, &0x2_u32.to_le_bytes());
        registers.write(0x1c, &[1, 0]);
        registers.write(0x20, &0x9000_u32.to_le_bytes());
        let queue = registers.queues()[1];
        assert_eq!((queue.size, queue.descriptors, queue.enabled), (256, 0x2_0000_1000, true));
        registers.write(0x16, &[2, 0]);
        assert_eq!(registers.bytes()[0x18..0x1a], [0, 0], "there is no queue 2");
    }

    #[test]
    fn writes_of_any_place_and_width_are_taken() {
        let mut registers = Registers::new(OFFERED);
        for offset in 0..0x40 {
            for width in 0..10 {
                registers.write(offset, &vec![0xff; width]);
            }
        }
        assert_eq!(registers.bytes().len(), 0x38);
    }
}
