//! The one thing here that only the programmer can promise: guest memory stays mapped as long as
//! the guest runs.
#![expect(unsafe_code, reason = "KVM is given addresses of this process")]

use anyhow::Result;
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use vm_memory::{Address as _, GuestMemoryBackend as _, GuestMemoryRegion as _};

use crate::memory::Memory;

/// Number of guest memory's last slot; slots above it are for what devices map.
pub const LAST_MEMORY_SLOT: u32 = 1;

/// Lets the guest see `memory` where its regions say.
///
/// The regions are kept mapped until the process ends: nothing may run in a guest whose memory is
/// gone.
pub fn give_to_guest(vm: &VmFd, memory: &Memory) -> Result<()> {
    for (slot, region) in (0..=LAST_MEMORY_SLOT).zip(memory.iter()) {
        let region = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: region.start_addr().raw_value(),
            memory_size: region.len(),
            userspace_addr: region.as_ptr().addr() as u64,
        };
        // SAFETY: the address and length are those of a mapping that is ours; it is never unmapped,
        // because a reference to it is leaked below before any vCPU exists; regions do not overlap
        // (vm-memory checks).
        unsafe { vm.set_user_memory_region(region)? };
    }
    std::mem::forget(memory.clone());
    Ok(())
}
