//! The NICs that this machine's device tree describes, for `netvm check`: which could be given away at all.

use dt_overlay::PlatformNic;
use vmm_plugin::host::sysfs::Sysfs;

/// The tree that the kernel was booted with; a PC has none.
const TREE: &str = "/sys/firmware/fdt";
/// Largest tree that is read, in bytes; those of real boards have some hundred kilobytes.
const TREE_MAX: u64 = 16 << 20;

/// The Ethernet controllers in this machine's device tree; none without a tree, or with a damaged one.
pub fn survey(sysfs: &Sysfs) -> Vec<PlatformNic> {
    let tree = sysfs.bytes(TREE, TREE_MAX);
    tree.and_then(|tree| dt_overlay::survey(&tree).ok()).unwrap_or_default()
}

/// One line about a controller.
pub fn describe(nic: &PlatformNic) -> String {
    let what = nic.compatible.first().map_or("unknown", String::as_str);
    let state = match (nic.enabled, nic.behind_iommu) {
        (false, _) => "disabled",
        (true, true) => "behind an IOMMU",
        (true, false) => "not behind an IOMMU: it cannot be given away",
    };
    format!("device tree {} ({what}): {state}", nic.path)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    const BOARD: &str = "/dts-v1/; / { smmu: iommu { #iommu-cells = <1>; };
        ethernet@1 { compatible = \"a,mgbe\"; iommus = <&smmu 6>; };
        ethernet@2 { compatible = \"b,gmac\"; }; };";

    #[test]
    fn survey_without_a_tree_is_empty() {
        let root = tempfile::tempdir().unwrap();
        assert!(survey(&Sysfs::new(root.path())).is_empty());
    }

    #[test]
    fn survey_says_which_controllers_an_iommu_confines() {
        let root = tempfile::tempdir().unwrap();
        let firmware = root.path().join("sys/firmware");
        std::fs::create_dir_all(&firmware).unwrap();
        let mut dtc = Command::new("dtc")
            .args(["-q", "-o"])
            .arg(firmware.join("fdt"))
            .stdin(Stdio::piped())
            .spawn()
            .expect("dtc runs: package device-tree-compiler");
        std::io::Write::write_all(&mut dtc.stdin.take().unwrap(), BOARD.as_bytes()).unwrap();
        assert!(dtc.wait().unwrap().success());
        let lines: Vec<_> = survey(&Sysfs::new(root.path())).iter().map(describe).collect();
        assert_eq!(lines[0], "device tree /ethernet@1 (a,mgbe): behind an IOMMU");
        assert!(lines[1].contains("cannot be given away"), "{lines:?}");
    }
}
