//! Accesses to a BAR that left the guest.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::live::Live;
use crate::vfio::Area;
use crate::vmm::Trap;

/// Answers for one BAR.
pub(super) struct BarTrap {
    pub live: Arc<Live>,
    pub bar: u8,
    /// Bytes that the device has there; the BAR may be longer.
    pub size: u64,
}

/// What answers for a run of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Device,
    Table,
    Pending,
}

impl BarTrap {
    /// Who answers at `offset`, from which offset of its own, and for how many bytes.
    fn target(&self, offset: u64) -> (Target, u64, u64) {
        let mut room = self.size - offset;
        let Some(shape) = self.live.msix else { return (Target::Device, offset, room) };
        let areas = [
            (shape.table_bar, shape.table, Target::Table),
            (shape.pending_bar, shape.pending, Target::Pending),
        ];
        for (_, Area { offset: start, size }, target) in
            areas.into_iter().filter(|(bar, ..)| *bar == self.bar)
        {
            if offset < start {
                room = room.min(start - offset);
            } else if offset < start + size {
                return (target, offset - start, start + size - offset);
            }
        }
        (Target::Device, offset, room)
    }

    /// Cuts `length` bytes from `offset` into runs with one target each: their place in the data,
    /// target and offset there. Bytes beyond the device's are in none.
    fn runs(&self, offset: u64, length: usize) -> Vec<(std::ops::Range<usize>, Target, u64)> {
        let mut runs = Vec::new();
        let mut done = 0;
        let mut at = offset;
        while done < length && at < self.size {
            let (target, place, room) = self.target(at);
            let run = usize::try_from(room).unwrap_or(usize::MAX).min(length - done);
            runs.push((done..done + run, target, place));
            done += run;
            at += u64::try_from(run).unwrap_or(u64::MAX);
        }
        runs
    }
}

impl Trap for BarTrap {
    fn read(&self, offset: u64, data: &mut [u8]) {
        self.live.counters.bar_reads.fetch_add(1, Ordering::Relaxed);
        data.fill(0xff);
        for (place, target, at) in self.runs(offset, data.len()) {
            let Some(data) = data.get_mut(place) else { continue };
            match target {
                Target::Device => self.live.read_bar(self.bar, at, data),
                Target::Table => self.live.read_table(at, data),
                Target::Pending => self.live.read_pending(at, data),
            }
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        self.live.counters.bar_writes.fetch_add(1, Ordering::Relaxed);
        for (place, target, at) in self.runs(offset, data.len()) {
            let Some(data) = data.get(place) else { continue };
            match target {
                Target::Device => self.live.write_bar(self.bar, at, data),
                Target::Table => self.live.write_table(at, data),
                // The pending bits are read only (PCI 3.0, 6.8.2.10).
                Target::Pending => {}
            }
        }
    }
}
