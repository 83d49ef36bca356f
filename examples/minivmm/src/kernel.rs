//! What a boot loader does: kernel, initramfs, command line and zero page into memory (Linux,
//! x86/boot.rst).

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use linux_loader::configurator::linux::LinuxBootConfigurator;
use linux_loader::configurator::{BootConfigurator as _, BootParams};
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use linux_loader::loader::{BzImage, Cmdline, Elf, KernelLoader as _, load_cmdline};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryBackend as _, GuestMemoryRegion as _};

use crate::layout::memory::{
    ACPI, COMMAND_LINE, COMMAND_LINE_SIZE, HIGH_START, LOW_END, PCI_32, ZERO_PAGE,
};
use crate::memory::Memory;

/// Of an initramfs: it begins on a page.
const PAGE: u64 = 4096;
/// `e820` types: memory, and what only the firmware's tables are in.
const RAM: u32 = 1;
const RESERVED: u32 = 2;
/// The boot protocol's marks, and the loader type of those who have no number.
const BOOT_FLAG: u16 = 0xaa55;
const HEADER: u32 = u32::from_le_bytes(*b"HdrS");
const OTHER_LOADER: u8 = 0xff;
/// From a bzImage's start to its 64-bit entry point.
const ENTRY_64: u64 = 0x200;

/// Loads everything; returns where the boot processor begins, in 64-bit mode with [`ZERO_PAGE`] in
/// RSI.
pub fn load(memory: &Memory, kernel: &Path, initramfs: Option<&Path>, line: &str) -> Result<u64> {
    let shown = kernel.display();
    let mut file = File::open(kernel).with_context(|| format!("Cannot open the kernel {shown}"))?;
    let mut magic = [0; 4];
    file.read_exact(&mut magic).with_context(|| format!("Cannot read the kernel {shown}"))?;
    file.rewind()?;
    let at = Some(GuestAddress(HIGH_START));
    let elf = &magic == b"\x7fELF";
    let loaded = if elf {
        let loaded = Elf::load(memory, None, &mut file, at);
        loaded.with_context(|| format!("{shown} does not fit, or is broken; use a larger --memory"))
    } else {
        let loaded = BzImage::load(memory, None, &mut file, at);
        loaded.with_context(|| format!("{shown} is no vmlinux and no bzImage that fits"))
    };
    let loaded = loaded?;

    // A vmlinux has no header to start from.
    let hdr = loaded.setup_header.unwrap_or(setup_header {
        boot_flag: BOOT_FLAG,
        header: HEADER,
        initrd_addr_max: u32::MAX,
        ..setup_header::default()
    });
    let mut params = boot_params { hdr, ..boot_params::default() };
    params.hdr.type_of_loader = OTHER_LOADER;
    // A bzImage unpacks itself to where it prefers to be.
    let unpacked = params.hdr.pref_address.saturating_add(params.hdr.init_size.into());
    if let Some(path) = initramfs {
        let above = loaded.kernel_end.max(unpacked);
        let (start, size) = load_initramfs(memory, path, above, params.hdr.initrd_addr_max)?;
        params.hdr.ramdisk_image = start;
        params.hdr.ramdisk_size = size;
    }
    let mut cmdline = Cmdline::new(COMMAND_LINE_SIZE)?;
    cmdline.insert_str(line).with_context(|| format!("The command line {line:?} does not fit"))?;
    load_cmdline(memory, GuestAddress(COMMAND_LINE), &cmdline)?;
    params.hdr.cmd_line_ptr = u32::try_from(COMMAND_LINE)?;
    params.hdr.cmdline_size = u32::try_from(line.len())?;
    params.acpi_rsdp_addr = ACPI.start;
    add_memory_map(&mut params, memory);
    let params = BootParams::new(&params, GuestAddress(ZERO_PAGE));
    LinuxBootConfigurator::write_bootparams(&params, memory)?;
    Ok(loaded.kernel_load.0 + if elf { 0 } else { ENTRY_64 })
}

/// As high as the kernel allows, so that it is not in the kernel's way.
fn load_initramfs(memory: &Memory, path: &Path, above: u64, highest: u32) -> Result<(u32, u32)> {
    let shown = path.display();
    let mut file =
        File::open(path).with_context(|| format!("Cannot open the initramfs {shown}"))?;
    let size = file.metadata()?.len();
    let memory_end = memory.last_addr().0.saturating_add(1).min(PCI_32.start);
    let end = memory_end.min(u64::from(highest) + 1);
    let start = end.saturating_sub(size) & !(PAGE - 1);
    ensure!(
        size > 0 && start >= above,
        "The initramfs {shown} has {} KiB, but beside the kernel there is room for {} KiB; use a \
         larger --memory",
        size >> 10,
        end.saturating_sub(above) >> 10
    );
    memory
        .read_exact_volatile_from(GuestAddress(start), &mut file, usize::try_from(size)?)
        .with_context(|| format!("Cannot read the initramfs {shown}"))?;
    Ok((u32::try_from(start)?, u32::try_from(size)?))
}

fn add_memory_map(params: &mut boot_params, memory: &Memory) {
    let mut add = |start: u64, end: u64, kind| {
        let entry = boot_e820_entry { addr: start, size: end - start, r#type: kind };
        params.e820_table[usize::from(params.e820_entries)] = entry;
        params.e820_entries += 1;
    };
    add(0, LOW_END, RAM);
    add(ACPI.start, ACPI.end, RESERVED);
    for region in memory.iter() {
        let (start, end) = (region.start_addr().0, region.last_addr().0 + 1);
        add(start.max(HIGH_START), end, RAM);
    }
}
