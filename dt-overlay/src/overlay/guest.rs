//! The guest's half: the native driver finds the NIC.

use dtoolkit::{Node as _, Property as _};

use super::build::{Build, Cell};
use super::clock;
use super::host::{NATIVE, provides};
use super::request::{Found, Request, set_value};
use crate::TreeError;
use crate::survey::{PlatformNic, TieKind, reference};
use crate::tree::{Id, Index, Node, Tree, value};

/// For which VMM a guest overlay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestVmm {
    /// crosvm writes `reg` and `interrupts` itself, into the node with the label that its
    /// `dt-symbol` names, in VFIO's order; of the guest's own tree only `intc` has a label.
    Crosvm,
    /// Others: registers from an address on, each range on whole pages, and interrupts from an SPI
    /// on.
    Standalone {
        /// Where the first range of registers is in the guest.
        address: u64,
        /// Number of the first SPI (0 is interrupt 32).
        spi: u32,
    },
}

/// The bus in the guest's tree that holds NICs.
const BUS: &str = "netvm-platform";
const PAGE: u64 = 4096;

/// What of a NIC's node is not for a guest, besides references to what the guest does not have.
const HOST_ONLY: [&str; 13] = [
    "reg",
    "interrupts",
    "interrupts-extended",
    "interrupt-parent",
    "interrupt-controller",
    "iommus",
    "status",
    "phandle",
    "linux,phandle",
    "assigned-clock-rates",
    "dma-names",
    "wakeup-source",
    "fsl,magic-packet",
];

/// The label of a NIC's node in its guest overlay: crosvm's `dt-symbol`.
#[must_use]
pub fn label(nic: &PlatformNic) -> String {
    let clean = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    format!("nic_{}", nic.device.chars().map(clean).collect::<String>())
}

/// An overlay for the guest's tree: the NIC and those that go with it, on a bus of their own.
///
/// Registers and interrupts are in VFIO's order. Clocks are fixed ones (or the firmware's, by a
/// proxy), resets, power domains, pin states and supplies stay with the host, PHYs on the NIC's own
/// MDIO bus come along without their interrupts, and `iommus` does not: the guest has none.
///
/// # Errors
///
/// A NIC that does not exist or cannot be given away; a clock whose rate nobody knows; a window
/// that does not fit the address space.
pub fn guest_overlay(request: &Request<'_>, vmm: GuestVmm) -> Result<Tree, TreeError> {
    let index = Index::new(request.tree)?;
    let found = request.find(&index)?;
    let mut out = Build::default();
    let root = out.root_fragment();
    let bus = format!("{root}/{BUS}");
    out.set(&bus, "compatible", *b"simple-bus\0");
    out.set(&bus, "#address-cells", 2_u32.to_be_bytes());
    out.set(&bus, "#size-cells", 2_u32.to_be_bytes());
    out.set(&bus, "ranges", []);
    let mut place = Place::new(vmm);
    let mut places = Vec::new();
    for nic in &found.nics {
        let id = index.find(&nic.path);
        let id = id.ok_or_else(|| TreeError::NoSuchNode { path: nic.path.clone() })?;
        let regions = place.regions(nic)?;
        let name = index.node(id).name_without_address();
        let address = regions.first().map_or(0, |(address, _)| *address);
        places.push((id, format!("{bus}/{name}@{address:x}"), regions));
    }
    let moved: Vec<(Id, String)> = places.iter().map(|(id, to, _)| (*id, to.clone())).collect();
    let mut copy = Copy { found: &found, moved: &moved, root: &root, out: &mut out };
    for (nic, (id, to, regions)) in found.nics.iter().zip(&places) {
        copy.nic(nic, *id, to)?;
        let cells = regions.iter().flat_map(|(address, size)| [*address, *size]);
        let bytes: Vec<u8> = cells.flat_map(u64::to_be_bytes).collect();
        copy.out.set(to, "reg", bytes);
        copy.out.set(to, "interrupts", value::from_cells(&place.interrupts(nic)?));
        if vmm == GuestVmm::Crosvm {
            copy.out.cells(to, "interrupt-parent", &[Cell::Symbol("intc".to_owned())]);
        }
        copy.out.label(to, &label(nic));
    }
    Ok(out.finish())
}

/// Where registers and interrupts go.
struct Place {
    vmm: GuestVmm,
    address: u64,
    spi: u32,
}

impl Place {
    fn new(vmm: GuestVmm) -> Self {
        match vmm {
            GuestVmm::Crosvm => Self { vmm, address: 0, spi: 0 },
            GuestVmm::Standalone { address, spi } => Self { vmm, address, spi },
        }
    }

