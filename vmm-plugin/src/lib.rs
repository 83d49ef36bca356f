//! Giving a NIC to a guest: the host's side, and the device model that a VMM links.
//!
//! # The host's side
//!
//! A NIC leaves its host in four steps, each a module of [`host`]:
//!
//! 1. [`host::nic`] turns what the operator declared into a device of this machine;
//! 2. [`host::preflight`] says whether giving it away is safe, and what to do when it is not;
//! 3. [`host::binding`] moves it to the VFIO driver, every change announced in a
//!    [`host::journal`] first;
//! 4. [`host::binding::release`] or, after a crash, [`host::recovery::recover`] brings it back.
//!
//! # The device model
//! A VMM opens the device with [`vfio`], lets its DMA reach the guest's memory with [`dma`], and
//! gives it to the guest as a [`pci::Function`] or a [`platform::PlatformDevice`]; [`attach`]
//! keeps a list of those. [`vmm`] is all that the VMM is asked for, with adapters for the crates
//! that rust-vmm's VMMs use. Feature `fake` has devices, an IOMMU and a VMM that are not there,
//! for tests without hardware.
//!
//! All of it, with a fake NIC, a fake IOMMU and a fake VMM for the real ones:
//!
//! ```
//! use std::sync::{Arc, Mutex};
//!
//! use vm_memory::{GuestAddress, GuestMemoryMmap};
//! use vmm_plugin::attach::Attachments;
//! use vmm_plugin::dma::GuestDma;
//! use vmm_plugin::pci::{Options, Windows};
//! use vmm_plugin::vfio::fake::{FakeAddressSpace, FakeFunction, Shape};
//! use vmm_plugin::vmm::{Message, Space, fake::FakeVmm};
//!
//! // What the VMM has: the guest's memory, and the seam: a bus, slots, interrupts.
//! let memory = Arc::new(GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 1 << 20)])?);
//! let vmm = FakeVmm::new();
//! let attachments = Attachments::new(vmm.seam());
//!
//! // What VFIO has: on a real machine a `vfio::Cdev` attached to a `vfio::Ioas`, for example.
//! let device = Arc::new(FakeFunction::new(&Shape::nic())?);
//! let space = Arc::new(FakeAddressSpace::pc());
//!
//! // Memory first, then the device that can reach it.
//! let dma = Arc::new(Mutex::new(GuestDma::new(space.clone(), &memory)?));
//! let windows = Windows { memory: vec![0xe000_0000..=0xefff_ffff], ports: None };
//! let options = Options { windows, ..Options::default() };
//! let nic = attachments.attach_pci("nic0", device.clone(), dma, options)?;
//! assert_eq!(space.mapped_bytes(), 1 << 20);
//!
//! // The guest finds an Intel 82574L, places BAR 0 and BAR 3, and lets it work.
//! let mut id = [0; 4];
//! nic.config_read(0, &mut id);
//! assert_eq!(id, [0x86, 0x80, 0xd3, 0x10]);
//! nic.config_write(0x10, &0xe000_0000_u32.to_le_bytes());
//! nic.config_write(0x1c, &0xe010_0000_u32.to_le_bytes());
//! nic.config_write(4, &[6, 0]);
//! // Its registers are there without a trap.
//! assert!(vmm.slots().contains(&(0xe000_0000, 0x2_0000)));
//!
//! // The guest sets its first MSI-X vector up; the device signals it.
//! let byte = |at| {
//!     let mut byte = [0];
//!     nic.config_read(at, &mut byte);
//!     u64::from(byte[0])
//! };
//! let mut msix = byte(0x34);
//! while byte(msix) != 0x11 {
//!     msix = byte(msix + 1);
//! }
//! let set = |at, value: u32| vmm.write(Space::Mmio, at, &value.to_le_bytes());
//! set(0xe010_0000, 0xfee0_0000);
//! set(0xe010_0008, 0x21);
//! set(0xe010_000c, 0);
//! nic.config_write(msix + 2, &0x8000_u16.to_le_bytes());
//! device.fire_msix(0);
//! assert_eq!(vmm.take_delivered(), [Message { address: 0xfee0_0000, data: 0x21 }]);
//!
//! // The device is quiet before the memory goes.
//! assert!(attachments.detach("nic0")?.is_empty());
//! assert_eq!((vmm.slots(), vmm.routes(), space.mapped_bytes()), (vec![], (0, 0), 0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Nothing in this crate is specific to one VMM; docs/integrating.md says what two of them need.

pub mod attach;
pub mod dma;
pub mod host;
mod line;
pub mod mapping;
pub mod opened;
pub mod pci;
pub mod platform;
pub mod vfio;
pub mod virtio;
pub mod vmm;
