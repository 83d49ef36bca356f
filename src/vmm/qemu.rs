//! QEMU 7.2 and later.

use std::ffi::OsString;

use super::options::Options;
use super::{CommandLineError, GuestLink, NetvmVm, VfioDevice, Vmm};
use crate::declaration::{MacAddress, Memory};

const VMM: Vmm = Vmm::Qemu;

/// Device numbers of bus 0 that are free on a q35 machine: 0 is the host bridge, 31 the south
/// bridge.
const FREE_SLOTS: std::ops::RangeInclusive<usize> = 1..=30;

/// Functions of a PCI device.
const FUNCTIONS: usize = 8;

/// How a client socket is told to connect again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reconnect {
    /// `reconnect=1`: known to 7.2, deprecated by 9.2 and meant to go.
    Seconds,
    /// `reconnect-ms=1000`: known from 9.2 on.
    #[default]
    Milliseconds,
}

impl Reconnect {
    /// What fits the QEMU that says `version` when it is started with `--version`. A text without
    /// a version is taken for a new one's.
    ///
    /// ```
    /// use netvm::vmm::Reconnect;
    /// let debian_12 = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)";
    /// assert_eq!(Reconnect::from_version(debian_12), Reconnect::Seconds);
    /// ```
    pub fn from_version(version: &str) -> Self {
        let numbers = || -> Option<(u32, u32)> {
            let (_, rest) = version.split_once("version ")?;
            let mut parts = rest.split(|c: char| !c.is_ascii_digit());
            Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
        };
        match numbers() {
            Some(numbers) if numbers < (9, 2) => Reconnect::Seconds,
            _ => Reconnect::Milliseconds,
        }
    }

    fn add_to(self, options: Options) -> Options {
        match self {
            Reconnect::Seconds => options.plain("reconnect", 1),
            Reconnect::Milliseconds => options.plain("reconnect-ms", 1000),
        }
    }
}

/// Guest memory as a memfd that a link can map.
fn memory(id: &str, size: Memory) -> [OsString; 6] {
    let backend = Options::new(VMM, "memory-backend-memfd")
        .plain("id", id)
        .plain("size", size)
        .plain("share", "on");
    [
        "-m".into(),
        size.to_string().into(),
        "-object".into(),
        backend.finish(),
        "-machine".into(),
        format!("memory-backend={id}").into(),
    ]
}

/// Socket and frontend of a link, which a card with `netdev=id` uses.
fn netdev(id: &str, socket: &std::path::Path, reconnect: Reconnect) -> [OsString; 4] {
    let chardev = Options::new(VMM, "socket").plain("id", id).doubled("path", socket);
    [
        "-chardev".into(),
        reconnect.add_to(chardev).finish(),
        "-netdev".into(),
        Options::new(VMM, "vhost-user").plain("id", id).plain("chardev", id).finish(),
    ]
}

/// A card without the legacy interface and without a boot ROM.
fn card(id: &str, mac: MacAddress, mtu: u16) -> Options {
    let card = Options::new(VMM, "virtio-net-pci")
        .plain("netdev", id)
        .plain("mac", mac)
        .plain("disable-legacy", "on")
        .plain("romfile", "");
    if mtu == 1500 { card } else { card.plain("host_mtu", mtu) }
}

pub(super) fn guest_flags(link: &GuestLink) -> Vec<OsString> {
    let mut flags: Vec<OsString> = memory("netvm-memory", link.memory).into();
    flags.extend(netdev("netvm-link", &link.socket, link.reconnect));
    let card = card("netvm-link", link.mac, link.mtu);
    let card = match link.vectors {
        Some(vectors) => card.plain("vectors", vectors),
        None => card,
    };
    flags.extend(["-device".into(), card.finish()]);
    flags
}

/// Hands out the places of bus 0: to each device a number of its own, or, to cards that do not
/// fit like that, the eight functions of each number that is left.
struct Slots {
    next: usize,
    crowded: bool,
}

