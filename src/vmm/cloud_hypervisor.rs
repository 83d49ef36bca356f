//! cloud-hypervisor, from version 52 on (the first with `vfio_p2p_dma`).

use std::ffi::OsString;

use super::options::{Options, plain_path};
use super::{CommandLineError, GuestLink, NetvmVm, VfioDevice, Vmm};
use crate::declaration::{MacAddress, Memory};

const VMM: Vmm = Vmm::CloudHypervisor;

/// Device numbers on a PCI segment, without that of the host bridge. cloud-hypervisor uses
/// function 0 only.
const SEGMENT_SLOTS: usize = 31;

/// Devices that are on segment 0 without being asked for: virtio-console and virtio-rng.
const OWN_DEVICES: usize = 2;

/// The most segments that `num_pci_segments` takes.
const SEGMENTS_MAX: usize = 96;

fn memory(size: Memory) -> OsString {
    Options::new(VMM, format_args!("size={size}")).plain("shared", "on").finish()
}

fn net(socket: &std::path::Path, mac: MacAddress, mtu: u16) -> Result<Options, CommandLineError> {
    let net = Options::new(VMM, "vhost_user=true").path("socket", socket)?.plain("mac", mac);
    Ok(if mtu == 1500 { net } else { net.plain("mtu", mtu) })
}

pub(super) fn guest_flags(link: &GuestLink) -> Result<Vec<OsString>, CommandLineError> {
    Ok(vec![
        "--memory".into(),
        memory(link.memory),
        "--net".into(),
        net(&link.socket, link.mac, link.mtu)?.finish(),
    ])
}

pub(super) fn netvm_command(netvm: &NetvmVm) -> Result<Vec<OsString>, CommandLineError> {
    let first = SEGMENT_SLOTS.saturating_sub(OWN_DEVICES + netvm.devices.len());
    let beyond = netvm.links.len().saturating_sub(first);
    let segments = 1 + beyond.div_ceil(SEGMENT_SLOTS);
    if segments > SEGMENTS_MAX || OWN_DEVICES + netvm.devices.len() > SEGMENT_SLOTS {
        return Err(CommandLineError::TooManyLinks {
            vmm: VMM,
            links: netvm.links.len(),
            devices: netvm.devices.len(),
            most: first + SEGMENT_SLOTS * (SEGMENTS_MAX - 1),
        });
    }
    let mut line: Vec<OsString> = vec![netvm.program.clone().into_os_string()];
    let mut pair = |flag: &str, value: OsString| line.extend([flag.into(), value]);
    pair("--seccomp", "true".into());
    pair("--cpus", format!("boot={}", netvm.vcpus).into());
    pair("--memory", memory(netvm.memory));
    // P2P: the NIC needs no way to another device's registers past netvm's kernel.
    let platform = Options::new(VMM, "vfio_p2p_dma=off");
    let platform =
        if segments > 1 { platform.plain("num_pci_segments", segments) } else { platform };
    pair("--platform", platform.finish());
    pair("--kernel", netvm.kernel.clone().into_os_string());
    pair("--initramfs", netvm.initramfs.clone().into_os_string());
    pair("--cmdline", netvm.cmdline.clone().into());
    let mut serial = OsString::from("file=");
    serial.push(plain_path(VMM, &netvm.console)?);
    pair("--serial", serial);
    let mut console = OsString::from("file=");
    console.push(plain_path(VMM, &netvm.state)?);
    pair("--console", console);
    for device in &netvm.devices {
        match device {
            VfioDevice::Pci(address) => {
                pair("--device", format!("path=/sys/bus/pci/devices/{address}/").into());
            }
            VfioDevice::Platform { sysfs, .. } => {
                let sysfs = sysfs.clone();
                return Err(CommandLineError::PlatformDevice { vmm: VMM, sysfs });
            }
        }
    }
    for (index, link) in netvm.links.iter().enumerate() {
        let options = net(&link.socket, link.mac, netvm.mtu)?;
        // Segment 0 is filled first, so that few links look the same on every machine.
        let options = match index.checked_sub(first) {
            Some(rest) => options.plain("pci_segment", 1 + rest / SEGMENT_SLOTS),
            None => options,
        };
        pair("--net", options.finish());
    }
    Ok(line)
}
