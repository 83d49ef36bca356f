//! Which message or pin each GSI of a guest is: the one table that KVM is given whole.

use std::collections::BTreeMap;
use std::ops::Range;

use kvm_bindings::{
    KVM_IRQ_ROUTING_MSI, kvm_irq_routing_entry, kvm_irq_routing_entry__bindgen_ty_1,
    kvm_irq_routing_msi,
};

use crate::vmm::Message;

/// A guest's routes: those of the VMM's own pins, and a message, or none yet, for each GSI that
/// is in use.
#[derive(Debug)]
pub(super) struct Table {
    gsis: Range<u32>,
    pins: Vec<kvm_irq_routing_entry>,
    messages: BTreeMap<u32, Option<Message>>,
}

impl Table {
    pub(super) fn new(gsis: Range<u32>, pins: Vec<kvm_irq_routing_entry>) -> Self {
        Self { gsis, pins, messages: BTreeMap::new() }
    }

    pub(super) fn gsis(&self) -> &Range<u32> {
        &self.gsis
    }

    /// Replaces the pins, and gives those that were.
    pub(super) fn set_pins(
        &mut self,
        pins: Vec<kvm_irq_routing_entry>,
    ) -> Vec<kvm_irq_routing_entry> {
        std::mem::replace(&mut self.pins, pins)
    }

    /// A GSI that was free, without a message.
    pub(super) fn allocate(&mut self) -> Option<u32> {
        let free = self.gsis.clone().find(|gsi| !self.messages.contains_key(gsi))?;
        self.messages.insert(free, None);
        Some(free)
    }

    /// What `gsi` sends from now on, and what it sent before.
    pub(super) fn set(&mut self, gsi: u32, message: Option<Message>) -> Option<Message> {
        self.messages.insert(gsi, message).flatten()
    }

    pub(super) fn free(&mut self, gsi: u32) {
        self.messages.remove(&gsi);
    }

    /// All of it, as KVM takes it.
    pub(super) fn entries(&self) -> Vec<kvm_irq_routing_entry> {
        let messages = self.messages.iter().filter_map(|(gsi, message)| {
            let Message { address, data } = (*message)?;
            let msi = kvm_irq_routing_msi {
                address_lo: (address & 0xffff_ffff) as u32,
                address_hi: (address >> 32) as u32,
                data,
                ..Default::default()
            };
            Some(kvm_irq_routing_entry {
                gsi: *gsi,
                type_: KVM_IRQ_ROUTING_MSI,
                u: kvm_irq_routing_entry__bindgen_ty_1 { msi },
                ..Default::default()
            })
        });
        self.pins.iter().copied().chain(messages).collect()
    }
}

/// The pins of a PC's interrupt controllers as KVM has them after `KVM_CREATE_IRQCHIP`: GSIs 0 to
/// 15 go to both PICs and the I/O APIC, 16 to 23 to the I/O APIC alone.
#[cfg(target_arch = "x86_64")]
#[must_use]
pub fn pc_pins() -> Vec<kvm_irq_routing_entry> {
    use kvm_bindings::{
        KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE,
        kvm_irq_routing_irqchip,
    };
    let pin = |gsi, irqchip, pin| kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_IRQCHIP,
        u: kvm_irq_routing_entry__bindgen_ty_1 {
            irqchip: kvm_irq_routing_irqchip { irqchip, pin },
        },
        ..Default::default()
    };
    let io_apic = (0..24).map(|gsi| pin(gsi, KVM_IRQCHIP_IOAPIC, gsi));
    let master = (0..8).map(|gsi| pin(gsi, KVM_IRQCHIP_PIC_MASTER, gsi));
    let slave = (8..16).map(|gsi| pin(gsi, KVM_IRQCHIP_PIC_SLAVE, gsi - 8));
    io_apic.chain(master).chain(slave).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_has_what_was_set() {
        let mut table = Table::new(24..26, vec![kvm_irq_routing_entry::default()]);
        assert_eq!(
            (table.allocate(), table.allocate(), table.allocate()),
            (Some(24), Some(25), None)
        );
        assert_eq!(table.entries().len(), 1);
        let message = Message { address: 0x1_fee0_1000, data: 0x4021 };
        assert_eq!(table.set(25, Some(message)), None);
        let entries = table.entries();
        assert_eq!((entries.len(), entries[1].gsi), (2, 25));
        assert_eq!(table.set(25, None), Some(message));
        table.free(24);
        assert_eq!(table.allocate(), Some(24));
    }
}
