//! minivmm, the small VMM in `examples/minivmm`, which links vmm-plugin.

use std::ffi::OsString;

use super::options::plain_path;
use super::{CommandLineError, GuestLink, LinkCard, NetvmVm, VfioDevice, Vmm};

const VMM: Vmm = Vmm::Minivmm;

/// Device numbers of its PCI bus, without that of the host bridge. Each device has one function.
const SLOTS: usize = 31;

/// `SOCKET,mac=MAC[,mtu=MTU]`.
fn card(card: &LinkCard, mtu: u16) -> Result<OsString, CommandLineError> {
    let mut value = plain_path(VMM, &card.socket)?.to_owned();
    value.push(format!(",mac={}", card.mac));
    if mtu != 1500 {
        value.push(format!(",mtu={mtu}"));
    }
    Ok(value)
}

pub(super) fn guest_flags(link: &GuestLink) -> Result<Vec<OsString>, CommandLineError> {
    let end = LinkCard { socket: link.socket.clone(), mac: link.mac };
    Ok(vec![
        "--memory".into(),
        link.memory.mebibytes().to_string().into(),
        "--link".into(),
        card(&end, link.mtu)?,
    ])
}

pub(super) fn netvm_command(netvm: &NetvmVm) -> Result<Vec<OsString>, CommandLineError> {
    let most = SLOTS.saturating_sub(netvm.devices.len());
    if netvm.links.len() > most {
        return Err(CommandLineError::TooManyLinks {
            vmm: VMM,
            links: netvm.links.len(),
            devices: netvm.devices.len(),
            most,
        });
    }
    let mut line: Vec<OsString> = vec![netvm.program.clone().into_os_string()];
    let mut pair = |flag: &str, value: OsString| line.extend([flag.into(), value]);
    pair("--cpus", netvm.vcpus.to_string().into());
    pair("--memory", netvm.memory.mebibytes().to_string().into());
    pair("--kernel", netvm.kernel.clone().into_os_string());
    pair("--initramfs", netvm.initramfs.clone().into_os_string());
    pair("--cmdline", netvm.cmdline.clone().into());
    // ttyS0, and ttyS1, which netvm's init takes when there is no paravirtual console.
    pair("--serial", plain_path(VMM, &netvm.console)?.to_owned());
    pair("--serial", plain_path(VMM, &netvm.state)?.to_owned());
    for device in &netvm.devices {
        match device {
            VfioDevice::Pci(address) => pair("--vfio", address.to_string().into()),
            VfioDevice::Platform { sysfs, .. } => {
                let sysfs = sysfs.clone();
                return Err(CommandLineError::PlatformDevice { vmm: VMM, sysfs });
            }
        }
    }
    for link in &netvm.links {
        pair("--link", card(link, netvm.mtu)?);
    }
    Ok(line)
}
