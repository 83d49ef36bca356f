//! The card as a PCI device (virtio 1.2, 4.1 and 5.1): an image of its configuration space, two
//! BARs, and three MSI-X vectors whose eventfds go to the link.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use vmm_plugin::mapping::Mapping;
use vmm_plugin::vfio::{
    Area, Device, DeviceInfo, DeviceKind, InterruptInfo, RegionInfo, ResetPeer, VfioError,
};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::link::{Link, Ring};
use super::registers::{Change, LENGTH, QUEUES, Registers};
use crate::memory::Memory;

/// VFIO's numbers for configuration space and MSI-X, and how many there are.
const CONFIG_REGION: u32 = 7;
const REGIONS: u32 = 9;
const MSIX: u32 = 2;
const INTERRUPTS: u32 = 5;

/// BAR 0, a page for each structure: common, ISR, device configuration, notification.
pub const REGISTERS_SIZE: u64 = 0x4000;
const ISR: u32 = 0x1000;
const DEVICE: u32 = 0x2000;
/// Where queue 0 is notified in BAR 0.
pub const NOTIFY: u32 = 0x3000;
/// From there to queue 1, in bytes.
pub const NOTIFY_STRIDE: u8 = 4;
/// BAR 1: MSI-X's table and, from [`PENDING`] on, its pending bits; the plugin has both.
const MSIX_SIZE: u64 = 0x1000;
const PENDING: u32 = 0x800;
/// A vector for each queue, and one for changes of the configuration.
const VECTORS: u8 = 3;
/// Device configuration: VIRTIO_NET_S_LINK_UP.
const LINK_UP: u8 = 1;

/// A network card of ours: `SOCKET,mac=MAC[,mtu=MTU]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkOptions {
    /// The link's vhost-user socket.
    pub socket: PathBuf,
    /// The card's address.
    pub mac: [u8; 6],
    /// Largest IP packet in bytes.
    pub mtu: u16,
}

impl FromStr for LinkOptions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = "expected SOCKET,mac=MAC[,mtu=MTU]";
        let (socket, rest) = text.split_once(",mac=").ok_or(shape)?;
        let (mac, mtu) = rest.split_once(",mtu=").unwrap_or((rest, "1500"));
        let bytes = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).ok());
        let bytes: Option<Vec<u8>> = bytes.collect();
        let mac = bytes.and_then(|bytes| <[u8; 6]>::try_from(bytes).ok());
        let mac = mac.filter(|mac| mac[0] & 1 == 0);
        Ok(Self {
            socket: Some(socket).filter(|path| !path.is_empty()).ok_or(shape)?.into(),
            mac: mac.ok_or("mac= wants a unicast address such as 02:00:00:00:00:01")?,
            mtu: mtu.parse().ok().filter(|mtu| *mtu >= 68).ok_or("mtu= wants 68 to 65535")?,
        })
    }
}

/// A network card.
pub struct Card {
    options: LinkOptions,
    config: [u8; 256],
    kicks: [EventFd; QUEUES],
    /// What a ring without a vector signals: nobody listens.
    unheard: EventFd,
    state: Mutex<State>,
}

struct State {
    registers: Registers,
    triggers: [Option<EventFd>; VECTORS as usize],
    link: Link,
}

impl std::fmt::Debug for Card {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Card({})", self.options.socket.display())
    }
}

impl Card {
    /// A card whose link is there already.
    pub fn new(options: &LinkOptions, memory: &Memory) -> Result<Self> {
        let link = Link::connect(&options.socket, memory.clone())?;
        let eventfd = || EventFd::new(EFD_NONBLOCK).context("Cannot make an eventfd");
        let registers = Registers::new(link.offered());
        Ok(Self {
            options: options.clone(),
            config: config_space(),
            kicks: [eventfd()?, eventfd()?],
            unheard: eventfd()?,
            state: Mutex::new(State {
                registers,
                triggers: [const { None }; VECTORS as usize],
                link,
            }),
        })
    }

