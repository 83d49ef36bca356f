//! A virtual processor: what it says it is, where it begins, and the loop that answers what KVM
//! does not.

use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use kvm_bindings::{
    CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_msr_entry, kvm_regs,
    kvm_segment,
};
use kvm_ioctls::{Cap, Kvm, VcpuExit, VcpuFd, VmFd};
use rustix::io::Errno;
use vm_memory::{Bytes as _, GuestAddress};
use vmm_plugin::vmm::vm_device::Buses;

use crate::layout::memory::{GDT, PAGE_TABLES, STACK, ZERO_PAGE};
use crate::memory::Memory;
use crate::power::{Ending, Power};

/// Control register bits that make 64-bit mode (Intel SDM 3A, 9.8.5).
const CR0_PROTECTED: u64 = 1;
const CR0_PAGING: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LONG_MODE: u64 = 1 << 8 | 1 << 10;
/// Page table bits: present and writable, and a page of 2 MiB.
const TABLE: u64 = 0x3;
const LARGE_PAGE: u64 = 0x83;
/// Leaf 1, ECX: the local APIC's timer has a deadline mode; this is a guest.
const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;
/// Memory type of what no other register speaks of, and the bit that makes such registers work:
/// write-back, enabled.
const MTRR_DEFAULT_TYPE: u32 = 0x2ff;
const MTRR_WRITE_BACK: u64 = 1 << 11 | 6;

/// Makes `count` processors, the first of which begins at `entry` in 64-bit mode.
pub fn create(kvm: &Kvm, vm: &VmFd, memory: &Memory, count: u8, entry: u64) -> Result<Vec<VcpuFd>> {
    let most = kvm.get_max_vcpus().min(usize::from(u8::MAX));
    if usize::from(count) > most || count == 0 {
        return Err(anyhow!("--cpus {count}: KVM has 1 to {most} processors for a guest"));
    }
    let supported = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?;
    let deadline = kvm.check_extension(Cap::TscDeadlineTimer);
    let create = |index: u8| {
        let cpu = vm.create_vcpu(index.into())?;
        cpu.set_cpuid2(&cpuid(&supported, index, count, deadline))?;
        // What is left of the memory types is in the page tables.
        let default =
            kvm_msr_entry { index: MTRR_DEFAULT_TYPE, data: MTRR_WRITE_BACK, ..Default::default() };
        cpu.set_msrs(&Msrs::from_entries(&[default])?)?;
        if index == 0 {
            begin_at(&cpu, memory, entry)?;
        }
        Ok(cpu)
    };
    let cpus: Result<Vec<_>> = (0..count).map(create).collect();
    cpus.context("KVM cannot make the processors")
}

/// What KVM supports here, with each processor's own number where it is asked for.
fn cpuid(supported: &CpuId, index: u8, count: u8, deadline: bool) -> CpuId {
    let mut cpuid = supported.clone();
    let (id, all) = (u32::from(index), u32::from(count));
    // Bits of an APIC id that tell processors of one package apart.
    let bits = all.next_power_of_two().trailing_zeros();
    for entry in cpuid.as_mut_slice() {
        match entry.function {
            1 => {
                entry.ecx |= HYPERVISOR | if deadline { TSC_DEADLINE } else { 0 };
                entry.ebx = entry.ebx & 0xffff | all << 16 | id << 24;
            }
            // Topology: one thread a core, all cores in one package.
            0xb | 0x1f => {
                entry.flags |= KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
                (entry.eax, entry.ebx, entry.ecx) = match entry.index {
                    0 => (0, 1, 1 << 8),
                    1 => (bits, all, 1 | 2 << 8),
                    other => (0, 0, other),
                };
                entry.edx = id;
            }
            // AMD's: cores of the package, and this core's number.
            0x8000_0008 => entry.ecx = bits << 12 | (all - 1),
            0x8000_001e => (entry.eax, entry.ebx, entry.ecx) = (id, id, 0),
            _ => {}
        }
    }
    cpuid
}

