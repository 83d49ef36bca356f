//! Virtio over PCI for a card of a VMM's own (virtio 1.2, 4.1), such as one whose rings a link serves.
//!
//! rust-vmm publishes rings and virtio over MMIO, not this. A card is a
//! [`Device`](crate::vfio::Device) that a [`Function`](crate::pci::Function) gives to the guest as
//! it gives a NIC of the host's, with configuration space, BARs and MSI-X; this is what virtio adds:
//! [where its structures are](Card), and [what its driver writes](CommonConfiguration). With
//! `KvmDoorbells` notifications do not leave the kernel. `examples/minivmm` has a whole card.

mod capabilities;
mod common;

pub use self::capabilities::Card;
pub use self::common::{Change, CommonConfiguration, LENGTH as COMMON_LENGTH, Queue};
