//! The guest's memory: one sealed file that KVM, VFIO and the links all map.

use anyhow::{Context as _, Result, ensure};
use kvm_ioctls::VmFd;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};

use crate::layout::memory::{ABOVE_4G, PCI_32, PCI_64};
use crate::sys;

/// Guest memory in one region, or two around the hole for PCI.
pub type Memory = GuestMemoryMmap<()>;

/// Mebibytes that a Linux kernel with an initramfs of any use starts with.
const LEAST_MIB: u64 = 64;

/// Allocates `mib` MiB and gives them to the guest.
///
/// The file cannot shrink or grow any more: a link maps it, and must not be killed by a VMM that
/// cuts it short.
pub fn allocate(vm: &VmFd, mib: u64) -> Result<Memory> {
    let most = (PCI_64.start - ABOVE_4G + PCI_32.start) >> 20;
    ensure!(
        (LEAST_MIB..=most).contains(&mib),
        "--memory {mib}: a guest has {LEAST_MIB} to {most} MiB"
    );
    let size = mib << 20;
    let name = "guest memory";
    let file = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .context("Cannot make a memfd for the guest's memory")?;
    ftruncate(&file, size).with_context(|| format!("Cannot make the memfd {mib} MiB long"))?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
        .context("Cannot seal the guest's memory")?;
    let file = std::sync::Arc::new(std::fs::File::from(file));

    let low = size.min(PCI_32.start);
    let mut ranges = Vec::new();
    for (address, start, end) in [(0, 0, low), (ABOVE_4G, low, size)] {
        if start < end {
            let file = FileOffset::from_arc(file.clone(), start);
            ranges.push((GuestAddress(address), usize::try_from(end - start)?, Some(file)));
        }
    }
    let memory = Memory::from_ranges_with_files(&ranges).context("Cannot map guest memory")?;
    sys::give_to_guest(vm, &memory).context("KVM does not take the guest's memory")?;
    Ok(memory)
}
