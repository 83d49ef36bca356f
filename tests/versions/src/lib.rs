//! Values of cloud-hypervisor's versions of rust-vmm's crates, handed to our libraries: this
//! compiles only while both mean the same types.
#![forbid(unsafe_code)]

use std::error::Error;
use std::path::Path;
use std::sync::{Arc, Mutex};

use kvm_ioctls::VmFd;
use vfio_ioctls::{VfioDevice, VfioOps};
use vm_memory::GuestMemoryMmap;
use vm_memory::bitmap::AtomicBitmap;
use vmm_plugin::attach::{Attachments, SharedDma};
use vmm_plugin::dma::GuestDma;
use vmm_plugin::pci::{Function, Options};
use vmm_plugin::vfio::{AddressSpace, OpenDevice};
use vmm_plugin::vmm::kvm::{KvmInterrupts, KvmSlots, KvmVfioFiles, pc_pins};
use vmm_plugin::vmm::vm_device::Buses;
use vmm_plugin::vmm::{Message, Seam, SeamError};
use vmm_sys_util::eventfd::EventFd;

/// Guest memory as cloud-hypervisor has it: with a log of dirty pages.
pub type Memory = GuestMemoryMmap<AtomicBitmap>;

/// A machine that is a KVM file of kvm-ioctls.
pub fn seam(vm: &Arc<VmFd>) -> Result<Seam, SeamError> {
    let _files = KvmVfioFiles::new(vm)?;
    Ok(Seam {
        bus: Arc::new(Buses::new()),
        slots: Arc::new(KvmSlots::new(vm.clone(), 16..32)),
        interrupts: Arc::new(KvmInterrupts::new(vm.clone(), 24..1024, pc_pins())),
    })
}

/// A device that vfio-ioctls has opened, DMA of which is that crate's affair.
pub fn opened_by_the_vmm(
    sysfs: &Path,
    container: Arc<dyn VfioOps>,
    seam: Seam,
    options: Options,
) -> Result<Function, Box<dyn Error>> {
    let device = Arc::new(VfioDevice::new(sysfs, container)?);
    let device = OpenDevice::of_vfio_device(device, "0000:00:03.0")?;
    Ok(Function::attach(Arc::new(device), seam, options)?)
}

/// A device that this crate opened, with DMA to the VMM's memory.
pub fn opened_by_us(
    device: OpenDevice,
    space: Arc<dyn AddressSpace>,
    memory: &Arc<Memory>,
    seam: Seam,
    options: Options,
) -> Result<Attachments, Box<dyn Error>> {
    let dma: SharedDma = Arc::new(Mutex::new(GuestDma::new(space, memory)?));
    let attachments = Attachments::new(seam);
    attachments.attach_pci("nic0", Arc::new(device), dma, options)?;
    Ok(attachments)
}

/// A vector of a device of the VMM's own.
pub fn vector(seam: &Seam, trigger: &EventFd) -> Result<(), SeamError> {
    let mut route = seam.interrupts.message(trigger)?;
    route.set(Some(Message { address: 0xfee0_0000, data: 0x21 }))
}
