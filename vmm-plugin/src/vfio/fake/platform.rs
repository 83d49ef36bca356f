//! A device of a device tree that is not there.

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::EventFd;

use super::invalid;
use super::line::Line;
use super::memory::Memory;
use crate::mapping::Mapping;
use crate::vfio::{
    Area, Device, DeviceInfo, DeviceKind, InterruptInfo, RegionInfo, ResetPeer, VfioError,
};

/// A region of registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeRegion {
    /// Length in bytes.
    pub size: u64,
    /// What the kernel lets map.
    pub mappable: Vec<Area>,
}

impl FakeRegion {
    /// A region that can be mapped as a whole.
    #[must_use]
    pub fn mappable(size: u64) -> Self {
        Self { size, mappable: vec![Area { offset: 0, size }] }
    }
}

/// An interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FakeInterrupt {
    /// Level-triggered: masks itself each time it comes.
    Level,
    /// Edge-triggered.
    Edge,
}

/// A device with these regions and interrupts, in the order of its node.
#[derive(Debug)]
pub struct FakePlatform {
    regions: Vec<Memory>,
    kinds: Vec<FakeInterrupt>,
    resettable: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    lines: Vec<Line>,
    resets: u32,
}

impl FakePlatform {
    /// A device that was just opened.
    ///
    /// # Errors
    /// No memory can be had for its regions.
    pub fn new(
        regions: &[FakeRegion],
        interrupts: &[FakeInterrupt],
        resettable: bool,
    ) -> std::io::Result<Self> {
        let memory = |region: &FakeRegion| Memory::new(region.size, region.mappable.clone());
        let regions = regions.iter().map(memory).collect::<std::io::Result<_>>()?;
        let lines = interrupts.iter().map(|_| Line::default()).collect();
        let state = Mutex::new(State { lines, resets: 0 });
        Ok(Self { regions, kinds: interrupts.to_vec(), resettable, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device asserts interrupt `index`, or no longer. An edge-triggered one comes once.
    pub fn assert(&self, index: usize, asserted: bool) {
        let edge = self.kinds.get(index) == Some(&FakeInterrupt::Edge);
        if let Some(line) = self.state().lines.get_mut(index) {
            line.assert(asserted);
            if edge {
                line.asserted = false;
                line.masked = false;
            }
        }
    }

    /// Interrupt `index` is masked: it came, and nobody has unmasked it since.
    #[must_use]
    pub fn masked(&self, index: usize) -> bool {
        self.state().lines.get(index).is_some_and(|line| line.masked)
    }

    /// Does what the kernel does when resample eventfds were signalled.
    pub fn settle(&self) {
        self.state().lines.iter_mut().for_each(Line::settle);
    }

    /// Eventfds that the device was given and still has.
    #[must_use]
    pub fn triggers(&self) -> usize {
        self.state().lines.iter().map(Line::fds).sum()
    }

    /// Mappings of regions that somebody still has.
    #[must_use]
    pub fn mappings(&self) -> usize {
        self.regions.iter().map(Memory::mappings).sum()
    }

    /// Resets so far.
    #[must_use]
    pub fn resets(&self) -> u32 {
        self.state().resets
    }

    fn memory(&self, region: u32) -> Result<&Memory, VfioError> {
        let found = usize::try_from(region).ok().and_then(|region| self.regions.get(region));
        found.ok_or_else(|| invalid(format!("region {region}")))
    }

    fn with_line(
        &self,
        index: u32,
        start: u32,
        act: impl FnOnce(&mut Line, FakeInterrupt) -> Result<(), VfioError>,
    ) -> Result<(), VfioError> {
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        let mut state = self.state();
        match (state.lines.get_mut(at), self.kinds.get(at)) {
            (Some(line), Some(kind)) if start == 0 => act(line, *kind),
            _ => Err(invalid(format!("interrupt {index}, number {start}"))),
        }
    }
}

impl Device for FakePlatform {
    fn info(&self) -> DeviceInfo {
        DeviceInfo {
            kind: DeviceKind::Platform,
            resettable: self.resettable,
            regions: u32::try_from(self.regions.len()).unwrap_or(u32::MAX),
            interrupts: u32::try_from(self.kinds.len()).unwrap_or(u32::MAX),
        }
    }

    fn region(&self, index: u32) -> Result<RegionInfo, VfioError> {
        Ok(self.memory(index)?.info.clone())
    }

    fn read(&self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), VfioError> {
        self.memory(region)?.read(offset, data)
    }

    fn write(&self, region: u32, offset: u64, data: &[u8]) -> Result<(), VfioError> {
        self.memory(region)?.write(offset, data)
    }

    fn map(&self, region: u32, area: Area) -> Result<Arc<Mapping>, VfioError> {
        self.memory(region)?.map(area)
    }

    fn interrupt(&self, index: u32) -> Result<InterruptInfo, VfioError> {
        let kind = usize::try_from(index).ok().and_then(|index| self.kinds.get(index));
        let level = match kind {
            Some(kind) => *kind == FakeInterrupt::Level,
            None => return Err(invalid(format!("interrupt {index}"))),
        };
        Ok(InterruptInfo {
            count: 1,
            eventfd: true,
            maskable: level,
            automasked: level,
            no_resize: false,
        })
    }

    fn set_triggers(
        &self,
        index: u32,
        start: u32,
        triggers: &[Option<&EventFd>],
    ) -> Result<(), VfioError> {
        let [trigger] = triggers else { return Err(invalid("an interrupt has one trigger")) };
        let copy = trigger.map(EventFd::try_clone).transpose();
        let copy = copy.map_err(|source| VfioError::Refused { what: "eventfd".into(), source })?;
        self.with_line(index, start, |line, _| {
            line.set_trigger(copy);
            Ok(())
        })
    }

    fn set_resample(
        &self,
        index: u32,
        start: u32,
        resample: Option<&EventFd>,
    ) -> Result<(), VfioError> {
        let copy = resample.map(EventFd::try_clone).transpose();
        let copy = copy.map_err(|source| VfioError::Refused { what: "eventfd".into(), source })?;
        self.with_line(index, start, |line, kind| match kind {
            FakeInterrupt::Level => {
                line.set_resample(copy);
                Ok(())
            }
            FakeInterrupt::Edge => Err(invalid("an edge-triggered interrupt is not resampled")),
        })
    }

    fn set_mask(&self, index: u32, start: u32, masked: bool) -> Result<(), VfioError> {
        self.with_line(index, start, |line, kind| match kind {
            FakeInterrupt::Level => {
                line.set_masked(masked);
                Ok(())
            }
            FakeInterrupt::Edge => Err(invalid("an edge-triggered interrupt is not masked")),
        })
    }

    fn disable(&self, index: u32) -> Result<(), VfioError> {
        self.with_line(index, 0, |line, _| {
            line.clear();
            Ok(())
        })
    }

    fn reset(&self) -> Result<(), VfioError> {
        if !self.resettable {
            return Err(invalid("a reset"));
        }
        self.state().resets += 1;
        Ok(())
    }

    fn reset_set(&self) -> Result<Vec<ResetPeer>, VfioError> {
        Err(invalid("a platform device is on no bus"))
    }

    fn reset_bus(&self, _: &[BorrowedFd<'_>]) -> Result<(), VfioError> {
        Err(invalid("a platform device is on no bus"))
    }
}
