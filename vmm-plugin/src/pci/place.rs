//! BARs in the guest's address space: one trap over all of each, direct pages over that.

use std::sync::Arc;

use super::area::direct_areas;
use super::bar::Bar;
use super::report::{Report, Reports, chain};
use crate::mapping::Mapping;
use crate::vfio::{Area, Device, RegionInfo};
use crate::vmm::{GuestRange, Seam, Slot, Space, Trap};

/// A BAR, what of it can be direct, and where it is now.
#[derive(Debug)]
pub(super) struct PlacedBar {
    pub bar: Bar,
    direct: Vec<(Area, Arc<Mapping>)>,
    writable: bool,
    /// Bytes that the device has; the BAR may be longer.
    size: u64,
    placed: Option<Placed>,
    /// The address that the last report was about.
    reported: Option<u64>,
}

#[derive(Debug)]
struct Placed {
    range: GuestRange,
    slots: Vec<Slot>,
}

impl PlacedBar {
    /// Maps what can be direct; what cannot be mapped after all is trapped.
    pub fn new(
        bar: Bar,
        region: &RegionInfo,
        trapped: &[Area],
        page: u64,
        device: &dyn Device,
        reports: &Reports,
    ) -> Self {
        let mut direct = Vec::new();
        let areas = if bar.space() == Space::Mmio && bar.size >= page {
            direct_areas(region, trapped, page)
        } else {
            Vec::new()
        };
        for area in areas {
            match device.map(bar.index.into(), area) {
                Ok(mapping) => direct.push((area, mapping)),
                Err(error) => reports.push(Report::Trapped {
                    bar: bar.index,
                    offset: area.offset,
                    why: chain(&error),
                }),
            }
        }
        Self {
            bar,
            direct,
            writable: region.writable,
            size: region.size,
            placed: None,
            reported: None,
        }
    }

    /// Bytes that the device has.
    pub fn region_size(&self) -> u64 {
        self.size
    }

    /// Where it is.
    pub fn range(&self) -> Option<GuestRange> {
        self.placed.as_ref().map(|placed| placed.range)
    }

    /// Takes it from where it is.
    pub fn remove(&mut self, seam: &Seam, reports: &Reports) {
        let Some(placed) = self.placed.take() else { return };
        for slot in placed.slots {
            if let Err(error) = seam.slots.unmap(slot) {
                reports.push(Report::refused(&error));
            }
        }
        if let Err(error) = seam.bus.remove(placed.range) {
            reports.push(Report::refused(&error));
        }
    }

    /// Puts it at `range`; it is nowhere before.
    pub fn place(
        &mut self,
        range: GuestRange,
        trap: Arc<dyn Trap>,
        seam: &Seam,
        reports: &Reports,
    ) {
        if let Err(error) = seam.bus.place(range, trap) {
            self.report(range.base, chain(&error), reports);
            return;
        }
        let mut slots = Vec::new();
        for (area, mapping) in &self.direct {
            // Within the range, which does not wrap.
            let guest = range.base + area.offset;
            match seam.slots.map(guest, mapping.clone(), self.writable) {
                Ok(slot) => slots.push(slot),
                // Accesses to it are trapped: slow, but they work.
                Err(error) => reports.push(Report::Trapped {
                    bar: self.bar.index,
                    offset: area.offset,
                    why: chain(&error),
                }),
            }
        }
        self.placed = Some(Placed { range, slots });
        self.reported = None;
    }

    /// Says once for each address why the BAR is not there.
    pub fn report(&mut self, address: u64, why: String, reports: &Reports) {
        if self.reported.replace(address) != Some(address) {
            reports.push(Report::NotPlaced { bar: self.bar.index, address, why });
        }
    }

    /// Forgets the mappings; the BAR is nowhere.
    pub fn forget(&mut self) {
        self.direct.clear();
    }
}
