//! [`Bus`] over vm-device's [`IoManager`].

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use vm_device::bus::{
    MmioAddress, MmioAddressOffset, MmioRange, PioAddress, PioAddressOffset, PioRange,
};
use vm_device::device_manager::{IoManager, MmioManager, PioManager};
use vm_device::{DeviceMmio, DevicePio};

use super::{Bus, GuestRange, SeamError, Space, Trap};

/// A VMM's buses: what answers each guest address.
///
/// A guest that moves a BAR changes the buses from inside of an access to them. So an access
/// holds the lock only while it looks its device up, never while the device answers. A device
/// that is removed meanwhile answers one last access.
#[derive(Clone, Default)]
pub struct Buses {
    manager: Arc<RwLock<IoManager>>,
}

impl Buses {
    /// Nothing answers anywhere.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What `manager` has, for instance a VMM's own devices.
    #[must_use]
    pub fn over(manager: IoManager) -> Self {
        Self { manager: Arc::new(RwLock::new(manager)) }
    }

    /// Changes the buses otherwise, as for devices of a VMM's own.
    ///
    /// `change` must not access the buses itself.
    pub fn change<T>(&self, change: impl FnOnce(&mut IoManager) -> T) -> T {
        change(&mut self.manager.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// A vCPU reads guest physical memory: false, and all ones, where nothing answers.
    pub fn mmio_read(&self, address: u64, data: &mut [u8]) -> bool {
        let Some((base, offset, device)) = self.mmio(address, data.len()) else {
            data.fill(0xff);
            return false;
        };
        device.mmio_read(base, offset, data);
        true
    }

    /// A vCPU writes guest physical memory: false where nothing answers.
    pub fn mmio_write(&self, address: u64, data: &[u8]) -> bool {
        let Some((base, offset, device)) = self.mmio(address, data.len()) else { return false };
        device.mmio_write(base, offset, data);
        true
    }

    /// A vCPU reads an I/O port: false, and all ones, where nothing answers.
    pub fn pio_read(&self, port: u16, data: &mut [u8]) -> bool {
        let Some((base, offset, device)) = self.pio(port, data.len()) else {
            data.fill(0xff);
            return false;
        };
        device.pio_read(base, offset, data);
        true
    }

    /// A vCPU writes an I/O port: false where nothing answers.
    pub fn pio_write(&self, port: u16, data: &[u8]) -> bool {
        let Some((base, offset, device)) = self.pio(port, data.len()) else { return false };
        device.pio_write(base, offset, data);
        true
    }

    /// Who answers `length` bytes at `address`: all of them, or nobody.
    fn mmio(
        &self,
        address: u64,
        length: usize,
    ) -> Option<(MmioAddress, MmioAddressOffset, Arc<dyn DeviceMmio + Send + Sync>)> {
        let manager = self.manager.read().unwrap_or_else(PoisonError::into_inner);
        let (range, device) = manager.mmio_device(MmioAddress(address))?;
        let offset = address.checked_sub(range.base().0)?;
        let end = offset.checked_add(u64::try_from(length).ok()?)?;
        (end <= range.size()).then(|| (range.base(), offset, Arc::clone(device)))
    }

    fn pio(
        &self,
        port: u16,
        length: usize,
    ) -> Option<(PioAddress, PioAddressOffset, Arc<dyn DevicePio + Send + Sync>)> {
        let manager = self.manager.read().unwrap_or_else(PoisonError::into_inner);
        let (range, device) = manager.pio_device(PioAddress(port))?;
        let offset = port.checked_sub(range.base().0)?;
        let end = offset.checked_add(u16::try_from(length).ok()?)?;
        (end <= range.size()).then(|| (range.base(), offset, Arc::clone(device)))
    }
}

impl fmt::Debug for Buses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buses").finish_non_exhaustive()
    }
}

impl Bus for Buses {
    fn place(&self, range: GuestRange, trap: Arc<dyn Trap>) -> Result<(), SeamError> {
        let device = Arc::new(Placed(trap));
        let refused = |error: vm_device::bus::Error| {
            SeamError::because(format!("nothing can be placed at {range}"), error.to_string())
        };
        match space(range)? {
            Place::Mmio(mmio) => {
                self.change(|manager| manager.register_mmio(mmio, device)).map_err(refused)
            }
            Place::Pio(pio) => {
                self.change(|manager| manager.register_pio(pio, device)).map_err(refused)
            }
        }
    }

    fn remove(&self, range: GuestRange) -> Result<(), SeamError> {
        let removed = match space(range)? {
            Place::Mmio(mmio) => self.change(|manager| {
                let same = manager.mmio_device(mmio.base()).is_some_and(|(there, _)| {
                    there.base() == mmio.base() && there.size() == mmio.size()
                });
                // Dropped by the caller, after the lock: a device may change the buses then.
                same.then(|| manager.deregister_mmio(mmio.base()))
                    .flatten()
                    .map(|(_, device)| Removed::Mmio(device))
            }),
            Place::Pio(pio) => self.change(|manager| {
                let same = manager.pio_device(pio.base()).is_some_and(|(there, _)| {
                    there.base() == pio.base() && there.size() == pio.size()
                });
                same.then(|| manager.deregister_pio(pio.base()))
                    .flatten()
                    .map(|(_, device)| Removed::Pio(device))
            }),
        };
        removed
            .map(drop)
            .ok_or_else(|| SeamError::new(format!("nothing was placed at exactly {range}")))
    }
}

