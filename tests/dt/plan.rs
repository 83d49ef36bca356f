//! A platform NIC in a plan, on a machine of files.

use std::fs;
use std::path::Path;

use dt_overlay::Tree;
use netvm::declaration;
use netvm::plan::Step;
use netvm::run::paths::RunDir;
use netvm::secure::{self, SecureError};
use vmm_plugin::host::environment::{Environment, Wanted};
use vmm_plugin::host::nic::{Nic, resolve_all};
use vmm_plugin::host::preflight::{self, Check, Overrides, Severity};
use vmm_plugin::host::sysfs::Sysfs;

use super::machine::{Machine, lines, parts};
use super::{board, compile};

const DEVICE: &str = "ff0e0000.ethernet";

/// The board with its NIC, bound to macb, in IOMMU group 3; vfio-platform is not loaded.
fn host(root: &Path) -> (Sysfs, Vec<Nic>, declaration::Declaration) {
    let machine = Machine(root);
    machine.device("platform", &format!("platform/{DEVICE}"), "macb", 3);
    let device = format!("sys/devices/platform/{DEVICE}");
    machine.write(&format!("{device}/of_node/compatible"), "cdns,zynqmp-gem");
    machine.write("sys/kernel/iommu_groups/3/type", "DMA");
    machine.write("sys/kernel/iommu_groups/3/reserved_regions", "");
    machine.write("sys/firmware/fdt", "");
    compile(board(), &root.join("sys/firmware/fdt"));
    let text = format!(
        "scenario = \"secure\"\nnetvm = {{ vmm = \"crosvm\" }}\nnic = [{{ platform = \"{DEVICE}\" }}]\n\
         guest = [{{ name = \"a\", vmm = \"crosvm\" }}]"
    );
    let declaration = declaration::parse("netvm.toml", &text)
        .unwrap_or_else(|findings| panic!("{:?}", miette::Report::new(findings)))
        .declaration;
    let sysfs = Sysfs::new(root);
    let nics = resolve_all(&sysfs, &declaration.nics).expect("the NIC is there");
    (sysfs, nics, declaration)
}