    /// As (address, bytes). For crosvm the host's: a place holder that is unique.
    fn regions(&mut self, nic: &PlatformNic) -> Result<Vec<(u64, u64)>, TreeError> {
        let beyond = || TreeError::node(&nic.path, "its registers do not fit behind that address");
        let mut regions = Vec::new();
        for region in &nic.regions {
            if self.vmm == GuestVmm::Crosvm {
                regions.push((region.address, region.size));
                continue;
            }
            // A range that does not begin a page keeps its offset in it: VFIO passes pages on.
            let offset = region.address % PAGE;
            let start = self.address.checked_next_multiple_of(PAGE).ok_or_else(beyond)?;
            let start = start.checked_add(offset).ok_or_else(beyond)?;
            regions.push((start, region.size));
            self.address = start.checked_add(region.size).ok_or_else(beyond)?;
        }
        Ok(regions)
    }

    /// Specifiers for a GIC: SPIs, of level type unless the host's are edges.
    fn interrupts(&mut self, nic: &PlatformNic) -> Result<Vec<u32>, TreeError> {
        let mut cells = Vec::new();
        for interrupt in &nic.interrupts {
            // GICv3 has 988 of them.
            if self.spi >= 988 {
                return Err(TreeError::node(&nic.path, "a GIC has no SPI beyond 987"));
            }
            cells.extend([0, self.spi, if interrupt.level == Some(false) { 1 } else { 4 }]);
            self.spi += 1;
        }
        Ok(cells)
    }
}

/// A NIC's node on its way into the guest.
struct Copy<'a> {
    found: &'a Found<'a>,
    /// Nodes of the host that the guest gets, and where.
    moved: &'a [(Id, String)],
    /// Content of the fragment.
    root: &'a str,
    out: &'a mut Build,
}

