//! What else a NIC is tied to: buses, clock gates, resets, power domains and streams it shares.

use std::collections::HashMap;

use super::nic::{PlatformNic, Stream, Tie, TieKind};
use super::{look, reference};
use crate::tree::{Id, Index, value};

/// Clocks that only are: a crystal feeds half of a board.
const PLAIN_CLOCKS: [&str; 2] = ["fixed-clock", "fixed-factor-clock"];

/// Most others that are listed of a kind.
const MOST: usize = 32;

const SHARED: [(&str, TieKind); 4] = [
    ("clocks", TieKind::Clock),
    ("resets", TieKind::Reset),
    ("power-domains", TieKind::PowerDomain),
    ("iommus", TieKind::Stream),
];

pub(super) fn tie(index: &Index<'_>, ids: &[Id], nics: &mut [PlatformNic]) {
    shared(index, ids, nics);
    buses(index, ids, nics);
    for id in index.ids() {
        // A port of a switch names the NIC that its frames pass (bindings/net/dsa).
        let conduit = value::cell(index.node(id), "ethernet");
        let conduit = conduit.and_then(|phandle| index.by_phandle(phandle));
        let nic = ids.iter().zip(&mut *nics).find(|(nic, _)| Some(**nic) == conduit);
        if let Some((_, nic)) = nic {
            let ports = index.parent(id);
            let switch = index.path(index.parent(ports));
            nic.ties.push(Tie { kind: TieKind::Switch, with: switch });
        }
    }
    for (id, nic) in ids.iter().zip(&mut *nics) {
        if let Some(master) = master(index, *id) {
            nic.ties.push(Tie { kind: TieKind::DmaMaster, with: master });
        }
        nic.ties.sort_by(|a, b| (a.kind, &a.with).cmp(&(b.kind, &b.with)));
        nic.ties.dedup();
    }
}

/// Who uses what, over all enabled nodes; what is malformed there is not the NIC's trouble.
fn shared(index: &Index<'_>, ids: &[Id], nics: &mut [PlatformNic]) {
    for (property, kind) in SHARED {
        let mut users: HashMap<(Id, Vec<u32>), Vec<Id>> = HashMap::new();
        let mut streams: HashMap<Id, Vec<(Vec<u32>, Id)>> = HashMap::new();
        for id in index.ids().filter(|id| look::enabled(index, *id)) {
            for it in reference::of_property(index, id, property).unwrap_or_default() {
                if kind == TieKind::Stream {
                    streams.entry(it.target).or_default().push((it.arguments, id));
                } else {
                    users.entry((it.target, it.arguments)).or_default().push(id);
                }
            }
        }
        for (id, nic) in ids.iter().zip(&mut *nics) {
            let own = reference::of_property(index, *id, property).unwrap_or_default();
            for it in own {
                let target = index.node(it.target);
                let plain = value::strings(target, "compatible").unwrap_or_default();
                if plain.iter().any(|name| PLAIN_CLOCKS.contains(name)) {
                    continue;
                }
                let others: Vec<Id> = if kind == TieKind::Stream {
                    let all = streams.get(&it.target).map(Vec::as_slice).unwrap_or_default();
                    let same = all.iter().filter(|(other, _)| overlap(&it.arguments, other));
                    same.map(|(_, id)| *id).collect()
                } else {
                    users.get(&(it.target, it.arguments)).cloned().unwrap_or_default()
                };
                let others = others.into_iter().filter(|other| other != id).take(MOST);
                nic.ties.extend(others.map(|other| Tie { kind, with: index.path(other) }));
            }
        }
    }
}

/// Whether two stream specifiers can match one stream: ids, or ids with masks of what is ignored.
fn overlap(a: &[u32], b: &[u32]) -> bool {
    let pair = |it: &[u32]| match *it {
        [id] => Some((id, 0)),
        [id, mask] => Some((id, mask)),
        _ => None,
    };
    match (pair(a), pair(b)) {
        (Some((a, mask_a)), Some((b, mask_b))) => (a ^ b) & !(mask_a | mask_b) == 0,
        // Shapes that are not known here: to be safe, the same.
        _ => true,
    }
}

/// PHYs on the MDIO bus of another NIC.
fn buses(index: &Index<'_>, ids: &[Id], nics: &mut [PlatformNic]) {
    let owner = |path: &str| {
        let bus = index.find(path)?;
        ids.iter().position(|nic| index.within(bus, *nic))
    };
    let pairs: Vec<(usize, usize)> = nics
        .iter()
        .enumerate()
        .filter(|(_, nic)| nic.enabled && !nic.link.own_mdio)
        .filter_map(|(user, nic)| Some((user, owner(nic.link.mdio.as_deref()?)?)))
        .filter(|(user, owner)| user != owner)
        .collect();
    for (user, owner) in pairs {
        let (Some(there), Some(here)) = (
            nics.get(owner).map(|nic| nic.path.clone()),
            nics.get(user).map(|nic| nic.path.clone()),
        ) else {
            continue;
        };
        if let Some(nic) = nics.get_mut(user) {
            nic.ties.push(Tie { kind: TieKind::PhyThere, with: there });
        }
        if let Some(nic) = nics.get_mut(owner) {
            nic.ties.push(Tie { kind: TieKind::PhyHere, with: here });
        }
    }
}

/// The node that does the DMA of a part of something larger: what it is in, or what it names.
fn master(index: &Index<'_>, id: Id) -> Option<String> {
    let named = ["ae-handle", "dmas"].into_iter().find_map(|property| {
        reference::of_property(index, id, property).ok()?.into_iter().next().map(|it| it.target)
    });
    let around = index.ancestors(id).find(|id| {
        let compatible = value::strings(index.node(*id), "compatible").unwrap_or_default();
        compatible.iter().any(|name| ["fsl,qoriq-mc", "fsl,fman"].contains(name))
    });
    named.or(around).map(|id| index.path(id))
}

/// Whether two streams can be one.
pub(crate) fn same_stream(a: &Stream, b: &Stream) -> bool {
    a.iommu == b.iommu && overlap(&a.specifier, &b.specifier)
}
