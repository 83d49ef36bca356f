//! What a command line is made from, whichever the VMM.

use std::path::PathBuf;

use vmm_plugin::host::PciAddress;

use super::{Reconnect, Vmm};
use crate::declaration::{HostName, MacAddress, Memory};

/// The guest end of a link, as the guest's VMM sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestLink {
    /// The guest.
    pub name: HostName,
    /// The link's vhost-user socket for this guest.
    pub socket: PathBuf,
    /// Address of the guest's card.
    pub mac: MacAddress,
    /// The guest's memory, which the link maps.
    pub memory: Memory,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// How many MSI-X vectors the card has; `None`: as many as the VMM gives it.
    ///
    /// For QEMU only: version 7.2 crashes with any if it runs without KVM, so 0 is for that.
    pub vectors: Option<u32>,
    /// How QEMU is told to connect again when the link was restarted.
    pub reconnect: Reconnect,
}

/// netvm as a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetvmVm {
    /// The VMM's program: a path, or a name to be found in `PATH`.
    pub program: PathBuf,
    /// Memory.
    pub memory: Memory,
    /// Virtual CPUs, at least 1.
    pub vcpus: u8,
    /// Kernel that the VMM boots directly.
    pub kernel: PathBuf,
    /// Initramfs with the configuration in it.
    pub initramfs: PathBuf,
    /// Kernel command line, complete.
    pub cmdline: String,
    /// Devices that are passed through, the uplink first.
    pub devices: Vec<VfioDevice>,
    /// netvm's cards, one for each link.
    pub links: Vec<LinkCard>,
    /// Largest IP packet on the links in bytes.
    pub mtu: u16,
    /// FIFO to which the first serial port (ttyS0) writes.
    pub console: PathBuf,
    /// FIFO to which the virtio console (hvc0) writes; minivmm: the second serial port (ttyS1).
    pub state: PathBuf,
    /// How QEMU is told to connect again when a link was restarted.
    pub reconnect: Reconnect,
}

/// A device that is bound to VFIO and goes into netvm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VfioDevice {
    /// A PCI function.
    Pci(PciAddress),
    /// A platform device; crosvm only.
    Platform {
        /// Its directory in sysfs.
        sysfs: PathBuf,
        /// The label of its node in the overlay.
        symbol: String,
        /// The compiled overlay that describes it to netvm.
        overlay: PathBuf,
    },
}

/// netvm's card at the netvm end of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkCard {
    /// The link's vhost-user socket for netvm.
    pub socket: PathBuf,
    /// The card's address, by which netvm knows which link it is.
    pub mac: MacAddress,
}

/// Why there is no command line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandLineError {
    /// The path has a character that means something in the VMM's option lists.
    #[error(
        "{vmm} cannot be given the path {path:?}: it has a space, comma, quote, bracket, control \
         character or is not UTF-8; use another directory"
    )]
    Path {
        /// Whose option lists.
        vmm: Vmm,
        /// The path.
        path: PathBuf,
    },
    /// An argument has a zero byte.
    #[error("An argument has a zero byte, which no process can be given; use other paths")]
    ZeroByte,
    /// There is no room on the machine's buses.
    #[error(
        "{vmm} has room for {most} links besides {devices} passed-through devices, not {links}"
    )]
    TooManyLinks {
        /// Which VMM.
        vmm: Vmm,
        /// Links wanted.
        links: usize,
        /// Passed-through devices wanted.
        devices: usize,
        /// Links possible.
        most: usize,
    },
    /// Only crosvm passes platform devices through.
    #[error("{vmm} cannot pass the platform device {sysfs:?} through; crosvm can")]
    PlatformDevice {
        /// Which VMM.
        vmm: Vmm,
        /// The device.
        sysfs: PathBuf,
    },
}
