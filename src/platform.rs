//! The NICs that this machine's device tree describes, for `netvm check`: which could be given away at all.

use dt_overlay::{Board, PlatformNic, Tree, TreeError, Verdict};
use vmm_plugin::host::sysfs::Sysfs;

/// The tree that the kernel was booted with; a PC has none.
pub const TREE: &str = "/sys/firmware/fdt";

/// Largest file that is read, in bytes: a boot loader may leave room behind the tree.
const TREE_MAX: u64 = 2 * dt_overlay::tree::SIZE as u64;

/// This machine's device tree; `None` without one.
pub fn live(sysfs: &Sysfs) -> Option<Result<Tree, TreeError>> {
    Some(Tree::parse(&sysfs.bytes(TREE, TREE_MAX)?))
}

/// The Ethernet controllers in this machine's device tree; none without a tree, or with a damaged one.
pub fn survey(sysfs: &Sysfs) -> Vec<PlatformNic> {
    let Some(Ok(tree)) = live(sysfs) else { return Vec::new() };
    let boards = Board::known().unwrap_or_default();
    dt_overlay::survey(&tree, Board::of(&boards, &tree)).unwrap_or_default()
}

/// One line about a controller.
pub fn describe(nic: &PlatformNic) -> String {
    let what = nic.compatible.first().map_or("unknown", String::as_str);
    let answer = match &nic.verdict {
        Verdict::Passable { .. } => "can be given away",
        Verdict::NeedsIommu { .. } => "can be given away after a change of the tree",
        Verdict::Impassable { .. } => "cannot be given away",
    };
    format!("device tree {} ({what}): {answer}: {}", nic.path, nic.verdict.reason())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    const BOARD: &str = "/dts-v1/; / { #address-cells = <1>; #size-cells = <1>;
        interrupt-parent = <&gic>;
        gic: gic { compatible = \"arm,gic-v3\"; #interrupt-cells = <3>; };
        smmu: iommu { #iommu-cells = <1>; };
        ethernet@1000 { compatible = \"nvidia,tegra234-mgbe\"; iommus = <&smmu 6>;
            reg = <0x1000 0x1000>; interrupts = <0 1 4>; };
        ethernet@2000 { compatible = \"b,gmac\"; }; };";

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
        let wanted = "device tree /ethernet@1000 (nvidia,tegra234-mgbe): can be given away: /iommu";
        assert!(lines[0].starts_with(wanted), "{lines:?}");
        assert!(lines[1].contains("cannot be given away"), "{lines:?}");
    }
}
