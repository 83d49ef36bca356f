//! Every board of Debian's arm64 kernel: surveyed, and for every NIC that can be given away both
//! overlays made, applied by us and by libfdt, and looked at.
//!
//! `make dt-corpus` prints the totals. The trees come from Debian's archive once, into target/.

#[path = "../common/mod.rs"]
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{apply_like_libfdt, dtc};
use dt_overlay::board::Board;
use dt_overlay::overlay::{
    Choices, GuestVmm, PASSTHROUGH, Request, guest_overlay, host_overlay, label,
};
use dt_overlay::survey::{Cause, Missing, unresolved};
use dt_overlay::tree::{Node, value};
use dt_overlay::{Index, PlatformNic, Tree, Verdict, survey};
use dtoolkit::{Node as _, Property as _};

/// All trees below the package, as (family, name, bytes).
fn trees() -> Vec<(String, String, Vec<u8>)> {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("arm64");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/fetch.sh");
    let fetched = Command::new(script).arg(&cache).output().expect("fetch.sh runs");
    let said = String::from_utf8_lossy(&fetched.stderr);
    assert!(fetched.status.success(), "Debian's arm64 kernel cannot be fetched: {said}");
    let mut found = Vec::new();
    collect(&cache.join("root/usr/lib"), &mut found);
    found.sort();
    found
        .into_iter()
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let family = path.parent().and_then(Path::file_name).expect("a family");
            (family.to_string_lossy().into_owned(), name, std::fs::read(&path).expect("a tree"))
        })
        .collect()
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|it| it == "dtb") {
            found.push(path);
        }
    }
}

#[derive(Default)]
struct Totals {
    trees: usize,
    nics: usize,
    passable: usize,
    enable: usize,
    binding: usize,
    streams: usize,
    impassable: BTreeMap<Cause, usize>,
}

impl Totals {
    fn count(&mut self, nics: &[PlatformNic]) {
        self.trees += 1;
        self.nics += nics.len();
        for nic in nics {
            match &nic.verdict {
                Verdict::Passable { .. } => self.passable += 1,
                Verdict::NeedsIommu { missing: Missing::Enable, .. } => self.enable += 1,
                Verdict::NeedsIommu { missing: Missing::Binding, .. } => self.binding += 1,
                Verdict::NeedsIommu { missing: Missing::Streams, .. } => self.streams += 1,
                Verdict::Impassable { cause, .. } => {
                    *self.impassable.entry(*cause).or_default() += 1
                }
            }
        }
    }

    fn row(&self, name: &str) -> String {
        let of = |causes: &[Cause]| -> usize {
            causes.iter().filter_map(|cause| self.impassable.get(cause)).sum()
        };
        let columns = [
            self.trees,
            self.nics,
            self.passable,
            self.enable,
            self.binding,
            self.streams,
            of(&[Cause::Disabled]),
            of(&[Cause::Composite]),
            of(&[Cause::Pci, Cause::Usb]),
            of(&[Cause::NoIommu, Cause::Programmed]),
            of(&[
                Cause::SharedRegisters,
                Cause::PhyElsewhere,
                Cause::SharedStream,
                Cause::ReservedMemory,
                Cause::NoInterrupt,
                Cause::NoRegisters,
            ]),
            of(&[Cause::UnknownBinding, Cause::Malformed]),
        ];
        let columns: Vec<_> = columns.iter().map(ToString::to_string).collect();
        format!("| {name} | {} |", columns.join(" | "))
    }
}

const HEAD: &str = "\
| family | trees | NICs | passable | IOMMU to enable | board file binds | streams to be given \
| disabled | part of a larger device | PCI, USB | no IOMMU | borrowed parts | other |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|";