impl Copy<'_> {
    fn nic(&mut self, nic: &PlatformNic, id: Id, to: &str) -> Result<(), TreeError> {
        self.node(id, to, Some(nic))?;
        if let Some(mac) = self.found.choices.mac.or(nic.mac) {
            self.out.set(to, "local-mac-address", mac);
        }
        let Some(facts) = self.found.facts(nic).cloned() else { return Ok(()) };
        for (child, properties) in &facts.guest_node {
            for (name, value) in properties {
                let path = format!("{to}/{child}");
                set_value(self.out, &path, name, value, &mut |_, at| {
                    Ok(Cell::Local(format!("{to}/{at}")))
                })?;
            }
        }
        for (name, value) in &facts.guest {
            set_value(self.out, to, name, value, &mut |_, at| {
                Ok(Cell::Local(format!("{to}/{at}")))
            })?;
        }
        if let Some(link) = facts.fixed_link {
            let path = format!("{to}/fixed-link");
            self.out.set(&path, "speed", link.speed.to_be_bytes());
            if link.full_duplex {
                self.out.set(&path, "full-duplex", []);
            }
        }
        Ok(())
    }

    /// Copies a node and those below it; `nic` is there for the NIC itself.
    fn node(&mut self, id: Id, to: &str, nic: Option<&PlatformNic>) -> Result<(), TreeError> {
        let index = self.found.index;
        let node = index.node(id);
        let mut dropped = Vec::new();
        self.out.node(to);
        let comes = |child: Id| {
            let node = index.node(child);
            // A switch's ports need a driver for the switch, which stays.
            !["ports", "ethernet-ports"].contains(&node.name()) && value::enabled(node)
        };
        let children: Vec<Id> = index.children(id).filter(|child| comes(*child)).collect();
        let addressed =
            children.iter().any(|child| value::bytes(index.node(*child), "reg").is_some());
        for property in node.properties() {
            let name = property.name();
            if ["#address-cells", "#size-cells"].contains(&name) && !addressed {
                continue;
            }
            let host_only = HOST_ONLY.contains(&name) && !(nic.is_none() && name == "reg");
            if host_only || name.ends_with("-names") {
                continue;
            }
            let kept = match (name, nic) {
                ("clocks", Some(nic)) => self.clocks(nic, id, to)?,
                ("local-mac-address" | "mac-address" | NATIVE, Some(_)) => false,
                ("compatible", Some(nic)) => {
                    self.out.set(to, name, value::from_strings(&nic.compatible));
                    true
                }
                _ if reference::shape(name).is_some() => self.reference(id, name, to)?,
                _ => {
                    self.out.set(to, name, property.value());
                    true
                }
            };
            if !kept {
                dropped.push(name.to_owned());
            }
        }
        self.names(node, to, &dropped);
        for child in children {
            self.node(child, &format!("{to}/{}", index.node(child).name()), None)?;
        }
        Ok(())
    }

    /// Lists of names, but for what was dropped.
    fn names(&mut self, node: &Node, to: &str, dropped: &[String]) {
        for property in node.properties().filter(|it| it.name().ends_with("-names")) {
            let of = property.name().trim_end_matches("-names");
            let gone = match of {
                "pinctrl" | "dma" => true,
                _ => dropped.iter().any(|name| name.strip_suffix('s').unwrap_or(name) == of),
            };
            if !gone && !HOST_ONLY.contains(&property.name()) {
                self.out.set(to, property.name(), property.value());
            }
        }
    }

    /// Fixed clocks, or the firmware's.
    fn clocks(&mut self, nic: &PlatformNic, id: Id, to: &str) -> Result<bool, TreeError> {
        if self.proxied(id, "clocks", to)? {
            return Ok(true);
        }
        let mut cells = Vec::new();
        for clock in clock::fixed(self.found, nic, id)? {
            let path = format!("{}/clock-{}-{}", self.root, clock.rate, label(nic));
            if !self.out.has(&path) {
                self.out.set(&path, "compatible", *b"fixed-clock\0");
                self.out.set(&path, "#clock-cells", 0_u32.to_be_bytes());
                self.out.set(&path, "clock-frequency", clock.rate.to_be_bytes());
            }
            cells.push(Cell::Local(path));
        }
        self.out.cells(to, "clocks", &cells);
        Ok(true)
    }

    /// A reference stays if all that it refers to comes along. Returns whether it does.
    fn reference(&mut self, id: Id, name: &str, to: &str) -> Result<bool, TreeError> {
        if self.proxied(id, name, to)? {
            return Ok(true);
        }
        let fixed_link = self.found.nics.iter().any(|nic| {
            self.found.facts(nic).is_some_and(|facts| facts.fixed_link.is_some())
                && nic.ties.iter().all(|tie| tie.kind != TieKind::PhyThere)
        });
        if fixed_link && ["phy-handle", "phy", "phy-device"].contains(&name) {
            return Ok(false);
        }
        let mut cells = Vec::new();
        for it in reference::of_property(self.found.index, id, name)? {
            let Some(target) = self.moved_to(it.target) else { return Ok(false) };
            cells.push(Cell::Local(target));
            cells.extend(it.arguments.iter().map(|cell| Cell::Number(*cell)));
        }
        if cells.is_empty() {
            return Ok(false);
        }
        self.out.cells(to, name, &cells);
        Ok(true)
    }

    /// References to a firmware that has a proxy: the same numbers, asked of the proxy.
    fn proxied(&mut self, id: Id, name: &str, to: &str) -> Result<bool, TreeError> {
        let Some(proxy) = self.found.board.and_then(|board| board.proxy.as_ref()) else {
            return Ok(false);
        };
        let all = reference::of_property(self.found.index, id, name)?;
        let index = self.found.index;
        if all.is_empty() || !all.iter().all(|it| provides(index, &index.path(it.target), proxy)) {
            return Ok(false);
        }
        let path = format!("{}/{}", self.root, proxy.guest);
        if !self.out.has(&path) {
            for (name, value) in &proxy.guest_property {
                set_value(self.out, &path, name, value, &mut |_, at| {
                    Err(TreeError::Board { what: format!("the proxy refers to {at}") })
                })?;
            }
        }
        let cells: Vec<Cell> = all
            .into_iter()
            .flat_map(|it| {
                let arguments = it.arguments.into_iter().map(Cell::Number);
                std::iter::once(Cell::Local(path.clone())).chain(arguments)
            })
            .collect();
        self.out.cells(to, name, &cells);
        Ok(true)
    }

    /// Where a node of the host is in the guest's overlay, if it comes along.
    fn moved_to(&self, id: Id) -> Option<String> {
        let index = self.found.index;
        let (nic, to) = self.moved.iter().find(|(nic, _)| index.within(id, *nic))?;
        let base = index.path(*nic);
        // What is disabled on the way stays behind.
        let chain = std::iter::once(id).chain(index.ancestors(id));
        let stays = chain.take_while(|it| it != nic).any(|it| !value::enabled(index.node(it)));
        let path = index.path(id);
        (!stays).then(|| format!("{to}{}", path.strip_prefix(&base).unwrap_or_default()))
    }
}
