//! The guest's memory: one sealed file that KVM, VFIO and the links all map.

use std::fs::File;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use vm_memory::{Address as _, GuestMemoryRegion as _};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap};
use vmm_plugin::mapping::Mapping;
use vmm_plugin::vmm::Slots;

use crate::layout::memory::{ABOVE_4G, PCI_32, PCI_64};

/// Guest memory in one region, or two around the hole for PCI.
pub type Memory = GuestMemoryMmap<()>;

/// Mebibytes that a Linux kernel with an initramfs of any use starts with.
const LEAST_MIB: u64 = 64;

/// Allocates `mib` MiB and shows them to the guest, as the plugin shows it a NIC's registers.
///
/// The file cannot shrink or grow any more: a link maps it, and must not be killed by a VMM that
/// cuts it short.
pub fn allocate(slots: &dyn Slots, mib: u64) -> Result<Arc<Memory>> {
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
    let file = Arc::new(File::from(file));

    let low = size.min(PCI_32.start);
    let mut ranges = Vec::new();
    for (address, start, end) in [(0, 0, low), (ABOVE_4G, low, size)] {
        if start < end {
            let file = FileOffset::from_arc(file.clone(), start);
            ranges.push((GuestAddress(address), usize::try_from(end - start)?, Some(file)));
        }
    }
    let memory = Memory::from_ranges_with_files(&ranges).context("Cannot map guest memory")?;
    let memory = Arc::new(memory);
    for (index, region) in memory.iter().enumerate() {
        let mapping = Mapping::of_guest_memory(&memory, index).context("It was just mapped")?;
        slots.map(region.start_addr().raw_value(), Arc::new(mapping), true)?;
    }
    Ok(memory)
}