#[test]
fn every_tree_is_surveyed_and_every_nic_has_a_verdict_with_a_reason() {
    let boards = Board::known().expect("the boards are read");
    let mut families: BTreeMap<String, Totals> = BTreeMap::new();
    let mut all = Totals::default();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for (family, name, file) in trees() {
        let tree = Tree::parse(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
        let again = Tree::parse(&tree.to_dtb()).expect("what was written is read");
        assert_eq!(again, tree, "{name}");
        let nics = survey(&tree, Board::of(&boards, &tree));
        let nics = nics.unwrap_or_else(|error| panic!("{name}: {error}"));
        for nic in &nics {
            assert!(!nic.verdict.reason().is_empty(), "{name} {}", nic.path);
            let Verdict::Impassable { cause, .. } = &nic.verdict else { continue };
            let driver = nic.driver.unwrap_or("?");
            assert_ne!(*cause, Cause::Malformed, "{name}: {}", nic.verdict.reason());
            assert_ne!(*cause, Cause::UnknownBinding, "{name}: {}", nic.verdict.reason());
            *reasons.entry(format!("{driver}: {}", nic.verdict.reason())).or_default() += 1;
        }
        all.count(&nics);
        families.entry(family).or_default().count(&nics);
    }
    println!("{HEAD}");
    for (family, totals) in &families {
        println!("{}", totals.row(family));
    }
    println!("{}", all.row("all"));
    if std::env::var_os("NETVM_DT_REASONS").is_some() {
        reasons.iter().for_each(|(reason, count)| println!("{count:4} {reason}"));
    }
    assert!(all.trees > 500 && all.nics > 600, "{} trees, {} NICs", all.trees, all.nics);
    assert!(all.passable + all.enable > 20, "{} {}", all.passable, all.enable);
}

/// What dtc warns about a tree, without the places.
fn warnings(tree: &Tree) -> BTreeSet<String> {
    let (_, said) = dtc(&tree.to_dtb(), &["-I", "dtb", "-O", "dtb"]);
    said.lines().map(str::to_owned).collect()
}

/// What a guest of crosvm or another VMM has at least.
fn guest_base() -> Tree {
    let source =
        "/dts-v1/; / { #address-cells = <2>; #size-cells = <2>; compatible = \"linux,dummy-virt\";
        interrupt-parent = <&intc>;
        intc: intc { compatible = \"arm,gic-v3\"; #interrupt-cells = <3>; interrupt-controller;
            reg = <0 0x3fff0000 0 0x10000>; }; };";
    Tree::parse(&common::compile(&source.replace("intc {", "intc@3fff0000 {"))).expect("a tree")
}

/// Paths of nodes whose own properties differ, or that only one tree has.
fn changed(before: &Node, after: &Node, path: &str, out: &mut BTreeSet<String>) {
    let own = |node: &Node| -> BTreeMap<String, Vec<u8>> {
        node.properties().map(|it| (it.name().to_owned(), it.value().to_vec())).collect()
    };
    if own(before) != own(after) {
        out.insert(path.to_owned());
    }
    for child in after.children() {
        let path = format!("{path}/{}", child.name());
        match before.children().find(|it| it.name() == child.name()) {
            Some(before) => changed(before, child, &path, out),
            None => {
                out.insert(path);
            }
        }
    }
    for child in before.children() {
        let there = after.children().any(|it| it.name() == child.name());
        assert!(there, "{path}/{} is gone", child.name());
    }
}

#[test]
fn every_nic_that_can_go_gets_overlays_that_libfdt_applies() {
    let boards = Board::known().expect("the boards are read");
    let base = guest_base();
    let base_warnings = warnings(&base);
    let mut made = 0;
    for (family, name, file) in trees() {
        let tree = Tree::parse(&file).expect("a tree");
        let board = Board::of(&boards, &tree);
        for nic in survey(&tree, board).expect("a survey") {
            if !nic.verdict.possible() {
                continue;
            }
            let what = format!("{family}/{name} {}", nic.path);
            let mut choices = Choices::default();
            if let Verdict::NeedsIommu { missing: Missing::Streams, iommu, .. } = &nic.verdict {
                // An operator would read them in the SoC's manual.
                let iommu = tree.node(iommu).expect("the IOMMU");
                let cells = value::cell(iommu, "#iommu-cells").expect("its cells");
                choices.streams = vec![vec![0x7; usize::try_from(cells).expect("few")]];
            }
            let request = Request { tree: &tree, nic: &nic.path, board, choices: &choices };
            let host = host_overlay(&request).unwrap_or_else(|error| panic!("{what}: {error}"));
            check_host(&what, &tree, &host, &nic, board);
            for vmm in [GuestVmm::Crosvm, GuestVmm::Standalone { address: 0xc00_0000, spi: 112 }] {
                let guest = guest_overlay(&request, vmm);
                let guest = guest.unwrap_or_else(|error| panic!("{what}: {error}"));
                if vmm == GuestVmm::Crosvm && nic.verdict.with().is_empty() {
                    let dropped = common::crosvm::dropped(&guest, &label(&nic));
                    assert!(dropped.is_empty(), "{what}: {dropped:?}");
                }
                let result = apply_like_libfdt(&base, &guest);
                check_guest(&what, &result, &nic, vmm);
                let fresh: Vec<_> = warnings(&result).difference(&base_warnings).cloned().collect();
                assert!(fresh.is_empty(), "{what}: {fresh:?}");
            }
            made += 1;
        }
    }
    println!("host and guest overlays of {made} NICs applied as libfdt does");
    assert!(made > 20, "{made}");
}

