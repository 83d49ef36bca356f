//! A machine of files: what sysfs shows of a NIC, what is installed, and a plan as lines of text.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use netvm::plan::Step;
use netvm::run::process::Identity;
use netvm::secure::Parts;
use netvm::vmm::Reconnect;

/// The machine whose root directory this is.
pub struct Machine<'a>(pub &'a Path);

impl Machine<'_> {
    /// A file; `path` is below the root, as all of them.
    pub fn write(&self, path: &str, text: &str) {
        fs::write(self.place(path), text).expect("writable");
    }

    /// The device at `place` below /sys/devices, two directories down: of `bus`, bound to
    /// `driver`, and alone in an IOMMU group.
    pub fn device(&self, bus: &str, place: &str, driver: &str, group: u32) {
        let name = place.rsplit('/').next().unwrap_or(place);
        let (device, driver) =
            (format!("sys/devices/{place}"), format!("bus/{bus}/drivers/{driver}"));
        let group = format!("kernel/iommu_groups/{group}");
        self.write(&format!("{device}/driver_override"), "(null)");
        self.write(&format!("sys/{driver}/unbind"), "");
        self.link(&format!("{device}/driver"), &format!("../../../{driver}"));
        self.link(&format!("{device}/iommu_group"), &format!("../../../{group}"));
        self.link(&format!("sys/bus/{bus}/devices/{name}"), &format!("../../../devices/{place}"));
        self.link(&format!("sys/{group}/devices/{name}"), &format!("../../../../devices/{place}"));
    }

    fn link(&self, path: &str, target: &str) {
        symlink(target, self.place(path)).expect("writable");
    }

    fn place(&self, path: &str) -> PathBuf {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().expect("it is below the root")).expect("writable");
        path
    }
}

/// What is installed.
pub fn parts() -> Parts {
    Parts {
        link: "/usr/bin/netvm-link".into(),
        binary: "/usr/bin/vmm".into(),
        kernel: "/image/vmlinuz".into(),
        initramfs: "/image/initramfs".into(),
        vmm: Identity { uid: 4000, gid: 104 },
        reconnect: Reconnect::Seconds,
        unsafe_interrupts: false,
    }
}

/// What `netvm plan` prints.
pub fn lines(steps: &[Step]) -> Vec<String> {
    let lines = steps.iter().flat_map(Step::lines);
    lines.map(|line| format!("{} {}", line.step, line.what)).collect()
}