/// The boot protocol's state at the 64-bit entry point: flat segments, the first 4 GiB mapped to
/// themselves.
fn begin_at(cpu: &VcpuFd, memory: &Memory, entry: u64) -> Result<()> {
    // A directory of directories of pages: one, one, and four of 1 GiB each.
    let page = |number: u64| PAGE_TABLES + number * 4096;
    let put = |value: u64, at: u64| memory.write_obj(value, GuestAddress(at));
    put(page(1) | TABLE, page(0))?;
    for gigabyte in 0..4 {
        put(page(2 + gigabyte) | TABLE, page(1) + gigabyte * 8)?;
        for number in 0..512 {
            let address = gigabyte << 30 | number << 21;
            put(address | LARGE_PAGE, page(2 + gigabyte) + number * 8)?;
        }
    }
    // Selectors 0x10 and 0x18 are what the boot protocol wants: 64-bit code, and data.
    for (selector, descriptor) in [(0x10, 0x00af_9b00_0000_ffff_u64), (0x18, 0x00cf_9300_0000_ffff)]
    {
        put(descriptor, GDT + selector)?;
    }
    let flat = |selector, type_, long: bool| kvm_segment {
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        s: 1,
        g: 1,
        l: u8::from(long),
        db: u8::from(!long),
        ..Default::default()
    };
    let mut system = cpu.get_sregs()?;
    system.cs = flat(0x10, 0xb, true);
    let data = flat(0x18, 0x3, false);
    (system.ds, system.es, system.fs) = (data, data, data);
    (system.gs, system.ss) = (data, data);
    (system.gdt.base, system.gdt.limit) = (GDT, 0x1f);
    system.cr0 |= CR0_PROTECTED | CR0_PAGING;
    system.cr4 |= CR4_PAE;
    system.cr3 = PAGE_TABLES;
    system.efer |= EFER_LONG_MODE;
    cpu.set_sregs(&system)?;
    let registers =
        kvm_regs { rip: entry, rsi: ZERO_PAGE, rsp: STACK, rflags: 2, ..Default::default() };
    cpu.set_regs(&registers)?;
    Ok(())
}

/// Runs the processors, a thread each, until the process ends.
pub fn run(cpus: Vec<VcpuFd>, bus: &Buses, power: &Arc<Power>) -> Result<()> {
    for (index, mut cpu) in cpus.into_iter().enumerate() {
        let (bus, power) = (bus.clone(), power.clone());
        let until_it_ends = move || {
            let ending = loop {
                if let Some(ending) = turn(&mut cpu, &bus) {
                    break ending;
                }
            };
            power.end(ending);
        };
        thread::Builder::new()
            .name(format!("cpu {index}"))
            .spawn(until_it_ends)
            .context("Cannot start a thread for a processor")?;
    }
    Ok(())
}

/// Lets the guest run until it needs somebody. Why it cannot go on, if it cannot.
fn turn(cpu: &mut VcpuFd, bus: &Buses) -> Option<Ending> {
    match cpu.run() {
        // Where nothing answers, all bits read as one, and what is written is lost.
        Ok(VcpuExit::IoIn(port, data)) => drop(bus.pio_read(port, data)),
        Ok(VcpuExit::IoOut(port, data)) => drop(bus.pio_write(port, data)),
        Ok(VcpuExit::MmioRead(address, data)) => drop(bus.mmio_read(address, data)),
        Ok(VcpuExit::MmioWrite(address, data)) => drop(bus.mmio_write(address, data)),
        Ok(VcpuExit::Intr) => {}
        // A triple fault, which some kernels make to reset the machine.
        Ok(VcpuExit::Shutdown) => return Some(Ok(Some("the guest broke its processor"))),
        Ok(other) => return Some(Err(anyhow!("A processor stopped: {other:?}"))),
        Err(error) => match Errno::from_raw_os_error(error.errno()) {
            // A signal came, or KVM wants another try.
            Errno::INTR | Errno::AGAIN => {}
            _ => return Some(Err(anyhow!("KVM cannot run a processor: {error}"))),
        },
    }
    None
}
