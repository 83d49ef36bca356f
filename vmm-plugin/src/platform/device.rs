//! A platform device in a guest.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::host_node::HostNode;
use super::node::{NodeInterrupt, NodeRegion, PlatformNode, Trigger};
use super::placement::Placement;
use crate::line::{Line, LineError};
use crate::pci::direct_areas;
use crate::vfio::{Device, DeviceKind, VfioError};
use crate::vmm::{GuestRange, Seam, SeamError, Slot, Space, Trap};

/// Regions and interrupts of a device tree's node are few.
const MOST: u32 = 64;

/// A device of the host's that a guest has.
///
/// Every method can be called from any thread. Dropping it is [`PlatformDevice::detach`].
#[derive(Debug)]
pub struct PlatformDevice {
    device: Arc<dyn Device>,
    seam: Seam,
    node: PlatformNode,
    /// The VMM's lines, in VFIO's order.
    lines: Vec<(u32, Trigger)>,
    trapped: Arc<Trapped>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    slots: Vec<Slot>,
    traps: Vec<GuestRange>,
    lines: Vec<Line>,
    detached: bool,
}

/// What traps share with the device.
#[derive(Debug, Default)]
struct Trapped {
    accesses: AtomicU64,
    detached: AtomicBool,
}

/// Why a device was not attached. Nothing of it is left then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// A PCI function: see [`crate::pci`].
    #[error("this is no platform device")]
    NotPlatform,
    /// More or fewer places than the device has regions or interrupts.
    #[error("the device has {has} {what}, and places were given for {given}")]
    Places {
        /// `regions` or `interrupts`.
        what: &'static str,
        /// How many the device has.
        has: u32,
        /// How many were given.
        given: usize,
    },
    /// VFIO refused.
    #[error(transparent)]
    Vfio(#[from] VfioError),
    /// The VMM refused.
    #[error(transparent)]
    Seam(#[from] SeamError),
}

/// Why an interrupt does not come. None does then.
#[derive(Debug, thiserror::Error)]
#[error("interrupt {index} ({name}) cannot be routed")]
pub struct StartError {
    index: u32,
    name: String,
    source: LineError,
}

impl PlatformDevice {
    /// Maps the device's registers into the guest. Its interrupts begin with
    /// [`PlatformDevice::start`].
    ///
    /// # Errors
    /// Not as many places as the device has regions and interrupts, or VFIO or the VMM refuse.
    pub fn attach(
        device: Arc<dyn Device>,
        host: HostNode,
        symbol: &str,
        placement: &Placement,
        seam: Seam,
    ) -> Result<Self, AttachError> {
        let info = device.info();
        if info.kind != DeviceKind::Platform {
            return Err(AttachError::NotPlatform);
        }
        let fit = |what, has: u32, given: usize| {
            let equal = usize::try_from(has).is_ok_and(|has| has == given) && has <= MOST;
            if equal { Ok(()) } else { Err(AttachError::Places { what, has, given }) }
        };
        fit("regions", info.regions, placement.regions.len())?;
        fit("interrupts", info.interrupts, placement.lines.len())?;
        let mut names = host.interrupt_names.into_iter();
        let mut interrupts = Vec::new();
        let mut lines = Vec::new();
        for (index, place) in (0..info.interrupts).zip(&placement.lines) {
            let level = device.interrupt(index)?.automasked;
            let trigger = if level { Trigger::Level } else { Trigger::Edge };
            interrupts.push(NodeInterrupt { name: names.next(), spi: place.spi, trigger });
            lines.push((place.line, trigger));
        }
        let mut this = Self {
            device,
            seam,
            node: PlatformNode {
                symbol: symbol.to_owned(),
                compatible: host.compatible,
                regions: Vec::new(),
                interrupts,
                dma_coherent: host.dma_coherent,
            },
            lines,
            trapped: Arc::default(),
            state: Mutex::default(),
        };
        let mut names = host.region_names.into_iter();
        for (index, base) in (0..info.regions).zip(&placement.regions) {
            // What was placed before goes when `this` is dropped.
            let region = this.place(index, *base, names.next())?;
            this.node.regions.push(region);
        }
        Ok(this)
    }

    /// Places region `index` at `base`: a trap over all of it, direct pages over that.
    fn place(
        &self,
        index: u32,
        base: u64,
        name: Option<String>,
    ) -> Result<NodeRegion, AttachError> {
        let info = self.device.region(index)?;
        let range = GuestRange { space: Space::Mmio, base, size: info.size };
        if info.size == 0 || base.checked_add(info.size).is_none() {
            let what = format!("region {index} of {:#x} bytes at {base:#x}", info.size);
            return Err(VfioError::OutOfBounds { what }.into());
        }
        let trap = RegionTrap {
            device: self.device.clone(),
            index,
            size: info.size,
            trapped: self.trapped.clone(),
        };
        let mut state = self.state();
        self.seam.bus.place(range, Arc::new(trap))?;
        state.traps.push(range);
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        for area in direct_areas(&info, &[], page) {
            let mapping = self.device.map(index, area)?;
            state.slots.push(self.seam.slots.map(base + area.offset, mapping, info.writable)?);
        }
        Ok(NodeRegion { name, base, size: info.size })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the guest's device tree says about the device.
    #[must_use]
    pub fn node(&self) -> &PlatformNode {
        &self.node
    }

    /// Routes interrupts, then lets the device signal them. For a VMM to call when the guest's
    /// interrupt controller is there, before its processors run; once more changes nothing.
    ///
    /// # Errors
    /// One cannot be routed; none is then.
    pub fn start(&self) -> Result<(), StartError> {
        let mut state = self.state();
        if state.detached || !state.lines.is_empty() {
            return Ok(());
        }
        let device = self.device.as_ref();
        let interrupts = self.seam.interrupts.as_ref();
        for (index, (line, trigger)) in (0..).zip(&self.lines) {
            let routed = match trigger {
                Trigger::Level => Line::level(device, interrupts, index, *line),
                Trigger::Edge => Line::edge(device, interrupts, index, *line),
            };
            match routed {
                Ok(line) => state.lines.push(line),
                Err(source) => {
                    for line in state.lines.drain(..) {
                        // The first error says more.
                        let _ = line.quiet(device);
                    }
                    let at = usize::try_from(index).unwrap_or(0);
                    let name = self.node.interrupts.get(at).and_then(|node| node.name.clone());
                    let name = name.unwrap_or_else(|| "without a name".into());
                    return Err(StartError { index, name, source });
                }
            }
        }
        Ok(())
    }

    /// Makes every level-triggered interrupt that is still asserted come again: whatever came
    /// while the guest could not hear.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn unmask(&self) -> Result<(), VfioError> {
        let state = self.state();
        let device = self.device.as_ref();
        let mut result = Ok(());
        for line in &state.lines {
            result = result.and(line.unmask(device));
        }
        result
    }

    /// Accesses to registers that were trapped, since the device was attached.
    #[must_use]
    pub fn trapped_accesses(&self) -> u64 {
        self.trapped.accesses.load(Ordering::Relaxed)
    }

    /// Resets the device, for a reboot of the guest: interrupts are quiet meanwhile and begin
    /// again.
    ///
    /// # Errors
    /// It has no reset (`vfio-platform` needs a reset driver for it), or its interrupts do not
    /// come back.
    pub fn reset(&self) -> Result<(), VfioError> {
        let lines = std::mem::take(&mut self.state().lines);
        let stopped = !lines.is_empty();
        let mut quiet = Ok(());
        for line in lines {
            quiet = quiet.and(line.quiet(self.device.as_ref()));
        }
        quiet?;
        let result = self.device.reset();
        if stopped {
            self.start().map_err(|error| VfioError::Refused {
                what: "interrupts after a reset".into(),
                source: std::io::Error::other(error),
            })?;
        }
        result
    }

    /// Takes the device from the guest: interrupts, then registers. Says what could not be
    /// undone.
    pub fn detach(&self) -> Vec<String> {
        let mut state = self.state();
        let mut failed = Vec::new();
        if std::mem::replace(&mut state.detached, true) {
            return failed;
        }
        self.trapped.detached.store(true, Ordering::Release);
        for line in state.lines.drain(..) {
            failed.extend(line.quiet(self.device.as_ref()).err().map(|error| error.to_string()));
        }
        for slot in state.slots.drain(..) {
            failed.extend(self.seam.slots.unmap(slot).err().map(|error| error.to_string()));
        }
        for range in state.traps.drain(..) {
            failed.extend(self.seam.bus.remove(range).err().map(|error| error.to_string()));
        }
        failed
    }
}

impl Drop for PlatformDevice {
    fn drop(&mut self) {
        for error in self.detach() {
            tracing::error!(%error, "a platform device was not detached whole");
        }
    }
}

/// Answers for one region.
struct RegionTrap {
    device: Arc<dyn Device>,
    index: u32,
    size: u64,
    trapped: Arc<Trapped>,
}

impl RegionTrap {
    /// How many of `length` bytes from `offset` the device has; none once it is detached.
    fn inside(&self, offset: u64, length: usize) -> usize {
        self.trapped.accesses.fetch_add(1, Ordering::Relaxed);
        if self.trapped.detached.load(Ordering::Acquire) {
            return 0;
        }
        usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX).min(length)
    }
}

impl Trap for RegionTrap {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let inside = self.inside(offset, data.len());
        data.fill(0xff);
        let (within, _) = data.split_at_mut(inside);
        if inside > 0 && self.device.read(self.index, offset, within).is_err() {
            within.fill(0xff);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let inside = self.inside(offset, data.len());
        if inside > 0 {
            // Nobody waits for an answer; a device that is gone shows when it is read.
            let _ = self.device.write(self.index, offset, &data[..inside]);
        }
    }
}