#[test]
fn plan_binds_vfio_platform_and_tells_crosvm_what_the_nic_is() {
    let root = tempfile::tempdir().expect("a directory");
    let (sysfs, nics, declaration) = host(root.path());
    let run = RunDir::new("/run/netvm");
    let steps = secure::steps(&declaration, &sysfs, &nics, &run, &parts()).expect("a plan");
    let lines = lines(&steps);
    let at = |what: &str| {
        let found = lines.iter().position(|line| line.contains(what));
        found.unwrap_or_else(|| panic!("{what} in {lines:#?}"))
    };
    let device = format!("/sys/bus/platform/devices/{DEVICE}");
    let order = [
        at("run modprobe vfio-platform"),
        at(&format!("write {device}/driver_override <- vfio-platform")),
        at("write /sys/bus/platform/drivers/macb/unbind <- ff0e0000.ethernet"),
        at("write /sys/bus/platform/drivers_probe <- ff0e0000.ethernet"),
        at("chown /dev/vfio/3"),
        at("file /run/netvm/netvm/nic_ff0e0000_ethernet.dtbo"),
        at(&format!(
            "--vfio '{device},iommu=off,dt-symbol=nic_ff0e0000_ethernet' \
             --device-tree-overlay '/run/netvm/netvm/nic_ff0e0000_ethernet.dtbo,filter'"
        )),
    ];
    assert!(order.is_sorted(), "{order:?} {lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("vfio-pci")), "{lines:#?}");
    let overlay = steps.iter().find_map(|step| match step {
        Step::Overlay(overlay) => Some(overlay),
        _ => None,
    });
    let tree = Tree::parse(&overlay.expect("an overlay").dtb).expect("a tree");
    assert!(tree.to_dts().contains("cdns,zynqmp-gem"));
}

#[test]
fn plan_refuses_platform_nics_that_the_tree_does_not_let_go() {
    let source = fs::read_to_string(board()).expect("it is there");
    for (from, to, what) in [
        ("iommus = <&smmu 0x877>;", "", "boot the host with the overlay of `netvm dt host-overlay"),
        ("phy-mode", "memory-region = <&cru>; phy-mode", "memory set aside on the host"),
        (
            "compatible = \"cdns,zynqmp-gem\", \"cdns,gem\";\n\t\treg = <0 0xff0e",
            "compatible = \"x,y\";\n\t\treg = <0 0xff0e",
            "not known here",
        ),
    ] {
        let root = tempfile::tempdir().expect("a directory");
        let (sysfs, nics, declaration) = host(root.path());
        let changed = source.replace(from, to);
        assert_ne!(changed, source, "{from}");
        let unnamed = changed.replace("ethernet0 = &nic;", "");
        fs::write(root.path().join("changed.dts"), unnamed).expect("writable");
        compile(&root.path().join("changed.dts"), &root.path().join("sys/firmware/fdt"));
        let run = RunDir::new("/run/netvm");
        let error = secure::steps(&declaration, &sysfs, &nics, &run, &parts()).expect_err(what);
        assert!(matches!(error, SecureError::Platform(_)), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
    let root = tempfile::tempdir().expect("a directory");
    let (sysfs, nics, declaration) = host(root.path());
    fs::remove_file(root.path().join("sys/firmware/fdt")).expect("it is there");
    let run = RunDir::new("/run/netvm");
    let error = secure::steps(&declaration, &sysfs, &nics, &run, &parts()).expect_err("no tree");
    assert!(error.to_string().contains("there is no /sys/firmware/fdt"), "{error}");
}

#[test]
fn plan_takes_the_operators_board_file() {
    let root = tempfile::tempdir().expect("a directory");
    let (sysfs, nics, declaration) = host(root.path());
    let boards = root.path().join("etc/netvm/boards");
    fs::create_dir_all(&boards).expect("writable");
    let facts = "name = \"x\"\ncompatible = [\"maker,board\"]\nhardware = \"not tried\"\n\
        [[nic]]\npath = \"/ethernet@ff0e0000\"\nclocks = { pclk = 77777777 }";
    fs::write(boards.join("mine.toml"), facts).expect("writable");
    let run = RunDir::new("/run/netvm");
    let overlay = || netvm::platform::overlays(&sysfs, &nics, &run);
    let text = Tree::parse(&overlay().expect("overlays")[0].dtb).expect("a tree").to_dts();
    assert!(text.contains("clock-frequency = <0x4a2cb71>"), "{text}");
    fs::write(boards.join("wrong.toml"), "name = 1").expect("writable");
    let error = secure::steps(&declaration, &sysfs, &nics, &run, &parts()).expect_err("wrong");
    assert!(error.to_string().contains("wrong.toml"), "{error}");
}

#[test]
fn preflight_looks_at_group_and_reset_of_a_platform_nic() {
    let root = tempfile::tempdir().expect("a directory");
    let (sysfs, nics, _) = host(root.path());
    let wanted = Wanted { guest_memory: 1 << 28, vmm_is_root: true };
    let find = |check, nics: &[Nic]| {
        let environment = Environment::read(&sysfs, nics, wanted).expect("an environment");
        let report = preflight::run(&sysfs, nics, &environment, &Overrides::default());
        let of = |finding: &&preflight::Finding| {
            finding.id == check && finding.subject.to_string().contains(DEVICE)
        };
        report.findings.iter().find(of).cloned().expect("a finding")
    };
    assert_eq!(find(Check::R1, &nics).severity, Severity::Ok);
    // vfio-platform is not loaded: nobody says that the NIC will be reset.
    assert_eq!(find(Check::R6, &nics).severity, Severity::Refuse);
    let parameter = root.path().join("sys/module/vfio_platform/parameters/reset_required");
    fs::create_dir_all(parameter.parent().expect("a parent")).expect("writable");
    fs::write(parameter, "Y\n").expect("writable");
    assert_eq!(find(Check::R6, &nics).severity, Severity::Ok);
}

#[test]
fn only_crosvm_takes_platform_nics() {
    for vmm in ["cloud-hypervisor", "qemu"] {
        let text = format!(
            "scenario = \"secure\"\nnetvm = {{ vmm = \"{vmm}\" }}\nnic = [{{ platform = \"{DEVICE}\" }}]"
        );
        let findings = declaration::parse("netvm.toml", &text).expect_err("refused");
        let text = format!("{:?}", miette::Report::new(findings));
        assert!(text.contains("cannot give a platform device to a guest"), "{text}");
    }
}
