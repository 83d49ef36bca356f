//! A virtio network card over PCI whose rings a link serves.
//!
//! The card is a [`vmm_plugin::vfio::Device`], as a NIC of the host's is: the plugin gives both
//! the same configuration space, BARs and MSI-X. What is left is what virtio adds.

mod card;
mod link;

pub use self::card::{Card, LinkOptions};