fn check_host(what: &str, tree: &Tree, host: &Tree, nic: &PlatformNic, board: Option<&Board>) {
    let result = apply_like_libfdt(tree, host);
    let node = result.node(&nic.path).expect("the NIC is still there");
    let compatible = value::strings(node, "compatible").expect("it is something");
    // What vfio-platform has a reset driver for stays what it is, for `driver_override`.
    if nic.driver != Some("amd-xgbe") {
        assert_eq!(compatible, [PASSTHROUGH], "{what}");
    }
    assert!(value::bytes(node, "iommus").is_some(), "{what}");
    assert_eq!(unresolved(&result).len(), unresolved(tree).len(), "{what}");
    // Nothing but what was meant to change.
    let mut nodes = BTreeSet::new();
    changed(tree.root(), result.root(), "", &mut nodes);
    let mut meant: BTreeSet<String> = nic.verdict.with().iter().cloned().collect();
    meant.insert(nic.path.clone());
    let (Verdict::Passable { .. } | Verdict::Impassable { .. }) = nic.verdict else {
        let mut iommus: Vec<&str> = nic.streams.iter().map(|it| it.iommu.as_str()).collect();
        if let Verdict::NeedsIommu { iommu, .. } = &nic.verdict {
            iommus.push(iommu);
        }
        for iommu in iommus {
            // With the buses above it.
            let ends = iommu.match_indices('/').map(|(at, _)| at).skip(1).chain([iommu.len()]);
            meant.extend(ends.map(|end| iommu[..end].to_owned()));
        }
        meant.extend(board.iter().flat_map(|it| &it.node).map(|it| it.path.clone()));
        return finish(what, tree, &result, &nodes, &meant);
    };
    finish(what, tree, &result, &nodes, &meant);
}

fn finish(
    what: &str,
    tree: &Tree,
    result: &Tree,
    nodes: &BTreeSet<String>,
    meant: &BTreeSet<String>,
) {
    assert!(nodes.is_subset(meant), "{what}: {nodes:?} besides {meant:?}");
    let fresh: Vec<_> = warnings(result).difference(&warnings(tree)).cloned().collect();
    assert!(fresh.is_empty(), "{what}: {fresh:?}");
}

fn check_guest(what: &str, result: &Tree, nic: &PlatformNic, vmm: GuestVmm) {
    assert!(unresolved(result).is_empty(), "{what}: {:?}", unresolved(result));
    let index = Index::new(result).expect("no clashing phandles");
    let symbols = result.node("/__symbols__").expect("symbols");
    let path = value::string(symbols, &label(nic)).expect("the NIC's label");
    let node = index.node(index.find(path).expect("the labelled node"));
    let names = value::strings(node, "compatible").expect("it is what it was");
    assert_eq!(names, nic.compatible, "{what}");
    for gone in ["iommus", "resets", "power-domains", "pinctrl-0", "status"] {
        let firmware = result.node("/bpmp").is_some() && gone != "pinctrl-0" && gone != "iommus";
        assert!(value::bytes(node, gone).is_none() || firmware, "{what}: {gone}");
    }
    // What crosvm overwrites has the room that it needs: 2 and 2 cells a region, 3 an interrupt.
    let cells = |name| value::cells(node, name).expect(name).len();
    assert_eq!(cells("reg"), 4 * nic.regions.len(), "{what}");
    assert_eq!(cells("interrupts"), 3 * nic.interrupts.len(), "{what}");
    let nics = survey(result, None).expect("a survey of the guest");
    let there = nics.iter().find(|it| it.path == path).expect("the guest has the NIC");
    assert_eq!(there.interrupts.len(), nic.interrupts.len(), "{what}");
    assert!(there.interrupts.iter().all(|it| it.spi.is_some()), "{what}");
    assert_eq!(there.dma_coherent, nic.dma_coherent, "{what}");
    if vmm == GuestVmm::Crosvm {
        let sizes = |nic: &PlatformNic| nic.regions.iter().map(|it| it.size).collect::<Vec<_>>();
        assert_eq!(sizes(there), sizes(nic), "{what}");
    } else {
        assert_eq!(there.regions.first().map(|it| it.address & !0xfff), Some(0xc00_0000), "{what}");
    }
}