/// What was on a bus.
#[expect(dead_code, reason = "kept to be dropped")]
enum Removed {
    Mmio(Arc<dyn DeviceMmio + Send + Sync>),
    Pio(Arc<dyn DevicePio + Send + Sync>),
}

/// A range as vm-device has it.
enum Place {
    Mmio(MmioRange),
    Pio(PioRange),
}

fn space(range: GuestRange) -> Result<Place, SeamError> {
    let wrong = || SeamError::new(format!("{range} is not a range of addresses"));
    match range.space {
        Space::Mmio => MmioRange::new(MmioAddress(range.base), range.size)
            .map(Place::Mmio)
            .map_err(|_| wrong()),
        Space::Pio => {
            let base = u16::try_from(range.base).map_err(|_| wrong())?;
            let size = u16::try_from(range.size).map_err(|_| wrong())?;
            PioRange::new(PioAddress(base), size).map(Place::Pio).map_err(|_| wrong())
        }
    }
}

/// A trap as a device of vm-device.
struct Placed(Arc<dyn Trap>);

impl DeviceMmio for Placed {
    fn mmio_read(&self, _base: MmioAddress, offset: MmioAddressOffset, data: &mut [u8]) {
        self.0.read(offset, data);
    }
    fn mmio_write(&self, _base: MmioAddress, offset: MmioAddressOffset, data: &[u8]) {
        self.0.write(offset, data);
    }
}

impl DevicePio for Placed {
    fn pio_read(&self, _base: PioAddress, offset: PioAddressOffset, data: &mut [u8]) {
        self.0.read(offset.into(), data);
    }
    fn pio_write(&self, _base: PioAddress, offset: PioAddressOffset, data: &[u8]) {
        self.0.write(offset.into(), data);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Answers with the offset, and moves itself when it is written, as a BAR does.
    struct Moving {
        buses: Buses,
        place: Mutex<GuestRange>,
    }

    impl Trap for Moving {
        fn read(&self, offset: u64, data: &mut [u8]) {
            data.fill(u8::try_from(offset).unwrap());
        }
        fn write(&self, _offset: u64, data: &[u8]) {
            let mut place = self.place.lock().unwrap();
            self.buses.remove(*place).unwrap();
            place.base = u64::from(data[0]) << 8;
            let moved = Moving { buses: self.buses.clone(), place: Mutex::new(*place) };
            self.buses.place(*place, Arc::new(moved)).unwrap();
        }
    }

    fn moving(space: Space) -> (Buses, GuestRange) {
        let buses = Buses::new();
        let range = GuestRange { space, base: 0x100, size: 0x20 };
        let trap = Moving { buses: buses.clone(), place: Mutex::new(range) };
        buses.place(range, Arc::new(trap)).unwrap();
        (buses, range)
    }

    #[test]
    fn trap_moves_itself() {
        for space in [Space::Mmio, Space::Pio] {
            let (buses, _) = moving(space);
            let read = |address: u16| {
                let mut data = [0; 2];
                let answered = match space {
                    Space::Mmio => buses.mmio_read(address.into(), &mut data),
                    Space::Pio => buses.pio_read(address, &mut data),
                };
                answered.then_some(data)
            };
            assert_eq!(read(0x11e), Some([0x1e; 2]));
            assert_eq!(read(0x11f), None);
            assert_eq!(read(0x0ff), None);
            match space {
                Space::Mmio => assert!(buses.mmio_write(0x104, &[2])),
                Space::Pio => assert!(buses.pio_write(0x104, &[2])),
            }
            assert_eq!(read(0x104), None);
            assert_eq!(read(0x204), Some([4; 2]));
        }
    }

    #[test]
    fn what_answers_nowhere_reads_as_ones() {
        let mut data = [0; 4];
        assert!(!Buses::new().mmio_read(0xfee0_0000, &mut data));
        assert_eq!(data, [0xff; 4]);
    }

    #[test]
    fn only_what_was_placed_is_removed() {
        let (buses, range) = moving(Space::Mmio);
        for wrong in [
            GuestRange { base: 0x101, ..range },
            GuestRange { size: 0x10, ..range },
            GuestRange { space: Space::Pio, ..range },
            GuestRange { size: 0, ..range },
            GuestRange { base: u64::MAX, ..range },
        ] {
            assert!(buses.remove(wrong).is_err(), "{wrong}");
        }
        let overlapping = GuestRange { base: 0x110, ..range };
        let trap = Moving { buses: buses.clone(), place: Mutex::new(overlapping) };
        let error = buses.place(overlapping, Arc::new(trap)).unwrap_err();
        assert!(error.to_string().contains("0x110"), "{error}");
        buses.remove(range).unwrap();
        assert!(buses.remove(range).is_err());
    }

    #[test]
    fn ports_have_sixteen_bits() {
        let buses = Buses::new();
        for (base, size) in [(0x1_0000, 8), (0, 0x1_0000), (0xfff9, 8)] {
            let range = GuestRange { space: Space::Pio, base, size };
            assert!(space(range).is_err(), "{range}");
            assert!(buses.remove(range).is_err());
        }
    }
}
