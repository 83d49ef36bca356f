//! USB NICs: the device that can be given away is the PCI (or platform) host controller.

use std::path::{Path, PathBuf};

use super::address::DeviceName;
use super::ids::VendorDevice;
use super::sysfs::Sysfs;

/// One USB device, root hubs included.
#[derive(Clone, Debug)]
pub(crate) struct UsbDevice {
    /// Name on the bus, for example `1-2`; root hubs are `usb1`.
    pub name: String,
    pub id: VendorDevice,
    /// Manufacturer and product strings, as the device gives them (untrusted, cleaned).
    pub label: String,
    directory: PathBuf,
}

impl UsbDevice {
    pub(crate) fn is_root_hub(&self) -> bool {
        self.name.starts_with("usb")
    }

    pub(crate) fn describe(&self) -> String {
        format!("{} [{}] {}", self.name, self.id, self.label).trim_end().to_owned()
    }

    /// The nearest device above it that a VFIO driver could own.
    pub(crate) fn controller(&self, sysfs: &Sysfs) -> Option<DeviceName> {
        self.directory
            .ancestors()
            .skip(1)
            .filter_map(Path::file_name)
            .filter_map(|name| DeviceName::of_member(name.to_str()?))
            .find(|name| sysfs.device_directory(name).is_ok())
    }
}

/// A string descriptor is written by the device: printable ASCII only, bounded.
fn clean(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(64).collect()
}

/// The USB devices of the machine (interfaces such as `1-2:1.0` left out).
pub(crate) fn devices(sysfs: &Sysfs) -> Vec<UsbDevice> {
    let bus = Path::new("/sys/bus/usb/devices");
    let read = |name: String| {
        let directory = sysfs.real(bus.join(&name))?;
        let text = |file: &str| sysfs.text(directory.join(file));
        let id = format!("{}:{}", text("idVendor")?, text("idProduct")?);
        let strings = [text("manufacturer"), text("product")];
        let label: Vec<String> = strings.iter().flatten().map(|s| clean(s)).collect();
        Some(UsbDevice { id: id.parse().ok()?, label: label.join(" "), name, directory })
    };
    sysfs.entries(bus).into_iter().filter_map(read).collect()
}

/// The USB devices below the host controller `name`, in words, root hubs left out.
pub(crate) fn below(sysfs: &Sysfs, name: &DeviceName) -> Vec<String> {
    devices(sysfs)
        .iter()
        .filter(|device| !device.is_root_hub())
        .filter(|device| device.controller(sysfs).as_ref() == Some(name))
        .map(UsbDevice::describe)
        .collect()
}
