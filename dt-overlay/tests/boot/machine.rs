//! The emulated machine: QEMU's `virt` with an SMMUv3 and Debian's arm64 kernel.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use dt_overlay::Tree;

/// Modules of Debian's kernel, in the order in which they need each other.
const MODULES: [&str; 4] = [
    "net/core/failover.ko",
    "drivers/net/net_failover.ko",
    "drivers/net/virtio_net.ko",
    "drivers/virtio/virtio_mmio.ko",
];

/// Prints what sysfs says, as `fact NAME=VALUE` lines.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
mount -t proc proc /proc
mount -t sysfs sys /sys
device=$(sed 's/.*netvm.device=\([^ ]*\).*/\1/' /proc/cmdline)
sys=/sys/bus/platform/devices/$device
name() { if [ -e "$1" ]; then basename "$(readlink -f "$1")"; else echo none; fi; }
look() {
  echo "fact $1driver=$(name $sys/driver)"
  echo "fact $1group=$(name $sys/iommu_group)"
  [ -e $sys/iommu_group ] && echo "fact $1members=$(ls $sys/iommu_group/devices)"
  netdev=$(ls -d /sys/class/net/eth* 2>/dev/null | head -1)
  echo "fact $1netdev=$(name "${netdev:-/none}")"
}
for module in /modules/*.ko; do insmod $module; done
sleep 1
echo "fact device=$(name $sys)"
if [ -e $sys ]; then
  echo "fact compatible=$(tr '\0' ' ' <$sys/of_node/compatible | sed 's/ $//')"
  echo "fact path=$(readlink -f $sys/of_node | sed 's:^/sys/firmware/devicetree/base::')"
  look ""
  if [ ! -e $sys/driver ]; then
    echo virtio-mmio >$sys/driver_override
    echo $device >/sys/bus/platform/drivers_probe
    sleep 1
    look overridden-
  else
    ifconfig eth0 10.0.2.15 up
    ping -c 3 -W 5 10.0.2.2 >/dev/null && echo "fact ping=yes" || echo "fact ping=no"
  fi
fi
echo "fact end=yes"
poweroff -f
"#;

struct Files {
    kernel: PathBuf,
    initrd: PathBuf,
    dir: PathBuf,
}

/// Debian's kernel and an initramfs with its modules, made once.
fn files() -> &'static Files {
    static FILES: OnceLock<Files> = OnceLock::new();
    FILES.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let cache = target.join("arm64");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/fetch.sh");
        let fetched = Command::new(script).arg(&cache).output().expect("fetch.sh runs");
        let said = String::from_utf8_lossy(&fetched.stderr);
        assert!(fetched.status.success(), "Debian's arm64 kernel cannot be fetched: {said}");
        let root = cache.join("root");
        let dir = target.join("arm64-boot");
        let tree = dir.join("initramfs");
        let _ = fs::remove_dir_all(&tree);
        for name in ["bin", "dev", "proc", "sys", "modules"] {
            fs::create_dir_all(tree.join(name)).expect("writable");
        }
        fs::copy(root.join("bin/busybox"), tree.join("bin/busybox")).expect("busybox");
        let version = only(&root.join("lib/modules"), "");
        for (nth, module) in MODULES.iter().enumerate() {
            let from = version.join("kernel").join(module);
            fs::copy(from, tree.join(format!("modules/{nth}.ko"))).expect("a module");
        }
        let init = tree.join("init");
        fs::write(&init, INIT).expect("writable");
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).expect("writable");
        let packed = Command::new("sh")
            .args(["-c", "find . | cpio --quiet -o -H newc >../initramfs.cpio"])
            .current_dir(&tree)
            .status();
        assert!(packed.expect("cpio runs: package cpio").success());
        let kernel = only(&root.join("boot"), "vmlinuz-");
        Files { kernel, initrd: dir.join("initramfs.cpio"), dir }
    })
}

/// The entry of a directory whose name begins so.
fn only(dir: &Path, prefix: &str) -> PathBuf {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry"));
    let mut found = entries.filter(|it| it.file_name().to_string_lossy().starts_with(prefix));
    found.next().expect("there is one").path()
}

fn qemu() -> Command {
    let mut qemu = Command::new("qemu-system-aarch64");
    qemu.args(["-cpu", "max", "-smp", "1", "-m", "512", "-nographic", "-no-reboot"])
        .args(["-netdev", "user,id=n0,restrict=on", "-device", "virtio-net-device,netdev=n0"])
        .stdin(Stdio::null());
    qemu
}

/// The tree that QEMU makes for the machine.
pub fn machine_tree() -> Tree {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("virt.dtb");
    let machine = format!("virt,iommu=smmuv3,dumpdtb={}", file.display());
    let output = qemu().args(["-machine", &machine]).output();
    let output = output.expect("QEMU runs: package qemu-system-arm");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut tree = Tree::parse(&fs::read(file).expect("QEMU wrote it")).expect("a tree");
    // QEMU writes them itself when it boots.
    for node in ["chosen", "memory@40000000"] {
        tree.root_mut().remove_child(node);
    }
    tree
}

/// Boots Linux with the tree and returns what it says about the device.
pub fn boot(tree: &Tree, device: &str) -> BTreeMap<String, String> {
    let files = files();
    let dtb = tempfile::NamedTempFile::new_in(&files.dir).expect("a file");
    fs::write(dtb.path(), tree.to_dtb()).expect("writable");
    let append = format!("console=ttyAMA0 quiet panic=-1 netvm.device={device} end");
    let output = Command::new("timeout")
        .arg("240")
        .arg("qemu-system-aarch64")
        .args(qemu().get_args())
        .args(["-machine", "virt,iommu=smmuv3", "-append", &append, "-kernel"])
        .arg(&files.kernel)
        .arg("-initrd")
        .arg(&files.initrd)
        .arg("-dtb")
        .arg(dtb.path())
        .stdin(Stdio::null())
        .output()
        .expect("timeout and QEMU run");
    let console = String::from_utf8_lossy(&output.stdout).into_owned();
    let facts: BTreeMap<String, String> = console
        .lines()
        .filter_map(|line| line.trim().strip_prefix("fact ")?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(facts.contains_key("end"), "Linux did not get to its end:\n{console}\n{errors}");
    facts
}
