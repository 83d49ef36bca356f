//! A VMM whose devices are not in the process that has the guest: it is given descriptors, and
//! maps direct pages once more.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use vmm_plugin::mapping::Mapping;
use vmm_plugin::pci::Function;
use vmm_plugin::vfio::Device as _;
use vmm_plugin::vfio::fake::{FakeFunction, Shape};
use vmm_plugin::vmm::fake::FakeVmm;
use vmm_plugin::vmm::{Seam, SeamError, Slot, Slots};

use crate::bench::{BAR3, options};

/// By guest address, what goes over the socket: a descriptor, an offset, a length.
#[derive(Debug, Default)]
struct Sent(Mutex<BTreeMap<u64, (OwnedFd, u64, u64)>>);

impl Slots for Sent {
    fn map(&self, guest: u64, memory: Arc<Mapping>, _writable: bool) -> Result<Slot, SeamError> {
        let (file, offset) = memory.file().ok_or_else(|| SeamError::new("memory of no file"))?;
        let sent = (file.try_clone_to_owned().unwrap(), offset, memory.size());
        self.0.lock().unwrap().insert(guest, sent);
        Ok(Slot(u32::try_from(guest >> 12).unwrap()))
    }

    fn unmap(&self, slot: Slot) -> Result<(), SeamError> {
        self.0.lock().unwrap().remove(&(u64::from(slot.0) << 12));
        Ok(())
    }
}

#[test]
fn descriptor_and_offset_lead_to_the_devices_bytes() {
    let device = Arc::new(FakeFunction::new(&Shape::nic()).unwrap());
    let sent = Arc::new(Sent::default());
    let seam = Seam { slots: sent.clone(), ..FakeVmm::new().seam() };
    let function = Function::attach(device.clone(), seam, options()).unwrap();
    // The one with the MSI-X table in its first page: what is direct begins behind that.
    function.assign_bar(3, BAR3.into());
    function.config_write(4, &[2, 0]);
    let sent = std::mem::take(&mut *sent.0.lock().unwrap());
    assert!(!sent.is_empty());
    for (guest, (file, offset, size)) in sent {
        assert_ne!(offset, 0);
        let bytes = Mapping::of_file(&Arc::new(file), offset, size, true).unwrap();
        // The last register of what was sent, so that offset and length have to be right.
        bytes.write(size - 4, &0x1234_5678_u32.to_le_bytes()).unwrap();
        let mut register = [0; 4];
        device.read(3, guest - u64::from(BAR3) + size - 4, &mut register).unwrap();
        assert_eq!(u32::from_le_bytes(register), 0x1234_5678, "{offset:#x}, {size:#x} bytes");
    }
}
