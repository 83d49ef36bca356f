//! [`Slots`] of a KVM guest.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use kvm_ioctls::VmFd;

use super::sys::MappedSlot;
use crate::mapping::Mapping;
use crate::vmm::{SeamError, Slot, Slots};

/// Memory slots of a guest that belong to this adapter.
///
/// Whatever is mapped still ends when it is dropped.
pub struct KvmSlots {
    vm: Arc<VmFd>,
    numbers: Range<u32>,
    used: Mutex<BTreeMap<u32, MappedSlot>>,
}

impl KvmSlots {
    /// Takes the slots `numbers` of `vm`, which the VMM itself does not use. A NIC needs one for
    /// each stretch of a BAR that is mapped directly: seldom more than four.
    #[must_use]
    pub fn new(vm: Arc<VmFd>, numbers: Range<u32>) -> Self {
        Self { vm, numbers, used: Mutex::default() }
    }
}

impl fmt::Debug for KvmSlots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("KvmSlots").field("numbers", &self.numbers).field("used", &*used).finish()
    }
}

impl Slots for KvmSlots {
    fn map(&self, guest: u64, memory: Arc<Mapping>, writable: bool) -> Result<Slot, SeamError> {
        if writable && !memory.writable() {
            return Err(SeamError::new(format!(
                "memory that is mapped to be read only cannot be writable at {guest:#x}"
            )));
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let free = self.numbers.clone().find(|number| !used.contains_key(number));
        let number = free.ok_or_else(|| {
            SeamError::new(format!(
                "all of the memory slots {:?} are used: give the adapter more",
                self.numbers
            ))
        })?;
        let size = memory.size();
        let slot = MappedSlot::new(Arc::clone(&self.vm), number, guest, memory, writable);
        let slot = slot.map_err(|error| {
            let what = format!("KVM does not map {size:#x} bytes at {guest:#x} (slot {number})");
            SeamError::because(what, std::io::Error::from(error))
        })?;
        used.insert(number, slot);
        Ok(Slot(number))
    }

    fn unmap(&self, slot: Slot) -> Result<(), SeamError> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mapped) = used.get_mut(&slot.0) else {
            return Err(SeamError::new(format!("memory slot {} is not mapped", slot.0)));
        };
        mapped.end().map_err(|error| {
            let what = format!("KVM does not give memory slot {} back", slot.0);
            SeamError::because(what, std::io::Error::from(error))
        })?;
        used.remove(&slot.0);
        Ok(())
    }
}
