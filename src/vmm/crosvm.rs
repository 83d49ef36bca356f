//! crosvm.

use std::ffi::OsString;
use std::path::Path;

use super::options::{Options, plain_path};
use super::{CommandLineError, GuestLink, NetvmVm, VfioDevice, Vmm};

const VMM: Vmm = Vmm::Crosvm;

/// How long crosvm waits for a link that is not there yet. Without it, it gives up at once; it
/// does not come back to a link that went away later, but ends.
const CONNECT_TIMEOUT_MS: &str = "60000";

/// Functions on bus 0 (31 devices of 8), without the few that crosvm's own devices take: crosvm
/// gives each device a number of its own as long as there are some, then functions.
const FUNCTIONS: usize = 31 * 8 - 8;

/// MAC address and MTU come from the link, which crosvm asks for both.
fn vhost_user(socket: &Path) -> Result<OsString, CommandLineError> {
    Ok(Options::new(VMM, "type=net").path("socket", socket)?.finish())
}

pub(super) fn guest_flags(link: &GuestLink) -> Result<Vec<OsString>, CommandLineError> {
    // Memory is always a memfd in crosvm, so nothing makes it shared.
    Ok(vec![
        "--mem".into(),
        format!("size={}", link.memory.mebibytes()).into(),
        "--vhost-user".into(),
        vhost_user(&link.socket)?,
        "--vhost-user-connect-timeout-ms".into(),
        CONNECT_TIMEOUT_MS.into(),
    ])
}

fn serial(hardware: &str, fifo: &Path) -> Result<OsString, CommandLineError> {
    let options = Options::new(VMM, "type=file").path("path", fifo)?;
    Ok(options.plain("hardware", hardware).plain("num", 1).finish())
}

pub(super) fn netvm_command(netvm: &NetvmVm) -> Result<Vec<OsString>, CommandLineError> {
    let most = FUNCTIONS.saturating_sub(8 * netvm.devices.len());
    if netvm.links.len() > most {
        return Err(CommandLineError::TooManyLinks {
            vmm: VMM,
            links: netvm.links.len(),
            devices: netvm.devices.len(),
            most,
        });
    }
    // crosvm's sandbox, a process with its own seccomp policy for each device, is on by default.
    let mut line: Vec<OsString> = vec![
        netvm.program.clone().into_os_string(),
        "run".into(),
        "--no-balloon".into(),
        "--no-usb".into(),
    ];
    let mut pair = |flag: &str, value: OsString| line.extend([flag.into(), value]);
    pair("--cpus", format!("num-cores={}", netvm.vcpus).into());
    pair("--mem", format!("size={}", netvm.memory.mebibytes()).into());
    pair("--initrd", netvm.initramfs.clone().into_os_string());
    pair("--params", netvm.cmdline.clone().into());
    pair("--serial", serial("serial", &netvm.console)?);
    pair("--serial", serial("virtio-console", &netvm.state)?);
    let mut overlays: Vec<&Path> = Vec::new();
    for device in &netvm.devices {
        match device {
            VfioDevice::Pci(address) => {
                pair("--vfio", format!("/sys/bus/pci/devices/{address},iommu=off").into());
            }
            VfioDevice::Platform { sysfs, symbol, overlay } => {
                let mut value = plain_path(VMM, sysfs)?.to_owned();
                value.push(format!(",iommu=off,dt-symbol={symbol}"));
                pair("--vfio", value);
                if !overlays.contains(&overlay.as_path()) {
                    overlays.push(overlay);
                }
            }
        }
    }
    for overlay in overlays {
        let mut value = plain_path(VMM, overlay)?.to_owned();
        value.push(",filter");
        pair("--device-tree-overlay", value);
    }
    for link in &netvm.links {
        pair("--vhost-user", vhost_user(&link.socket)?);
    }
    if !netvm.links.is_empty() {
        pair("--vhost-user-connect-timeout-ms", CONNECT_TIMEOUT_MS.into());
    }
    line.push(netvm.kernel.clone().into_os_string());
    Ok(line)
}
