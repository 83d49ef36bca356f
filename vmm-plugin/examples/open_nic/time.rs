//! How long it takes to open a NIC, and to map memory for it: beside writing to all of the memory.

use std::fs::File;
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vm_memory::{Bytes as _, FileOffset, GuestAddress, GuestMemoryMmap};
use vmm_plugin::dma::GuestDma;
use vmm_plugin::vfio::{Container, Group};

use super::Outcome;

/// Mapped each time, in MiB; times are said for 1024 of them.
const MIB: usize = 256;
/// How often each time is taken; the shortest is said. The first has pages made for the PC, if that
/// is emulated.
const ROUNDS: usize = 4;

/// Prints a line for opening, and one for each kind of memory.
pub fn time(number: u32, nic: &str) -> Outcome {
    let start = Instant::now();
    let container = Arc::new(Container::open()?);
    let group = container.attach(Group::open(number)?, None)?;
    let _device = group.device(nic)?;
    println!("opened in {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    for kind in ["anonymous", "memfd"] {
        let mut best = [f64::INFINITY; 4];
        for _ in 0..ROUNDS {
            for (best, time) in best.iter_mut().zip(round(kind, &container)?) {
                *best = best.min(time);
            }
        }
        let [mapped, filled, mapped_filled, unmapped] = best;
        println!(
            "{kind}: a GiB is mapped in {mapped:.2} s, {:.2} of the {filled:.2} s of writing to it; \
             in {mapped_filled:.2} s afterwards; unmapped in {unmapped:.2} s",
            mapped / filled
        );
    }
    Ok(())
}

/// Seconds for mapping untouched memory, for writing to untouched memory, for mapping that, and for
/// unmapping it.
fn round(kind: &str, container: &Arc<Container>) -> Outcome<[f64; 4]> {
    let map = |memory: &Arc<Memory>| seconds(|| Ok(GuestDma::new(container.clone(), memory)?));
    let (dma, mapped) = map(&memory(kind)?)?;
    drop(dma);
    let memory = memory(kind)?;
    let ((), filled) = seconds(|| fill(&memory))?;
    let (dma, mapped_filled) = map(&memory)?;
    let ((), unmapped) = seconds(|| {
        drop(dma);
        Ok(())
    })?;
    Ok([mapped, filled, mapped_filled, unmapped])
}

type Memory = GuestMemoryMmap<()>;

/// Memory that nobody has touched.
fn memory(kind: &str) -> Outcome<Arc<Memory>> {
    let (start, size) = (GuestAddress(0), MIB << 20);
    if kind == "anonymous" {
        return Ok(Arc::new(Memory::from_ranges(&[(start, size)])?));
    }
    let file = memfd_create("guest memory", MemfdFlags::CLOEXEC)?;
    ftruncate(&file, u64::try_from(size)?)?;
    let file = FileOffset::new(File::from(file), 0);
    Ok(Arc::new(Memory::from_ranges_with_files(&[(start, size, Some(file))])?))
}

/// Writes zeros to all of it.
fn fill(memory: &Memory) -> Outcome {
    let mut zeros = File::open("/dev/zero")?;
    Ok(memory.read_exact_volatile_from(GuestAddress(0), &mut zeros, MIB << 20)?)
}

/// What `action` gives, and the seconds that it would take for a GiB.
fn seconds<T>(action: impl FnOnce() -> Outcome<T>) -> Outcome<(T, f64)> {
    let start = Instant::now();
    let result = action()?;
    let mib = u32::try_from(MIB)?;
    Ok((result, start.elapsed().as_secs_f64() * 1024.0 / f64::from(mib)))
}
