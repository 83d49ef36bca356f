//! The NICs that this machine's device tree describes: which could be given away at all, for `netvm
//! check`, and the overlays that describe one to netvm.

use std::path::PathBuf;

use dt_overlay::overlay::{self, Choices, GuestVmm, Request, guest_overlay, label};
use dt_overlay::{Board, PlatformNic, Tree, TreeError, Verdict};
use vmm_plugin::host::nic::Nic;
use vmm_plugin::host::sysfs::Sysfs;

use crate::run::paths::RunDir;

/// The tree that the kernel was booted with; a PC has none.
pub const TREE: &str = "/sys/firmware/fdt";

/// Largest file that is read, in bytes: a boot loader may leave room behind the tree.
const TREE_MAX: u64 = 2 * dt_overlay::tree::SIZE as u64;

/// Where an operator puts board files, beside the built-in ones.
pub const BOARDS: &str = "/etc/netvm/boards";
/// Longest board file, in bytes.
const BOARD_MAX: u64 = 1 << 20;

/// This machine's device tree; `None` without one.
pub fn live(sysfs: &Sysfs) -> Option<Result<Tree, TreeError>> {
    Some(Tree::parse(&sysfs.bytes(TREE, TREE_MAX)?))
}

/// The board files of this machine, in the order of their names, then the built-in ones.
///
/// # Errors
///
/// A file that is none.
pub fn boards(sysfs: &Sysfs) -> Result<Vec<Board>, PlatformError> {
    let mut all = Vec::new();
    for name in sysfs.entries(BOARDS).into_iter().filter(|name| name.ends_with(".toml")) {
        let path = PathBuf::from(BOARDS).join(name);
        let file = sysfs.bytes(&path, BOARD_MAX).unwrap_or_default();
        let board = Board::parse(&String::from_utf8_lossy(&file));
        all.push(board.map_err(|error| PlatformError::Board { path, error })?);
    }
    all.extend(Board::known().map_err(|error| PlatformError::Tree { error })?);
    Ok(all)
}

/// The Ethernet controllers in this machine's device tree; none without a tree, or with a damaged
/// one.
pub fn survey(sysfs: &Sysfs) -> Vec<PlatformNic> {
    let Some(Ok(tree)) = live(sysfs) else { return Vec::new() };
    let boards = boards(sysfs).unwrap_or_default();
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

/// The overlay of platform NICs that go together, and where the run keeps it.
#[derive(Debug)]
pub struct Overlay {
    /// The file.
    pub path: PathBuf,
    /// What is in it: a flattened tree.
    pub dtb: Vec<u8>,
    /// The NICs in it, as (name of the device, label of its node).
    pub nics: Vec<(String, String)>,
}

/// Why a platform NIC cannot be given away.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// The kernel was booted without a tree, or hides it.
    #[error("{device} is a platform device, and there is no {TREE} to describe it to a guest")]
    NoTree {
        /// The NIC.
        device: String,
    },
    /// The tree, or the NIC in it.
    #[error("{TREE}: {error}")]
    Tree {
        /// What is wrong.
        error: TreeError,
    },
    /// A board file.
    #[error("{path:?}: {error}")]
    Board {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        error: TreeError,
    },
    /// The tree has yet to be changed.
    #[error(
        "{device}: {reason}; boot the host with the overlay of `netvm dt host-overlay {device}`"
    )]
    Unchanged {
        /// The NIC.
        device: String,
        /// What is missing.
        reason: String,
    },
    /// Another NIC goes with it.
    #[error(
        "{device} goes only together with {with}: declare that one too, as `platform = \"{with}\"`"
    )]
    Together {
        /// The NIC.
        device: String,
        /// The other.
        with: String,
    },
}

/// The guest overlays of the platform NICs among `nics`, made from this machine's tree.
///
/// # Errors
///
/// A tree that is not there or damaged, a NIC that cannot be given away or not alone.
pub fn overlays(sysfs: &Sysfs, nics: &[Nic], run: &RunDir) -> Result<Vec<Overlay>, PlatformError> {
    let wanted: Vec<String> = nics
        .iter()
        .filter(|nic| nic.device.name.pci().is_none())
        .map(|nic| nic.device.name.to_string())
        .collect();
    let Some(first) = wanted.first() else { return Ok(Vec::new()) };
    let wrong = |error| PlatformError::Tree { error };
    let tree = live(sysfs).ok_or_else(|| PlatformError::NoTree { device: first.clone() })?;
    let tree = tree.map_err(wrong)?;
    let boards = boards(sysfs)?;
    let board = Board::of(&boards, &tree);
    let all = dt_overlay::survey(&tree, board).map_err(wrong)?;
    let mut made: Vec<Overlay> = Vec::new();
    for device in wanted.clone() {
        if made.iter().any(|overlay| overlay.nics.iter().any(|(name, _)| *name == device)) {
            continue;
        }
        let nic = overlay::choose(&tree, &all, &device).map_err(wrong)?;
        if let Verdict::NeedsIommu { reason, .. } = &nic.verdict {
            return Err(PlatformError::Unchanged { device, reason: reason.clone() });
        }
        let others = all.iter().filter(|other| nic.verdict.with().contains(&other.path));
        let together: Vec<&PlatformNic> = std::iter::once(nic).chain(others).collect();
        if let Some(left) = together.iter().find(|nic| !wanted.contains(&nic.device)) {
            return Err(PlatformError::Together { device, with: left.device.clone() });
        }
        let choices = Choices::default();
        let request = Request { tree: &tree, nic: &device, board, choices: &choices };
        let dtb = guest_overlay(&request, GuestVmm::Crosvm).map_err(wrong)?.to_dtb();
        let nics = together.iter().map(|nic| (nic.device.clone(), label(nic))).collect();
        made.push(Overlay { path: run.netvm().join(format!("{}.dtbo", label(nic))), dtb, nics });
    }
    Ok(made)
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