impl Slots {
    /// A number of its own.
    fn device(&mut self) -> usize {
        let slot = self.next;
        self.next += 1;
        slot
    }

    /// The place of the `index`th card, when all other devices have theirs.
    fn card(&self, index: usize, options: Options) -> Options {
        if !self.crowded {
            return options.plain("addr", format_args!("{:#x}", self.next + index));
        }
        let (slot, function) = (self.next + index / FUNCTIONS, index % FUNCTIONS);
        options.plain("addr", format_args!("{slot:#x}.{function}")).plain("multifunction", "on")
    }
}

pub(super) fn netvm_command(netvm: &NetvmVm) -> Result<Vec<OsString>, CommandLineError> {
    // One number is the virtio console's.
    let free = FREE_SLOTS.count().saturating_sub(1 + netvm.devices.len());
    if netvm.links.len() > free * FUNCTIONS {
        return Err(CommandLineError::TooManyLinks {
            vmm: VMM,
            links: netvm.links.len(),
            devices: netvm.devices.len(),
            most: free * FUNCTIONS,
        });
    }
    let mut slots = Slots { next: *FREE_SLOTS.start(), crowded: netvm.links.len() > free };
    let mut line: Vec<OsString> = vec![netvm.program.clone().into_os_string()];
    line.extend(MACHINE.map(OsString::from));
    line.extend(["-smp".into(), netvm.vcpus.to_string().into()]);
    line.extend(memory("memory", netvm.memory));
    line.extend(["-kernel".into(), netvm.kernel.clone().into_os_string()]);
    line.extend(["-initrd".into(), netvm.initramfs.clone().into_os_string()]);
    line.extend(["-append".into(), netvm.cmdline.clone().into()]);
    let mut pair = |flag: &str, options: Options| line.extend([flag.into(), options.finish()]);
    pair(
        "-chardev",
        Options::new(VMM, "file").plain("id", "console").doubled("path", &netvm.console),
    );
    pair("-serial", Options::new(VMM, "chardev:console"));
    pair("-chardev", Options::new(VMM, "file").plain("id", "state").doubled("path", &netvm.state));
    let console_slot = slots.device();
    pair(
        "-device",
        Options::new(VMM, "virtio-serial-pci")
            .plain("disable-legacy", "on")
            .plain("addr", format_args!("{console_slot:#x}")),
    );
    pair("-device", Options::new(VMM, "virtconsole").plain("chardev", "state"));
    for device in &netvm.devices {
        match device {
            VfioDevice::Pci(address) => {
                let slot = slots.device();
                pair(
                    "-device",
                    Options::new(VMM, "vfio-pci")
                        .plain("host", address)
                        // Firmware of a card that may be hostile is never run.
                        .plain("rombar", 0)
                        .plain("addr", format_args!("{slot:#x}")),
                );
            }
            VfioDevice::Platform { sysfs, .. } => {
                let sysfs = sysfs.clone();
                return Err(CommandLineError::PlatformDevice { vmm: VMM, sysfs });
            }
        }
    }
    for (index, link) in netvm.links.iter().enumerate() {
        let id = format!("link{index}");
        line.extend(netdev(&id, &link.socket, netvm.reconnect));
        let card = slots.card(index, card(&id, link.mac, netvm.mtu));
        line.extend(["-device".into(), card.finish()]);
    }
    Ok(line)
}

/// What does not depend on the declaration: a q35 machine without the devices that netvm does not
/// need, without a monitor, and with every system call filter that QEMU has.
const MACHINE: [&str; 17] = [
    "-name",
    "netvm",
    "-nodefaults",
    "-no-user-config",
    "-no-reboot",
    "-display",
    "none",
    "-monitor",
    "none",
    "-sandbox",
    "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    "-machine",
    "q35,usb=off,vmport=off,smbus=off,sata=off,hpet=off,dump-guest-core=off",
    "-accel",
    "kvm",
    "-cpu",
    "host",
];
