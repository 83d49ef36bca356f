//! The card as a PCI device (virtio 1.2, 4.1 and 5.1): an image of its configuration space, two
//! BARs, and three MSI-X vectors whose eventfds go to the link.
//!
//! A link that went away comes back: the card waits for its end, and then for its successor.

use std::os::fd::RawFd;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use event_manager::{EventOps, EventSet, EventSubscriber, Events};
use kvm_ioctls::VmFd;
use vmm_plugin::pci::index;
use vmm_plugin::vfio::{Device, DeviceInfo, DeviceKind, InterruptInfo, RegionInfo, VfioError};
use vmm_plugin::virtio::{Card as Shape, Change, CommonConfiguration};
use vmm_plugin::vmm::Bus;
use vmm_plugin::vmm::kvm::KvmDoorbells;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::timerfd::TimerFd;

use super::link::{Link, Ring};
use crate::memory::Memory;

/// Queues: one receives, one transmits; and entries of a ring at most.
pub const QUEUES: u16 = 2;
const MOST_ENTRIES: u16 = 1024;
/// A network card with a vector for each queue, and one for changes of the configuration.
const VECTORS: u8 = 3;
const SHAPE: Shape = Shape { device_type: 1, class: [2, 0], configuration: 12, vectors: VECTORS };
/// How often a link's successor is looked for.
const EVERY: Duration = Duration::from_millis(100);
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
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (socket, rest) = text.split_once(",mac=").filter(|(path, _)| !path.is_empty())?;
            let (mac, mtu) = rest.split_once(",mtu=").unwrap_or((rest, "1500"));
            let mac: Result<Vec<_>, _> =
                mac.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
            let mac: [u8; 6] = mac.ok()?.try_into().ok()?;
            let mtu = mtu.parse().ok().filter(|mtu| *mtu >= 68)?;
            (mac[0] & 1 == 0).then(|| Self { socket: socket.into(), mac, mtu })
        };
        parse().ok_or(
            "expected SOCKET,mac=MAC[,mtu=MTU] with a unicast address such as \
             02:00:00:00:00:01 and an MTU of 68 to 65535",
        )
    }
}

/// A network card, for the event loop as well.
pub struct Card {
    options: LinkOptions,
    config: [u8; 256],
    /// What notifies each queue.
    kicks: [EventFd; QUEUES as usize],
    /// What a ring without a vector signals: nobody listens.
    unheard: EventFd,
    state: Mutex<State>,
}

