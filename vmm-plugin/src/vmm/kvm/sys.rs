//! A memory slot of KVM.
#![expect(unsafe_code, reason = "KVM_SET_USER_MEMORY_REGION gives memory to a guest")]

use std::fmt;
use std::sync::Arc;

use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use vmm_sys_util::errno::Error;

use crate::mapping::Mapping;

/// Memory that a guest sees, as long as this lives.
pub(super) struct MappedSlot {
    vm: Arc<VmFd>,
    number: u32,
    guest: u64,
    /// `None` once the guest sees it no longer.
    memory: Option<Arc<Mapping>>,
}

impl MappedSlot {
    /// Shows `memory` to the guest at `guest`, in slot `number`.
    pub(super) fn new(
        vm: Arc<VmFd>,
        number: u32,
        guest: u64,
        memory: Arc<Mapping>,
        writable: bool,
    ) -> Result<Self, Error> {
        let region = kvm_userspace_memory_region {
            slot: number,
            flags: if writable { 0 } else { KVM_MEM_READONLY },
            guest_phys_addr: guest,
            memory_size: memory.size(),
            userspace_addr: memory.address(),
        };
        // SAFETY: the memory is a mapping of its own that nothing in Rust borrows, and it stays
        // mapped until the slot is gone: `memory` is kept until `end` succeeded, or for ever.
        unsafe { vm.set_user_memory_region(region) }?;
        Ok(Self { vm, number, guest, memory: Some(memory) })
    }

    /// Takes it from the guest; when this fails the guest sees it still.
    pub(super) fn end(&mut self) -> Result<(), Error> {
        if self.memory.is_none() {
            return Ok(());
        }
        let region = kvm_userspace_memory_region {
            slot: self.number,
            flags: 0,
            guest_phys_addr: self.guest,
            memory_size: 0,
            userspace_addr: 0,
        };
        // SAFETY: no memory is given to the guest; size 0 deletes the slot.
        unsafe { self.vm.set_user_memory_region(region) }?;
        self.memory = None;
        Ok(())
    }
}

impl Drop for MappedSlot {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!(slot = self.number, %error, "a guest keeps memory; it stays mapped");
            std::mem::forget(self.memory.take());
        }
    }
}

impl fmt::Debug for MappedSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MappedSlot({} at {:#x}: {:?})", self.number, self.guest, self.memory)
    }
}
