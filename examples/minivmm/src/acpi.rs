//! What ACPI tells the guest: processors, interrupt controllers, buses, and how to switch itself
//! off (ACPI 6.5).
//!
//! The machine is "hardware-reduced" (ACPI 6.5, 4.1): no timer, no legacy interrupt controller,
//! nothing to be probed for.

use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, aml};
use anyhow::{Context as _, Result, ensure};
use vm_memory::{Bytes as _, GuestAddress};

use crate::layout::{gsi, memory, port};
use crate::memory::Memory;
use crate::power::{RESET, SOFT_OFF};

const OEM: [u8; 6] = *b"NETVM ";
const TABLE: [u8; 8] = *b"MINIVMM ";
const REVISION: u32 = 1;
/// FADT, "IA-PC Boot Architecture Flags": no VGA, no real-time clock.
const NO_VGA_NO_CLOCK: u16 = 1 << 2 | 1 << 5;
/// The name that ACPI has for a PCI bus's root, and for a 16550.
const PCI_ROOT: &str = "PNP0A03";
const UART: &str = "PNP0501";

/// Writes the tables for `cpus` processors where the zero page says that they are.
pub fn write(guest: &Memory, cpus: u8) -> Result<()> {
    // The pointer to all of it is at the front; its length is known, its contents are not.
    let mut next = memory::ACPI.start + Rsdp::len().next_multiple_of(16) as u64;
    let mut put = |table: &dyn Aml| -> Result<u64> {
        let (address, Encoded(bytes)) = (next, encoded(table));
        next = (address + bytes.len() as u64).next_multiple_of(16);
        ensure!(next <= memory::ACPI.end, "The ACPI tables do not fit");
        guest.write_slice(&bytes, GuestAddress(address)).context("Cannot write ACPI tables")?;
        Ok(address)
    };
    let mut xsdt = XSDT::new(OEM, TABLE, REVISION);
    let dsdt = put(&Encoded(dsdt().as_slice().to_vec()))?;
    let port = GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, port::POWER);
    let mut fadt = FADTBuilder::new(OEM, TABLE, REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup);
    fadt.iapc_boot_arch = NO_VGA_NO_CLOCK.into();
    fadt.reset_reg = port;
    fadt.reset_value = RESET;
    fadt.sleep_control_reg = port;
    fadt.sleep_status_reg = port;
    xsdt.add_entry(put(&fadt.finalize())?);

    let local = LocalInterruptController::Address(memory::LOCAL_APIC);
    let mut madt = MADT::new(OEM, TABLE, REVISION, local);
    for cpu in 0..cpus {
        madt.add_structure(ProcessorLocalApic::new(cpu, cpu, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, memory::IO_APIC, 0));
    xsdt.add_entry(put(&madt)?);
    let xsdt = put(&xsdt)?;

    let Encoded(rsdp) = encoded(&Rsdp::new(OEM, xsdt));
    guest.write_slice(&rsdp, GuestAddress(memory::ACPI.start)).context("Cannot write the RSDP")
}

/// The machine's devices, which nothing can enumerate.
fn dsdt() -> Sdt {
    let mut table = Sdt::new(*b"DSDT", 36, 6, OEM, TABLE, REVISION);
    let off = encoded(&aml::Package::new(vec![&SOFT_OFF, &0_u8]));
    aml::Name::new("_S5_".into(), &off).to_aml_bytes(&mut table);
    let (pci, first, second) = (pci_root(), uart(0, "COM1"), uart(1, "COM2"));
    let devices: Vec<&dyn Aml> = vec![&pci, &first, &second];
    aml::Scope::new("_SB_".into(), devices).to_aml_bytes(&mut table);
    table.update_checksum();
    table
}

/// Bytes of a table or of a part of one.
struct Encoded(Vec<u8>);

impl Aml for Encoded {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        sink.vec(&self.0);
    }
}

fn encoded(part: &dyn Aml) -> Encoded {
    let mut bytes = Vec::new();
    part.to_aml_bytes(&mut bytes);
    Encoded(bytes)
}

/// The PCI bus: the windows that BARs may be in, and which pin leads to which GSI.
fn pci_root() -> Encoded {
    let last = |range: &std::ops::Range<u64>| range.end - 1;
    let (io, low, high) = (port::PCI, &memory::PCI_32, &memory::PCI_64);
    let cache = aml::AddressSpaceCacheable::NotCacheable;
    let narrow = |address: u64| u32::try_from(address).unwrap_or(u32::MAX);
    let short = |address: u64| u16::try_from(address).unwrap_or(u16::MAX);
    let windows = encoded(&aml::ResourceTemplate::new(vec![
        &aml::AddressSpace::new_bus_number(0_u16, 0),
        &aml::IO::new(short(port::PCI_CONFIG), short(port::PCI_CONFIG), 1, 8),
        &aml::AddressSpace::new_io(*io.start(), *io.end(), None),
        &aml::AddressSpace::new_memory(cache, true, narrow(low.start), narrow(last(low)), None),
        &aml::AddressSpace::new_memory(cache, true, high.start, last(high), None),
    ]));
    let mut routes = aml::PackageBuilder::new();
    for device in 0..32_u8 {
        for pin in 0..4_u8 {
            let functions = u32::from(device) << 16 | 0xffff;
            let gsi = gsi::of_pci(device, pin);
            routes.add_element(&aml::Package::new(vec![&functions, &pin, &0_u8, &gsi]));
        }
    }
    encoded(&aml::Device::new(
        "PCI0".into(),
        vec![
            &aml::Name::new("_HID".into(), &aml::EISAName::new(PCI_ROOT)),
            &aml::Name::new("_UID".into(), &0_u8),
            &aml::Name::new("_CRS".into(), &windows),
            &aml::Name::new("_PRT".into(), &routes),
        ],
    ))
}

fn uart(index: usize, name: &str) -> Encoded {
    let ports = u16::try_from(port::SERIAL[index]).unwrap_or(u16::MAX);
    let resources = encoded(&aml::ResourceTemplate::new(vec![
        &aml::Interrupt::new(true, true, false, false, gsi::SERIAL[index]),
        &aml::IO::new(ports, ports, 1, 8),
    ]));
    encoded(&aml::Device::new(
        name.into(),
        vec![
            &aml::Name::new("_HID".into(), &aml::EISAName::new(UART)),
            &aml::Name::new("_UID".into(), &index),
            &aml::Name::new("_CRS".into(), &resources),
        ],
    ))
}
