//! What the tree says about one NIC.

use dtoolkit::Node as _;

use super::nic::{Link, PlatformNic, Stream, Use, Verdict};
use super::{Cause, address, binding, interrupt, reference};
use crate::TreeError;
use crate::board::Board;
use crate::overlay::{NATIVE, PASSTHROUGH};
use crate::tree::{Id, Index, Node, exact_child, value};

/// Everything but ties; the verdict is [`Cause::Malformed`] if something does not fit, and
/// preliminary if not.
pub(super) fn look(index: &Index<'_>, id: Id, board: Option<&Board>) -> PlatformNic {
    let node = index.node(id);
    let compatible = native(node).unwrap_or_default();
    let path = index.path(id);
    let mut nic = PlatformNic {
        device: device(index, id, &[]),
        driver: binding::find(&compatible).map(|binding| binding.driver),
        compatible: compatible.into_iter().map(str::to_owned).collect(),
        enabled: enabled(index, id),
        regions: Vec::new(),
        interrupts: Vec::new(),
        uses: Vec::new(),
        link: Link::default(),
        dma_coherent: value::bytes(node, "dma-coherent").is_some(),
        streams: Vec::new(),
        mac: mac(index, id),
        ties: Vec::new(),
        verdict: Verdict::Passable { with: Vec::new(), reason: String::new() },
        conditions: Vec::new(),
        path,
    };
    if let Err(error) = fill(index, id, board, &mut nic) {
        nic.verdict = Verdict::Impassable { cause: Cause::Malformed, reason: error.to_string() };
    }
    nic
}

fn fill(
    index: &Index<'_>,
    id: Id,
    board: Option<&Board>,
    nic: &mut PlatformNic,
) -> Result<(), TreeError> {
    let node = index.node(id);
    nic.regions = address::regions(index, id)?.unwrap_or_default();
    nic.device = device(index, id, &nic.regions);
    for it in reference::of_node(index, id)? {
        let names = match it.property.as_str() {
            "interrupt-parent" | "interrupts-extended" => continue,
            "iommus" => {
                nic.streams.push(Stream {
                    iommu: index.path(it.target),
                    specifier: it.arguments,
                    enabled: enabled(index, it.target),
                });
                continue;
            }
            name => format!("{}-names", name.strip_suffix('s').unwrap_or(name)),
        };
        let names = if it.property.starts_with("pinctrl-") { "pinctrl-names" } else { &names };
        let nth = match it.property.strip_prefix("pinctrl-") {
            Some(state) => state.parse().unwrap_or(0),
            None => it.nth,
        };
        let names = value::strings(node, names).unwrap_or_default();
        nic.uses.push(Use {
            property: it.property,
            name: names.get(nth).map(|name| (*name).to_owned()),
            of: index.path(it.target),
            arguments: it.arguments,
        });
    }
    nic.link = link(index, id)?;
    if let Some(fixed) = board.and_then(|it| it.nic(&nic.path)).and_then(|it| it.fixed_link) {
        nic.link.fixed = fixed.speed > 0;
    }
    nic.interrupts = interrupt::interrupts(index, id)?;
    Ok(())
}

/// What a node is; if a host overlay says that it is given away, what it was before.
pub(crate) fn native(node: &Node) -> Option<Vec<&str>> {
    let compatible = value::strings(node, "compatible")?;
    match compatible.first() {
        Some(&PASSTHROUGH) => value::strings(node, NATIVE),
        _ => Some(compatible),
    }
}

/// Whether the node and all above it are enabled.
pub(super) fn enabled(index: &Index<'_>, id: Id) -> bool {
    value::enabled(index.node(id)) && index.ancestors(id).all(|it| value::enabled(index.node(it)))
}

/// As Linux' `of_device_make_bus_id` names it.
fn device(index: &Index<'_>, id: Id, regions: &[super::Region]) -> String {
    let name = index.node(id).name_without_address();
    match regions.first() {
        Some(region) => format!("{:x}.{name}", region.address),
        None => {
            let parent = index.parent(id);
            let name = index.node(id).name();
            if parent == 0 {
                name.to_owned()
            } else {
                format!("{}:{name}", index.node(parent).name_without_address())
            }
        }
    }
}

fn mac(index: &Index<'_>, id: Id) -> Option<[u8; 6]> {
    ["mac-address", "local-mac-address"].into_iter().find_map(|name| {
        let address: [u8; 6] = value::bytes(index.node(id), name)?.try_into().ok()?;
        // Boot loaders fill in zeros; a group address is no card's.
        (address != [0; 6] && address[0] & 1 == 0).then_some(address)
    })
}

/// The PHY that the node names, and the bus that it is on.
fn link(index: &Index<'_>, id: Id) -> Result<Link, TreeError> {
    let node = index.node(id);
    let mode =
        value::string(node, "phy-mode").or_else(|| value::string(node, "phy-connection-type"));
    let mut link = Link {
        mode: mode.map(str::to_owned),
        fixed: exact_child(node, "fixed-link").is_some()
            || value::string(node, "managed") == Some("in-band-status"),
        ..Link::default()
    };
    for name in ["phy-handle", "phy", "phy-device"] {
        let Some(phy) = reference::of_property(index, id, name)?.into_iter().next() else {
            continue;
        };
        let bus = index.parent(phy.target);
        link.phy = Some(index.path(phy.target));
        link.mdio = Some(index.path(bus));
        link.own_mdio = index.within(bus, id);
        break;
    }
    Ok(link)
}