    /// What notifies each queue.
    pub fn kicks(&self) -> Result<Vec<EventFd>> {
        let kicks = self.kicks.iter().map(EventFd::try_clone).collect::<Result<_, _>>();
        kicks.context("Cannot duplicate an eventfd")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The link's connection, to wait for its end; `None` while there is none.
    pub fn connection(&self) -> Option<std::os::fd::RawFd> {
        self.state().link.connection()
    }

    /// The connection ended: the guest is told that the cable is out.
    pub fn lost(&self) {
        let mut state = self.state();
        state.link.forget();
        state.signal(state.registers.config_vector());
    }

    /// Tries to have a link again, and to go on where its predecessor ended.
    pub fn reconnect(&self) -> Result<()> {
        let mut state = self.state();
        state.link.reconnect()?;
        if state.registers.running() {
            self.start(&mut state)?;
        }
        state.signal(state.registers.config_vector());
        Ok(())
    }

    fn start(&self, state: &mut State) -> Result<()> {
        let State { registers, triggers, link } = state;
        let queues = registers.queues().iter().zip(&self.kicks).zip(0..);
        let rings = queues.filter(|((queue, _), _)| queue.enabled).map(|((queue, kick), index)| {
            let trigger = triggers.get(usize::from(queue.vector)).and_then(Option::as_ref);
            Ring { index, queue: *queue, kick, call: trigger.unwrap_or(&self.unheard) }
        });
        let rings: Vec<_> = rings.collect();
        if !rings.iter().all(|ring| link.can_reach(&ring.queue)) {
            eprintln!("minivmm: {self:?}: the driver put a ring outside of memory");
            registers.need_reset();
            let vector = registers.config_vector();
            state.signal(vector);
            return Ok(());
        }
        link.start(registers.accepted(), &rings)
    }

    fn change(&self, state: &mut State, change: Change) {
        let result = match change {
            Change::Start => self.start(state),
            Change::Stop => state.link.stop(),
        };
        if let Err(error) = result {
            eprintln!("minivmm: {}: {error:#}", self.options.socket.display());
            state.link.hang_up();
        }
    }

    /// Addresses, link status, number of queue pairs and MTU (virtio 1.2, 5.1.4).
    fn device_configuration(&self, up: bool) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..6].copy_from_slice(&self.options.mac);
        bytes[6] = if up { LINK_UP } else { 0 };
        bytes[8] = 1;
        bytes[10..].copy_from_slice(&self.options.mtu.to_le_bytes());
        bytes
    }

    fn read_registers(&self, offset: u32, data: &mut [u8]) {
        let state = self.state();
        match offset {
            0..ISR => copy(&state.registers.bytes(), offset, data),
            DEVICE..NOTIFY => {
                let bytes = self.device_configuration(state.link.connection().is_some());
                copy(&bytes, offset - DEVICE, data);
            }
            // ISR: with MSI-X nobody needs it.
            _ => data.fill(0),
        }
    }

    fn write_registers(&self, offset: u32, data: &[u8]) {
        if let Some(offset) = offset.checked_sub(NOTIFY) {
            let queue = index(offset / u32::from(NOTIFY_STRIDE));
            if let Some(kick) = self.kicks.get(queue) {
                // It fails only when the counter is full: the link has enough to do.
                let _ = kick.write(1);
            }
            return;
        }
        let mut state = self.state();
        if let Some(change) = state.registers.write(index(offset), data) {
            self.change(&mut state, change);
        }
    }
}

impl State {
    fn signal(&self, vector: u16) {
        if let Some(Some(trigger)) = self.triggers.get(usize::from(vector)) {
            let _ = trigger.write(1);
        }
    }
}

/// Zeroes behind the end of what there is.
fn copy(bytes: &[u8], offset: u32, data: &mut [u8]) {
    let rest = bytes.iter().skip(index(offset)).copied().chain(std::iter::repeat(0));
    data.iter_mut().zip(rest).for_each(|(to, from)| *to = from);
}

fn index(offset: u32) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

impl Device for Card {
    fn info(&self) -> DeviceInfo {
        DeviceInfo {
            kind: DeviceKind::Pci,
            resettable: false,
            regions: REGIONS,
            interrupts: INTERRUPTS,
        }
    }

    fn region(&self, index: u32) -> Result<RegionInfo, VfioError> {
        let size = match index {
            0 => REGISTERS_SIZE,
            1 => MSIX_SIZE,
            CONFIG_REGION => 256,
            _ => 0,
        };
        let there = size > 0;
        Ok(RegionInfo { size, readable: there, writable: there, ..RegionInfo::default() })
    }

    fn read(&self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), VfioError> {
        // No region is so long that this matters.
        let offset = u32::try_from(offset).unwrap_or(u32::MAX);
        match region {
            0 => self.read_registers(offset, data),
            CONFIG_REGION => copy(&self.config, offset, data),
            _ => data.fill(0),
        }
        Ok(())
    }

    fn write(&self, region: u32, offset: u64, data: &[u8]) -> Result<(), VfioError> {
        if let (0, Ok(offset)) = (region, u32::try_from(offset)) {
            self.write_registers(offset, data);
        }
        Ok(())
    }

    fn map(&self, region: u32, _area: Area) -> Result<Arc<Mapping>, VfioError> {
        Err(lacking(format!("mapping region {region}")))
    }

    fn interrupt(&self, index: u32) -> Result<InterruptInfo, VfioError> {
        let count = if index == MSIX { VECTORS.into() } else { 0 };
        Ok(InterruptInfo { count, eventfd: count > 0, ..InterruptInfo::default() })
    }

    fn set_triggers(
        &self,
        index: u32,
        start: u32,
        triggers: &[Option<&EventFd>],
    ) -> Result<(), VfioError> {
        let mut state = self.state();
        for (vector, trigger) in (start..).zip(triggers) {
            let slot = Some(self::index(vector)).filter(|_| index == MSIX);
            let slot = slot.and_then(|vector| state.triggers.get_mut(vector));
            let slot = slot.ok_or_else(|| lacking(format!("vector {vector} of {index}")))?;
            *slot = trigger.map(EventFd::try_clone).transpose().map_err(|source| {
                VfioError::Refused { what: "duplicating an eventfd".to_owned(), source }
            })?;
        }
        if state.registers.running() {
            self.change(&mut state, Change::Start);
        }
        Ok(())
    }

