//! Notifications without leaving the kernel: a write to a queue's address signals an eventfd.

use std::fmt;
use std::sync::Arc;

use kvm_ioctls::{IoEventAddress, NoDatamatch, VmFd};
use vmm_plugin::vmm::{Bus, GuestRange, SeamError, Trap};
use vmm_sys_util::eventfd::EventFd;

use super::card::{NOTIFY, NOTIFY_STRIDE, REGISTERS_SIZE};

/// A bus that also connects a card's notification addresses wherever the guest puts its BAR.
pub struct KickBus {
    bus: Arc<dyn Bus>,
    vm: Arc<VmFd>,
    kicks: Vec<EventFd>,
}

impl fmt::Debug for KickBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KickBus over {:?}", self.bus)
    }
}

impl KickBus {
    /// `kicks` are the eventfds of queues 0, 1, ...
    pub fn new(bus: Arc<dyn Bus>, vm: Arc<VmFd>, kicks: Vec<EventFd>) -> Self {
        Self { bus, vm, kicks }
    }

    fn addresses(&self, range: GuestRange) -> Vec<(IoEventAddress, &EventFd)> {
        // The card's other BAR is smaller.
        let kicks = self.kicks.iter().zip(0..).filter(|_| range.size == REGISTERS_SIZE);
        let first = range.base + u64::from(NOTIFY);
        let address = |queue: u64| IoEventAddress::Mmio(first + queue * u64::from(NOTIFY_STRIDE));
        kicks.map(|(kick, queue)| (address(queue), kick)).collect()
    }
}

impl Bus for KickBus {
    fn place(&self, range: GuestRange, trap: Arc<dyn Trap>) -> Result<(), SeamError> {
        self.bus.place(range, trap)?;
        for (address, kick) in self.addresses(range) {
            // Where KVM does not, the trap does it: slower, but the same.
            if let Err(error) = self.vm.register_ioevent(kick, &address, NoDatamatch) {
                eprintln!("minivmm: a notification leaves the kernel at {range}: {error}");
            }
        }
        Ok(())
    }

    fn remove(&self, range: GuestRange) -> Result<(), SeamError> {
        for (address, kick) in self.addresses(range) {
            // One that was not there need not go.
            let _ = self.vm.unregister_ioevent(kick, &address, NoDatamatch);
        }
        self.bus.remove(range)
    }
}
