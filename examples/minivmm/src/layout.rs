//! What lies where in the guest's two address spaces: one table for everybody who needs an address.

use std::ops::Range;

use vmm_plugin::pci::{Options, Windows};

/// Guest physical addresses.
pub mod memory {
    use super::Range;

    /// The three segments of the boot processor.
    pub const GDT: u64 = 0x500;
    /// `struct boot_params` (Linux, Documentation/arch/x86/zero-page.rst).
    pub const ZERO_PAGE: u64 = 0x7000;
    /// Where the boot processor's stack begins, growing down.
    pub const STACK: u64 = 0x8ff0;
    /// Page tables that map the first 4 GiB to themselves: six pages.
    pub const PAGE_TABLES: u64 = 0x9000;
    /// The kernel's command line.
    pub const COMMAND_LINE: u64 = 0x2_0000;
    /// Its longest, with the zero byte at its end.
    pub const COMMAND_LINE_SIZE: usize = 0x1_0000;
    /// End of the memory below the hole that every PC has.
    pub const LOW_END: u64 = 0x9_fc00;
    /// ACPI's tables, in that hole.
    pub const ACPI: Range<u64> = 0xe_0000..0x10_0000;
    /// Memory again.
    pub const HIGH_START: u64 = 0x10_0000;
    /// BARs that need 32-bit addresses. Memory ends here, and goes on at 4 GiB.
    pub const PCI_32: Range<u64> = 0xc000_0000..0xfec0_0000;
    /// The I/O APIC's registers, as KVM has them.
    pub const IO_APIC: u32 = 0xfec0_0000;
    /// The local APICs' registers, as KVM has them.
    pub const LOCAL_APIC: u32 = 0xfee0_0000;
    /// Three pages and one that KVM needs for itself on Intel's processors.
    pub const KVM_TSS: u64 = 0xfffb_d000;
    /// See [`KVM_TSS`].
    pub const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;
    /// Memory that did not fit below [`PCI_32`].
    pub const ABOVE_4G: u64 = 1 << 32;
    /// BARs of 64 bits, below what the smallest of processors can address (36 bits).
    pub const PCI_64: Range<u64> = 0x8_0000_0000..0x10_0000_0000;
}

/// I/O ports.
pub mod port {
    use std::ops::RangeInclusive;

    /// Eight ports of each serial port.
    pub const SERIAL: [u64; 2] = [0x3f8, 0x2f8];
    /// One port that switches the machine off or resets it; ACPI says so.
    pub const POWER: u64 = 0x600;
    /// PCI configuration mechanism 1: address and data.
    pub const PCI_CONFIG: u64 = 0xcf8;
    /// BARs in I/O space.
    pub const PCI: RangeInclusive<u16> = 0x1000..=0xffff;
}

/// Pins of the I/O APIC, which are KVM's GSIs.
pub mod gsi {
    use super::Range;

    /// The serial ports'.
    pub const SERIAL: [u32; 2] = [4, 3];
    /// First of the [`PCI_COUNT`] that PCI devices share.
    pub const PCI: u32 = 16;
    /// How many there are.
    pub const PCI_COUNT: u32 = 8;

    /// Not pins at all: each is a message that a device sends.
    pub const MESSAGES: Range<u32> = 24..1024;

    /// What a PCI device's interrupt pin (0 for INTA) leads to.
    pub const fn of_pci(device: u8, pin: u8) -> u32 {
        PCI + (device as u32 + pin as u32) % PCI_COUNT
    }
}

/// Where on this machine the PCI function of `device` can have its BARs and its interrupt.
pub fn pci_options(device: u8) -> Options {
    let windows = [&memory::PCI_32, &memory::PCI_64].map(|window| window.start..=window.end - 1);
    Options {
        windows: Windows { memory: windows.to_vec(), ports: Some(port::PCI) },
        line: Some(gsi::of_pci(device, 0)),
        ..Options::default()
    }
}