struct State {
    registers: CommonConfiguration,
    triggers: [Option<EventFd>; VECTORS as usize],
    link: Link,
    /// The connection whose end is waited for.
    connection: Option<RawFd>,
    /// Runs while there is none.
    timer: TimerFd,
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
        let registers = CommonConfiguration::new(link.offered(), QUEUES, MOST_ENTRIES);
        Ok(Self {
            options: options.clone(),
            config: SHAPE.config_space(),
            kicks: [eventfd()?, eventfd()?],
            unheard: eventfd()?,
            state: Mutex::new(State {
                registers,
                triggers: [const { None }; VECTORS as usize],
                link,
                connection: None,
                timer: TimerFd::new().context("Cannot make a timer")?,
            }),
        })
    }

    /// `bus` for this card alone: notifications do not leave the kernel on it.
    pub fn doorbells(&self, bus: Arc<dyn Bus>, vm: &Arc<VmFd>) -> Result<KvmDoorbells> {
        let kicks = (0_u32..).zip(&self.kicks).map(|(queue, kick)| {
            let offset = Shape::NOTIFY + queue * Shape::NOTIFY_STRIDE;
            Ok((offset.into(), kick.try_clone().context("Cannot duplicate an eventfd")?))
        });
        Ok(KvmDoorbells::new(bus, vm.clone(), Shape::REGISTERS_SIZE, kicks.collect::<Result<_>>()?))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries to have a link again, and to go on where its predecessor ended.
    fn reconnect(&self, state: &mut State) -> Result<()> {
        state.link.reconnect()?;
        if state.registers.running() { self.start(state) } else { Ok(()) }
    }

    fn start(&self, state: &mut State) -> Result<()> {
        let State { registers, triggers, link, .. } = state;
        let rings = registers.enabled().map(|(index, queue)| {
            let trigger = triggers.get(usize::from(queue.vector)).and_then(Option::as_ref);
            let call = trigger.unwrap_or(&self.unheard);
            Ring { index, queue: *queue, kick: &self.kicks[index], call }
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
            0..Shape::ISR => copy(&state.registers.bytes(), offset, data),
            Shape::DEVICE..Shape::NOTIFY => {
                let bytes = self.device_configuration(state.link.connection().is_some());
                copy(&bytes, offset - Shape::DEVICE, data);
            }
            // ISR: with MSI-X nobody needs it.
            _ => data.fill(0),
        }
    }

    fn write_registers(&self, offset: u32, data: &[u8]) {
        if let Some(offset) = offset.checked_sub(Shape::NOTIFY) {
            let queue = to_usize(offset / Shape::NOTIFY_STRIDE);
            if let Some(kick) = self.kicks.get(queue) {
                // It fails only when the counter is full: the link has enough to do.
                let _ = kick.write(1);
            }
            return;
        }
        let mut state = self.state();
        if let Some(change) = state.registers.write(to_usize(offset), data) {
            self.change(&mut state, change);
        }
    }
}

impl State {
    fn wait_for_end(&mut self, ops: &mut EventOps) {
        self.connection = self.link.connection();
        if let Some(connection) = self.connection {
            // It was just opened, so nobody else waits for it.
            let events = EventSet::HANG_UP | EventSet::READ_HANG_UP;
            let _ = ops.add(Events::new_raw(connection, events));
        }
    }

    fn signal(&self, vector: u16) {
        if let Some(Some(trigger)) = self.triggers.get(usize::from(vector)) {
            let _ = trigger.write(1);
        }
    }
}

impl EventSubscriber for Card {
    fn init(&self, ops: &mut EventOps) {
        let mut state = self.state();
        let _ = ops.add(Events::new(&state.timer, EventSet::IN));
        state.wait_for_end(ops);
    }

    fn process(&self, events: Events, ops: &mut EventOps) {
        let mut state = self.state();
        if Some(events.fd()) == state.connection {
            eprintln!("minivmm: {self:?} has lost its link");
            let _ = ops.remove(events);
            state.connection = None;
            let _ = state.timer.reset(EVERY, Some(EVERY));
        } else {
            let _ = state.timer.wait();
            if self.reconnect(&mut state).is_ok() {
                let _ = state.timer.clear();
                eprintln!("minivmm: {self:?} has a link again");
                state.wait_for_end(ops);
                state.signal(state.registers.config_vector());
                return;
            }
        }
        // None yet, or not in order yet: the guest is told that the cable is out.
        state.link.forget();
        state.signal(state.registers.config_vector());
    }
}

/// Zeroes behind the end of what there is.
fn copy(bytes: &[u8], offset: u32, data: &mut [u8]) {
    let rest = bytes.iter().skip(to_usize(offset)).copied().chain(std::iter::repeat(0));
    data.iter_mut().zip(rest).for_each(|(to, from)| *to = from);
}

fn to_usize(offset: u32) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

impl Device for Card {
    fn info(&self) -> DeviceInfo {
        let (regions, interrupts) = (index::CONFIG + 1, index::MSIX + 1);
        DeviceInfo { kind: DeviceKind::Pci, resettable: false, regions, interrupts }
    }

    fn region(&self, index: u32) -> Result<RegionInfo, VfioError> {
        let size = match index {
            0 => Shape::REGISTERS_SIZE,
            1 => Shape::MSIX_SIZE,
            index::CONFIG => 256,
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
            index::CONFIG => copy(&self.config, offset, data),
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

    fn interrupt(&self, index: u32) -> Result<InterruptInfo, VfioError> {
        let count = if index == index::MSIX { VECTORS.into() } else { 0 };
        Ok(InterruptInfo { count, eventfd: count > 0, ..InterruptInfo::default() })
    }

    /// The plugin keeps to what [`Device::interrupt`] says.
    fn set_triggers(
        &self,
        _index: u32,
        start: u32,
        triggers: &[Option<&EventFd>],
    ) -> Result<(), VfioError> {
        let copies = triggers.iter().map(|trigger| trigger.map(EventFd::try_clone).transpose());
        let copies: Result<Vec<_>, _> = copies.collect();
        let copies = copies.map_err(|source| VfioError::Refused {
            what: "duplicating an eventfd".to_owned(),
            source,
        })?;
        let mut state = self.state();
        let slots = state.triggers.iter_mut().skip(to_usize(start));
        slots.zip(copies).for_each(|(slot, trigger)| *slot = trigger);
        if state.registers.running() {
            self.change(&mut state, Change::Start);
        }
        Ok(())
    }

    fn disable(&self, index: u32) -> Result<(), VfioError> {
        self.set_triggers(index, 0, &[None; VECTORS as usize])
    }

    fn reset(&self) -> Result<(), VfioError> {
        let mut state = self.state();
        state.registers.reset();
        self.change(&mut state, Change::Stop);
        Ok(())
    }
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
        for text in ["", "/run/x", ",mac=02:00:00:00:00:0a", "s,mac=02:00:00:00:00"] {
            assert!(text.parse::<LinkOptions>().is_err(), "{text}");
        }
        for rest in ["3:00:00:00:00:0a", "2:00:00:00:00:0a:0b", "2:00:00:00:00:0a,mtu=67"] {
            assert!(format!("s,mac={rest}").parse::<LinkOptions>().is_err(), "{rest}");
        }
    }
}
