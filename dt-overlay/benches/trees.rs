//! How long surveys and overlays take: of one tree of 100 KiB, and of every board of Debian's
//! kernel.
//!
//! ```text
//! cargo bench -p dt-overlay --bench trees
//! ```
//!
//! The boards are where the test `corpus` left them (`make dt-corpus`).
#![expect(clippy::print_stdout, reason = "that is what it is for")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dt_overlay::overlay::{Choices, GuestVmm, Request, guest_overlay, host_overlay};
use dt_overlay::tree::Node;
use dt_overlay::{Board, Tree, survey};
use dtoolkit::model::DeviceTreeProperty;

/// Reads, surveys, makes both overlays of every NIC that can go, and applies the host's. Returns
/// how many NICs there were and how many of them can go.
fn everything(file: &[u8], boards: &[Board]) -> (usize, usize) {
    let tree = Tree::parse(file).expect("a tree");
    let board = Board::of(boards, &tree);
    let nics = survey(&tree, board).expect("a survey");
    let mut made = 0;
    for nic in nics.iter().filter(|nic| nic.verdict.possible()) {
        let choices = Choices::default();
        let request = Request { tree: &tree, nic: &nic.path, board, choices: &choices };
        let host = host_overlay(&request).expect("a host overlay");
        std::hint::black_box(dt_overlay::apply(&tree, &host).expect("it applies").to_dtb());
        let guest = guest_overlay(&request, GuestVmm::Crosvm).expect("a guest overlay");
        std::hint::black_box(guest.to_dtb());
        made += 1;
    }
    (nics.len(), made)
}

/// A board with one NIC behind an SMMU and so many other devices that its tree has 100 KiB.
fn large() -> Vec<u8> {
    let mut tree = Tree::default();
    let set = |node: &mut Node, name: &str, cells: &[u32]| {
        let bytes: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
        node.add_property(DeviceTreeProperty::new_unchecked(name, bytes));
    };
    let text = |node: &mut Node, name: &str, text: &str| {
        node.add_property(DeviceTreeProperty::new_unchecked(
            name,
            format!("{text}\0").into_bytes(),
        ));
    };
    let mut gic = Node::new_unchecked("interrupt-controller@1000000");
    text(&mut gic, "compatible", "arm,gic-v3");
    set(&mut gic, "#interrupt-cells", &[3]);
    set(&mut gic, "phandle", &[1]);
    let mut smmu = Node::new_unchecked("iommu@2000000");
    text(&mut smmu, "compatible", "arm,smmu-v3");
    set(&mut smmu, "#iommu-cells", &[1]);
    set(&mut smmu, "phandle", &[2]);
    let mut clocks = Node::new_unchecked("clock-controller@3000000");
    text(&mut clocks, "compatible", "maker,clocks");
    set(&mut clocks, "#clock-cells", &[1]);
    set(&mut clocks, "phandle", &[3]);
    let root = tree.root_mut();
    set(root, "#address-cells", &[1]);
    set(root, "#size-cells", &[1]);
    set(root, "interrupt-parent", &[1]);
    [gic, smmu, clocks].into_iter().for_each(|node| root.add_child(node));
    for number in 0.. {
        let name = if number == 0 { "ethernet" } else { "device" };
        let address = 0x1000_0000 + number * 0x1000;
        let mut device = Node::new_unchecked(format!("{name}@{address:x}"));
        text(&mut device, "compatible", if number == 0 { "cdns,gem" } else { "maker,device" });
        set(&mut device, "reg", &[address, 0x1000]);
        set(&mut device, "interrupts", &[0, number, 4]);
        set(&mut device, "clocks", &[3, number, 3, number + 1]);
        text(&mut device, "clock-names", if number == 0 { "pclk\0hclk" } else { "bus\0core" });
        set(&mut device, "iommus", &[2, number]);
        set(&mut device, "phandle", &[number + 4]);
        tree.root_mut().add_child(device);
        if number % 16 == 0 && tree.to_dtb().len() >= 100 << 10 {
            break;
        }
    }
    tree.to_dtb()
}

fn boards(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            boards(&path, found);
        } else if path.extension().is_some_and(|it| it == "dtb") {
            found.push(path);
        }
    }
}

fn main() {
    let known = Board::known().expect("the boards");
    let file = large();
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            let start = Instant::now();
            assert_eq!(everything(&file, &known), (1, 1));
            start.elapsed()
        })
        .collect();
    times.sort();
    let median = times[times.len() / 2].as_secs_f64() * 1e3;
    println!("one tree of {} KiB, read, surveyed, both overlays: {median:.2} ms", file.len() >> 10);
    let mut paths = Vec::new();
    boards(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("arm64/root/usr/lib"), &mut paths);
    if paths.is_empty() {
        println!("no boards: run `make dt-corpus` first");
        return;
    }
    let files: Vec<_> = paths.iter().map(|path| std::fs::read(path).expect("a file")).collect();
    let start = Instant::now();
    let (mut nics, mut made) = (0, 0);
    for file in &files {
        let (found, passable) = everything(file, &known);
        nics += found;
        made += passable;
    }
    let time = start.elapsed().as_secs_f64();
    println!("{} trees, {nics} NICs, overlays of {made}: {time:.2} s", files.len());
}
