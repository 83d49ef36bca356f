//! A [`Bus`] on which writes to some addresses of a BAR signal eventfds, and leave the guest but
//! not the kernel.

use std::fmt;
use std::sync::Arc;

use kvm_ioctls::{IoEventAddress, NoDatamatch, VmFd};
use vmm_sys_util::eventfd::EventFd;

use crate::vmm::{Bus, GuestRange, SeamError, Space, Trap};

/// The bus for a function whose [`Device`](crate::vfio::Device) is the VMM's own: a virtio card,
/// for instance, whose driver notifies it of each queue at an address.
///
/// Whatever is placed goes to the bus behind this one too, so a notification that KVM does not take
/// is a write that is trapped.
pub struct KvmDoorbells {
    bus: Arc<dyn Bus>,
    vm: Arc<VmFd>,
    size: u64,
    doorbells: Vec<(u64, EventFd)>,
}

impl KvmDoorbells {
    /// A bus over `bus`. Each of `doorbells` is the offset of an address in the one memory BAR that
    /// has `size` bytes, and what a write of any width and value to it signals.
    #[must_use]
    pub fn new(
        bus: Arc<dyn Bus>,
        vm: Arc<VmFd>,
        size: u64,
        doorbells: Vec<(u64, EventFd)>,
    ) -> Self {
        Self { bus, vm, size, doorbells }
    }

    fn at(&self, range: GuestRange) -> impl Iterator<Item = (IoEventAddress, &EventFd)> {
        let all = range.space == Space::Mmio && range.size == self.size;
        let doorbells = self.doorbells.iter().filter(move |_| all);
        let address = move |offset| IoEventAddress::Mmio(range.base.saturating_add(offset));
        doorbells.map(move |(offset, event)| (address(*offset), event))
    }
}

impl fmt::Debug for KvmDoorbells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KvmDoorbells({} over {:?})", self.doorbells.len(), self.bus)
    }
}

impl Bus for KvmDoorbells {
    fn place(&self, range: GuestRange, trap: Arc<dyn Trap>) -> Result<(), SeamError> {
        self.bus.place(range, trap)?;
        for (address, event) in self.at(range) {
            if let Err(error) = self.vm.register_ioevent(event, &address, NoDatamatch) {
                tracing::warn!(%range, %error, "a notification is trapped");
            }
        }
        Ok(())
    }

    fn remove(&self, range: GuestRange) -> Result<(), SeamError> {
        for (address, event) in self.at(range) {
            // One that was not there need not go.
            let _ = self.vm.unregister_ioevent(event, &address, NoDatamatch);
        }
        self.bus.remove(range)
    }
}
