//! The PCI bus: configuration mechanism 1 (PCI 3.0, 3.2.2.3.2) in front of the plugin's functions.
//!
//! There is no firmware: Linux gives every BAR an address in the windows that ACPI tells it of.

use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use vmm_plugin::pci::{Function, Options, Windows};
use vmm_plugin::vfio::Device;
use vmm_plugin::vmm::{Seam, Trap};

use crate::layout::{gsi, memory, port};

/// Devices of a bus besides number 0, the host bridge.
const PLACES: u8 = 31;
/// The address register's bit that makes the data register one of a function.
const ENABLE: u32 = 1 << 31;
/// The host bridge's registers, which Linux looks for and nobody writes: QEMU's generic bridge
/// (1b36:0008), class 06 00 00.
const HOST_BRIDGE: [u8; 12] = [0x36, 0x1b, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 6];

/// A bus of devices with one function each.
#[derive(Debug, Default)]
pub struct PciBus {
    address: Mutex<u32>,
    functions: Vec<Function>,
}

impl PciBus {
    /// Gives `device` the next place on the bus, and says which that is.
    pub fn attach(&mut self, device: Arc<dyn Device>, seam: Seam) -> Result<usize> {
        let number = u8::try_from(self.functions.len()).unwrap_or(u8::MAX);
        let number = Some(number).filter(|number| *number < PLACES);
        let number = number.with_context(|| format!("The PCI bus has {PLACES} places"))? + 1;
        let windows =
            [&memory::PCI_32, &memory::PCI_64].map(|window| window.start..=window.end - 1);
        let options = Options {
            windows: Windows { memory: windows.to_vec(), ports: Some(port::PCI) },
            line: Some(gsi::of_pci(number, 0)),
            ..Options::default()
        };
        self.functions.push(Function::attach(device, seam, options)?);
        Ok(self.functions.len())
    }

    /// Takes every device from the guest: no DMA and no interrupt comes any more.
    pub fn detach_all(&self) {
        self.functions.iter().for_each(Function::detach);
    }

    /// The device and register that the address register names, for an access to the data
    /// register at `offset`.
    fn target(&self, offset: u64) -> Option<(usize, u64)> {
        let address = *self.address.lock().ok()?;
        let [register, devfn, bus, _] = address.to_le_bytes();
        let there = address & ENABLE != 0 && bus == 0 && devfn & 7 == 0;
        there.then(|| (usize::from(devfn >> 3), u64::from(register & 0xfc) + offset))
    }

    /// The function of a device other than the host bridge.
    pub fn function(&self, device: usize) -> Option<&Function> {
        self.functions.get(device.checked_sub(1)?)
    }
}

/// Offset 0 is the address register, 4 the data register.
impl Trap for PciBus {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        let Some(offset) = offset.checked_sub(4) else {
            if let (Ok(address), 4, 0) = (self.address.lock(), data.len(), offset) {
                data.copy_from_slice(&address.to_le_bytes());
            }
            return;
        };
        match self.target(offset) {
            Some((0, register)) => {
                for (byte, index) in data.iter_mut().zip(register..) {
                    let there = usize::try_from(index).ok().and_then(|at| HOST_BRIDGE.get(at));
                    *byte = there.copied().unwrap_or(0);
                }
            }
            Some((device, register)) => {
                if let Some(function) = self.function(device) {
                    function.config_read(register, data);
                }
            }
            None => {}
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let Some(offset) = offset.checked_sub(4) else {
            if let (Ok(mut address), Ok(value), 0) = (self.address.lock(), data.try_into(), offset)
            {
                *address = u32::from_le_bytes(value);
            }
            return;
        };
        let target = self.target(offset);
        if let Some((device, register)) = target
            && let Some(function) = self.function(device)
        {
            function.config_write(register, data);
        }
    }
}
