//! A PCI function that is not there.

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::EventFd;

use super::invalid;
use super::line::Line;
use super::memory::Memory;
use super::shape::Shape;
use super::vectors::{Fired, Vectors};
use crate::mapping::Mapping;
use crate::pci::index;
use crate::vfio::{
    Area, Device, DeviceInfo, DeviceKind, InterruptInfo, RegionInfo, ResetPeer, VfioError,
};

const COMMAND: usize = 4;
const STATUS: usize = 6;

/// A function of the given [`Shape`].
#[derive(Debug)]
pub struct FakeFunction {
    bars: [Option<Memory>; 6],
    /// Table and pending bits: BAR, then bytes.
    msix_areas: Option<[(u8, Area); 2]>,
    resettable: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    config: Vec<u8>,
    intx: Option<Line>,
    msi: Vectors,
    msix: Vectors,
    errors: Option<EventFd>,
    requests: Option<EventFd>,
    gone: bool,
    resets: u32,
    bus_resets: u32,
    peers: Vec<ResetPeer>,
}

impl FakeFunction {
    /// A function that was just opened.
    ///
    /// # Errors
    /// No memory can be had for its BARs.
    pub fn new(shape: &Shape) -> std::io::Result<Self> {
        let config = configuration(shape);
        let find = |id: u8| shape.capabilities.iter().position(|(found, _)| *found == id);
        let control = |id: u8| {
            let (_, bytes) = shape.capabilities.get(find(id)?)?;
            Some((u16::from_le_bytes([*bytes.first()?, *bytes.get(1)?]), bytes))
        };
        let msi = control(5).map_or(0, |(control, _)| 1 << (control >> 1 & 7));
        let msix = control(0x11).map_or(0, |(control, _)| u32::from(control & 0x7ff) + 1);
        let msix_areas = control(0x11).and_then(|(_, bytes)| {
            let place = |at: usize, size| {
                let register = u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?);
                let area = Area { offset: u64::from(register & !7), size };
                Some((u8::try_from(register & 7).ok()?, area))
            };
            Some([place(2, u64::from(msix) * 16)?, place(6, u64::from(msix).div_ceil(64) * 8)?])
        });
        let mut bars = [const { None }; 6];
        for (memory, bar) in bars.iter_mut().zip(&shape.bars) {
            if let Some(bar) = bar {
                *memory = Some(Memory::new(bar.size, bar.mappable.clone())?);
            }
        }
        let available = shape.available_vectors;
        Ok(Self {
            bars,
            msix_areas,
            resettable: shape.resettable,
            state: Mutex::new(State {
                config,
                intx: shape.intx.then(Line::default),
                msi: Vectors::new(msi, false, available, false),
                msix: Vectors::new(msix, shape.msix_grows, available, true),
                errors: None,
                requests: None,
                gone: false,
                resets: 0,
                bus_resets: 0,
                peers: Vec::new(),
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes bytes of configuration space, as a hostile device can.
    pub fn poke(&self, offset: usize, bytes: &[u8]) {
        let mut state = self.state();
        for (at, byte) in (offset..).zip(bytes) {
            if let Some(place) = state.config.get_mut(at) {
                *place = *byte;
            }
        }
    }

    /// The byte of configuration space at `offset`, as the device has it.
    #[must_use]
    pub fn peek(&self, offset: usize) -> u8 {
        self.state().config.get(offset).copied().unwrap_or(0xff)
    }

    /// COMMAND, as the device has it.
    #[must_use]
    pub fn command(&self) -> u16 {
        u16::from_le_bytes([self.peek(COMMAND), self.peek(COMMAND + 1)])
    }

    /// The device sends MSI message `n`.
    pub fn fire_msi(&self, n: u32) -> Fired {
        self.state().msi.fire(n)
    }

    /// The device sends MSI-X vector `n`.
    pub fn fire_msix(&self, n: u32) -> Fired {
        self.state().msix.fire(n)
    }

    /// MSI-X vectors that the kernel has for the device now; 0: disabled.
    #[must_use]
    pub fn msix_given(&self) -> usize {
        self.state().msix.given()
    }

    /// The device asserts INTx, or no longer.
    pub fn assert_intx(&self, asserted: bool) {
        if let Some(line) = &mut self.state().intx {
            line.assert(asserted);
        }
    }

    /// Does what the kernel does when a resample eventfd was signalled.
    pub fn settle(&self) {
        if let Some(line) = &mut self.state().intx {
            line.settle();
        }
    }

    /// The kernel reports an uncorrectable error of the device.
    pub fn fail(&self) {
        if let Some(errors) = &self.state().errors {
            let _ = errors.write(1);
        }
    }

    /// The host wants the device back.
    pub fn ask_back(&self) {
        if let Some(requests) = &self.state().requests {
            let _ = requests.write(1);
        }
    }

    /// The device is pulled out.
    pub fn vanish(&self) {
        self.state().gone = true;
    }

    /// What a bus reset would reset; nothing at first, and no bus reset then.
    pub fn set_reset_set(&self, peers: Vec<ResetPeer>) {
        self.state().peers = peers;
    }

    /// Resets so far, alone and with the bus.
    #[must_use]
    pub fn resets(&self) -> (u32, u32) {
        let state = self.state();
        (state.resets, state.bus_resets)
    }

    /// Eventfds that the device was given and still has.
    #[must_use]
    pub fn triggers(&self) -> usize {
        let state = self.state();
        let notices = [&state.errors, &state.requests].into_iter().flatten().count();
        let line = state.intx.as_ref().map_or(0, Line::fds);
        notices + line + state.msi.fds() + state.msix.fds()
    }

    /// Mappings of BARs that somebody still has.
    #[must_use]
    pub fn mappings(&self) -> usize {
        self.bars.iter().flatten().map(Memory::mappings).sum()
    }

    fn bar(&self, region: u32) -> Option<&Memory> {
        self.bars.get(usize::try_from(region).ok()?)?.as_ref()
    }

    /// What the kernel answers for bytes of the MSI-X table; the pending bits are the device's.
    fn overlay(&self, region: u32, offset: u64, data: &mut [u8]) {
        let Some([table, pending]) = self.msix_areas else { return };
        let state = self.state();
        for (byte, at) in data.iter_mut().zip(offset..) {
            let inside = |(bar, area): (u8, Area)| {
                let within = (area.offset..area.offset + area.size).contains(&at);
                (u32::from(bar) == region && within).then(|| at - area.offset)
            };
            if inside(table).is_some() {
                *byte = 0xff;
            }
            if let Some(at) = inside(pending).and_then(|at| usize::try_from(at).ok()) {
                let bits = (0..8).filter(|bit| state.msix.pending.get(at * 8 + bit) == Some(&true));
                *byte = bits.fold(0, |byte, bit| byte | 1 << bit);
            }
        }
    }
}

impl State {
    fn intx_disabled(&self) -> bool {
        self.config.get(COMMAND + 1).is_some_and(|high| high & 4 != 0)
    }

    fn write_config(&mut self, at: usize, byte: u8) {
        let Some(place) = self.config.get_mut(at) else { return };
        match at {
            // IDs, class, header type, BARs (which the kernel keeps to itself), the list.
            ..=3 | 8..=11 | 14 | 0x10..=0x3b | 0x3d => {}
            // Reserved.
            5 => *place = byte & 7,
            _ if at == STATUS + 1 => *place &= !byte,
            STATUS => {}
            _ => *place = byte,
        }
        let disabled = self.intx_disabled();
        if let Some(line) = &mut self.intx {
            line.set_disabled(disabled);
        }
    }
}

impl Device for FakeFunction {
    fn info(&self) -> DeviceInfo {
        DeviceInfo { kind: DeviceKind::Pci, resettable: self.resettable, regions: 9, interrupts: 5 }
    }

    fn region(&self, index: u32) -> Result<RegionInfo, VfioError> {
        if index == index::CONFIG {
            let size = u64::try_from(self.state().config.len()).unwrap_or(0);
            return Ok(RegionInfo { size, readable: true, writable: true, ..Default::default() });
        }
        if index >= 9 {
            return Err(invalid(format!("region {index}")));
        }
        Ok(self.bar(index).map(|memory| memory.info.clone()).unwrap_or_default())
    }

    fn read(&self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), VfioError> {
        if self.state().gone {
            data.fill(0xff);
            return Ok(());
        }
        if region == index::CONFIG {
            let state = self.state();
            let bytes = usize::try_from(offset)
                .ok()
                .and_then(|offset| state.config.get(offset..offset.checked_add(data.len())?));
            let Some(bytes) = bytes else {
                data.fill(0xff);
                return Err(VfioError::OutOfBounds { what: format!("configuration {offset:#x}") });
            };
            data.copy_from_slice(bytes);
            return Ok(());
        }
        let memory = self.bar(region).ok_or_else(|| invalid(format!("region {region}")))?;
        memory.read(offset, data)?;
        self.overlay(region, offset, data);
        Ok(())
    }

    fn write(&self, region: u32, offset: u64, data: &[u8]) -> Result<(), VfioError> {
        let mut state = self.state();
        if state.gone {
            return Ok(());
        }
        if region == index::CONFIG {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            if start.checked_add(data.len()).is_none_or(|end| end > state.config.len()) {
                return Err(VfioError::OutOfBounds { what: format!("configuration {offset:#x}") });
            }
            for (at, byte) in (start..).zip(data) {
                state.write_config(at, *byte);
            }
            return Ok(());
        }
        drop(state);
        let memory = self.bar(region).ok_or_else(|| invalid(format!("region {region}")))?;
        memory.write(offset, data)
    }

    fn map(&self, region: u32, area: Area) -> Result<Arc<Mapping>, VfioError> {
        self.bar(region).ok_or_else(|| invalid(format!("region {region}")))?.map(area)
    }

    fn interrupt(&self, index: u32) -> Result<InterruptInfo, VfioError> {
        let state = self.state();
        let vectors = |vectors: &Vectors| InterruptInfo {
            count: vectors.count,
            eventfd: true,
            no_resize: !vectors.grows,
            ..Default::default()
        };
        match index {
            index::INTX => Ok(InterruptInfo {
                count: state.intx.is_some().into(),
                eventfd: true,
                maskable: true,
                automasked: true,
                no_resize: false,
            }),
            index::MSI => Ok(vectors(&state.msi)),
            index::MSIX => Ok(vectors(&state.msix)),
            index::ERROR | index::REQUEST => {
                Ok(InterruptInfo { count: 1, eventfd: true, ..Default::default() })
            }
            _ => Err(invalid(format!("interrupt {index}"))),
        }
    }

    fn set_triggers(
        &self,
        index: u32,
        start: u32,
        triggers: &[Option<&EventFd>],
    ) -> Result<(), VfioError> {
        let copies = triggers.iter().map(|trigger| trigger.map(EventFd::try_clone).transpose());
        let mut copies = copies
            .collect::<std::io::Result<Vec<_>>>()
            .map_err(|source| VfioError::Refused { what: "an eventfd".into(), source })?;
        let mut state = self.state();
        let line = state.intx.as_ref().is_some_and(Line::has_trigger);
        // One kind at a time.
        let others = match index {
            index::INTX => state.msi.enabled() || state.msix.enabled(),
            index::MSI => line || state.msix.enabled(),
            index::MSIX => line || state.msi.enabled(),
            _ => false,
        };
        if others {
            return Err(invalid(format!("interrupt {index} while another kind is enabled")));
        }
        match index {
            index::MSI => state.msi.set(start, copies),
            index::MSIX => state.msix.set(start, copies),
            index::INTX | index::ERROR | index::REQUEST => {
                let (0, Some(trigger), true) = (start, copies.pop(), copies.is_empty()) else {
                    return Err(invalid(format!("interrupt {index} has one trigger")));
                };
                match index {
                    index::ERROR => state.errors = trigger,
                    index::REQUEST => state.requests = trigger,
                    _ => {
                        let line = state.intx.as_mut().ok_or_else(|| invalid("INTx"))?;
                        line.set_trigger(trigger);
                    }
                }
                Ok(())
            }
            _ => Err(invalid(format!("interrupt {index}"))),
        }
    }

    fn set_resample(
        &self,
        index: u32,
        start: u32,
        resample: Option<&EventFd>,
    ) -> Result<(), VfioError> {
        let mut state = self.state();
        let copy = resample.map(EventFd::try_clone).transpose();
        let copy = copy.map_err(|source| VfioError::Refused { what: "eventfd".into(), source })?;
        match &mut state.intx {
            Some(line) if (index, start) == (index::INTX, 0) && line.has_trigger() => {
                line.set_resample(copy);
                Ok(())
            }
            _ => Err(invalid(format!("resampling interrupt {index}"))),
        }
    }

    fn set_mask(&self, index: u32, start: u32, masked: bool) -> Result<(), VfioError> {
        match &mut self.state().intx {
            Some(line) if (index, start) == (index::INTX, 0) => {
                line.set_masked(masked);
                Ok(())
            }
            _ => Err(invalid(format!("masking interrupt {index}"))),
        }
    }

    fn disable(&self, index: u32) -> Result<(), VfioError> {
        let mut state = self.state();
        match index {
            index::INTX => {
                let line = state.intx.as_mut().ok_or_else(|| invalid("INTx"))?;
                line.clear();
            }
            index::MSI if state.msi.enabled() => state.msi.clear(),
            index::MSIX if state.msix.enabled() => state.msix.clear(),
            index::ERROR => state.errors = None,
            index::REQUEST => state.requests = None,
            _ => return Err(invalid(format!("interrupt {index} is not enabled"))),
        }
        Ok(())
    }

    fn reset(&self) -> Result<(), VfioError> {
        let mut state = self.state();
        if state.gone {
            return Err(VfioError::Gone { device: "the fake".into() });
        }
        if !self.resettable {
            return Err(invalid("a reset of the function alone"));
        }
        state.resets += 1;
        Ok(())
    }

    fn reset_set(&self) -> Result<Vec<ResetPeer>, VfioError> {
        let peers = self.state().peers.clone();
        if peers.is_empty() { Err(invalid("no bus reset")) } else { Ok(peers) }
    }

    fn reset_bus(&self, _: &[BorrowedFd<'_>]) -> Result<(), VfioError> {
        self.state().bus_resets += 1;
        Ok(())
    }
}

/// Configuration space as the device has it before anybody wrote to it.
fn configuration(shape: &Shape) -> Vec<u8> {
    let express = shape.capabilities.iter().any(|(id, _)| *id == 0x10);
    let mut config = vec![0; if express { 4096 } else { 256 }];
    config[0..2].copy_from_slice(&shape.id.0.to_le_bytes());
    config[2..4].copy_from_slice(&shape.id.1.to_le_bytes());
    let [class, subclass, interface] = shape.class;
    config[8..12].copy_from_slice(&[1, interface, subclass, class]);
    for (bar, at) in shape.bars.iter().zip((0x10..).step_by(4)) {
        if let Some(bar) = bar {
            config[at..at + 4].copy_from_slice(&bar.register().to_le_bytes());
        }
    }
    config[0x3d] = shape.intx.into();
    let (mut link, mut at) = (0x34, 0x40);
    for (id, bytes) in &shape.capabilities {
        let end = at + 2 + bytes.len();
        let (Ok(place), true) = (u8::try_from(at), end <= 256) else { break };
        config[STATUS] = 0x10;
        config[link] = place;
        config[at] = *id;
        config[at + 2..end].copy_from_slice(bytes);
        (link, at) = (at + 1, end.next_multiple_of(4));
    }
    if express {
        let mut at = 0x100_usize;
        for (n, (id, bytes)) in shape.extended.iter().enumerate() {
            let end = (at + 4 + bytes.len()).next_multiple_of(4);
            if end > 4096 {
                break;
            }
            let next = if n + 1 < shape.extended.len() { end } else { 0 };
            let header = u32::from(*id) | 1 << 16 | u32::try_from(next).unwrap_or(0) << 20;
            config[at..at + 4].copy_from_slice(&header.to_le_bytes());
            config[at + 4..at + 4 + bytes.len()].copy_from_slice(bytes);
            at = end;
        }
    }
    config
}
