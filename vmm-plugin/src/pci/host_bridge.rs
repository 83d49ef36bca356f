//! A PCI bus for a VMM that has none: configuration mechanism 1 (PCI 3.0, 3.2.2.3.2) in front of
//! functions that come and go.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::function::Function;
use crate::vmm::Trap;

/// Devices of a bus, the host bridge included, which is number 0.
const DEVICES: u8 = 32;
/// The address register's bit that makes the data register one of a function.
const ENABLE: u32 = 1 << 31;
/// The host bridge's own registers, which a guest looks for and nobody writes: QEMU's generic
/// bridge (1b36:0008), class 06 00 00.
const IDENTITY: [u8; 12] = [0x36, 0x1b, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 6];

/// Bus 0 with up to 31 devices of one function each, behind two registers of four bytes each: the
/// VMM places it at eight ports, 0xcf8 on a PC.
///
/// The guest's firmware, or the guest, finds what was there when it looked. What comes later it
/// finds when it is told to look again.
#[derive(Debug, Default)]
pub struct HostBridge {
    address: Mutex<u32>,
    functions: Mutex<[Option<Arc<Function>>; DEVICES as usize]>,
}

impl HostBridge {
    /// A bus without devices.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The lowest device number that is free, 1 to 31.
    #[must_use]
    pub fn free(&self) -> Option<u8> {
        let functions = self.functions();
        (1..DEVICES).find(|number| functions[usize::from(*number)].is_none())
    }

    /// Lets the guest find `function` as `device`, 1 to 31. False, and nothing done, if that is
    /// another number or taken.
    pub fn insert(&self, device: u8, function: Arc<Function>) -> bool {
        let mut functions = self.functions();
        match functions.get_mut(usize::from(device)) {
            Some(place @ None) if device > 0 => {
                *place = Some(function);
                true
            }
            _ => false,
        }
    }

    /// The function that the guest finds as `device`.
    #[must_use]
    pub fn function(&self, device: u8) -> Option<Arc<Function>> {
        self.functions().get(usize::from(device))?.clone()
    }

    /// Frees the place of `function`, which the guest does not find any more.
    pub fn remove(&self, function: &Arc<Function>) {
        for place in self.functions().iter_mut() {
            if place.as_ref().is_some_and(|there| Arc::ptr_eq(there, function)) {
                *place = None;
            }
        }
    }

    fn functions(&self) -> MutexGuard<'_, [Option<Arc<Function>>; DEVICES as usize]> {
        self.functions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn address(&self) -> MutexGuard<'_, u32> {
        self.address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device and register that an access to the data register at `offset` of it is for.
    fn target(&self, offset: u64) -> Option<(u8, u64)> {
        let address = *self.address();
        let [register, devfn, bus, _] = address.to_le_bytes();
        let there = address & ENABLE != 0 && bus == 0 && devfn & 7 == 0 && offset < 4;
        there.then(|| (devfn >> 3, u64::from(register & 0xfc) + offset))
    }
}

/// Offset 0 is the address register, which is accessed whole, and 4 the data register.
impl Trap for HostBridge {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        let Some(offset) = offset.checked_sub(4) else {
            if offset == 0 && data.len() == 4 {
                data.copy_from_slice(&self.address().to_le_bytes());
            }
            return;
        };
        match self.target(offset) {
            Some((0, register)) => {
                let from = usize::try_from(register).unwrap_or(usize::MAX);
                let rest = IDENTITY.iter().skip(from).copied().chain(std::iter::repeat(0));
                data.iter_mut().zip(rest).for_each(|(to, from)| *to = from);
            }
            Some((device, register)) => {
                // Its lock is not held over what the function does.
                if let Some(function) = self.function(device) {
                    function.config_read(register, data);
                }
            }
            None => {}
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let Some(offset) = offset.checked_sub(4) else {
            if let (0, Ok(value)) = (offset, data.try_into()) {
                *self.address() = u32::from_le_bytes(value);
            }
            return;
        };
        let function = self
            .target(offset)
            .and_then(|(device, register)| Some((self.function(device)?, register)));
        if let Some((function, register)) = function {
            function.config_write(register, data);
        }
    }
}