    fn set_resample(&self, _: u32, _: u32, _: Option<&EventFd>) -> Result<(), VfioError> {
        Err(lacking("a level-triggered interrupt".to_owned()))
    }

    fn set_mask(&self, _: u32, _: u32, _: bool) -> Result<(), VfioError> {
        Err(lacking("masking an interrupt".to_owned()))
    }

    fn disable(&self, _index: u32) -> Result<(), VfioError> {
        self.set_triggers(MSIX, 0, &[None; VECTORS as usize])
    }

    fn reset(&self) -> Result<(), VfioError> {
        let mut state = self.state();
        if let Some(change) = state.registers.write(0x14, &[0]) {
            self.change(&mut state, change);
        }
        Ok(())
    }

    fn reset_set(&self) -> Result<Vec<ResetPeer>, VfioError> {
        Err(lacking("a bus".to_owned()))
    }

    fn reset_bus(&self, _groups: &[BorrowedFd<'_>]) -> Result<(), VfioError> {
        Err(lacking("a bus".to_owned()))
    }
}

fn lacking(what: String) -> VfioError {
    VfioError::Unsupported { what, why: "a virtio card has none" }
}

/// Identity, and a capability for each structure (virtio 1.2, 4.1.4) and for MSI-X.
///
/// The window into BARs through configuration space (4.1.4.9) is for firmware; there is none.
fn config_space() -> [u8; 256] {
    const HEADER: [u8; 12] = [0xf4, 0x1a, 0x41, 0x10, 0, 0, 0x10, 0, 1, 0, 0, 2];
    let mut space = [0; 256];
    space[..HEADER.len()].copy_from_slice(&HEADER);
    // The subsystem: virtio's vendor, and any number from 0x40 on.
    space[0x2c..0x30].copy_from_slice(&[0xf4, 0x1a, 0x40, 0]);
    // Type of structure, its place in BAR 0, and what follows: the way from queue to queue.
    let structures: [(u8, u32, u32, &[u8]); 4] = [
        (1, 0, LENGTH.into(), &[]),
        (2, NOTIFY, 0x1000, &[NOTIFY_STRIDE, 0, 0, 0]),
        (3, ISR, 1, &[]),
        (4, DEVICE, 12, &[]),
    ];
    let mut add = |at: u8, bytes: &[u8]| {
        space[usize::from(at)..][..bytes.len()].copy_from_slice(bytes);
    };
    let mut at = 0x40;
    add(0x34, &[at]);
    for (kind, offset, length, more) in structures {
        let size = if more.is_empty() { 16 } else { 20 };
        add(at, &[0x09, at + size, size, kind]);
        add(at + 8, &offset.to_le_bytes());
        add(at + 12, &length.to_le_bytes());
        add(at + 16, more);
        at += size;
    }
    // MSI-X: the number of vectors less one, and both structures in BAR 1.
    add(at, &[0x11, 0, VECTORS - 1, 0]);
    add(at + 4, &1_u32.to_le_bytes());
    add(at + 8, &(PENDING | 1).to_le_bytes());
    space
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_options_are_a_socket_and_an_address() {
        let options: LinkOptions = "/run/a,b.sock,mac=02:00:00:00:00:0a".parse().unwrap();
        assert_eq!(options.socket, PathBuf::from("/run/a,b.sock"));
        assert_eq!((options.mac, options.mtu), ([2, 0, 0, 0, 0, 10], 1500));
        let options: LinkOptions = "s,mac=02:00:00:00:00:0a,mtu=9000".parse().unwrap();
        assert_eq!(options.mtu, 9000);
    }

    #[test]
    fn link_options_that_make_no_sense_are_refused() {
        for text in [
            "",
            "/run/x",
            ",mac=02:00:00:00:00:0a",
            "s,mac=01:00:00:00:00:0a",
            "s,mac=02:00:00:00:00",
            "s,mac=02:00:00:00:00:0a:0b",
            "s,mac=02:00:00:00:00:0a,mtu=67",
            "s,mac=02:00:00:00:00:0a,mtu=65536",
        ] {
            assert!(text.parse::<LinkOptions>().is_err(), "{text}");
        }
    }

    #[test]
    fn capabilities_are_a_list_that_ends() {
        let space = config_space();
        let (mut at, mut found) = (usize::from(space[0x34]), Vec::new());
        while at != 0 {
            found.push((space[at], if space[at] == 9 { space[at + 3] } else { 0 }));
            at = usize::from(space[at + 1]);
        }
        assert_eq!(found, [(9, 1), (9, 2), (9, 3), (9, 4), (0x11, 0)]);
    }
}
