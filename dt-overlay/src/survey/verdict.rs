//! Whether a NIC can be given away.

use super::binding::{self, Kind};
use super::nic::{Cause, Missing, PlatformNic, Stream, TieKind, Verdict};
use crate::board::Board;
use crate::survey::tie::same_stream;
use crate::tree::{Index, value};

/// References that a driver can do without in a guest, although they are to shared registers:
/// wake-up by a frame, and the like.
const OPTIONAL: [&str; 1] = ["fsl,stop-mode"];

/// Gives every NIC its verdict; ties are known.
pub(super) fn judge(index: &Index<'_>, board: Option<&Board>, nics: &mut [PlatformNic]) {
    for nic in nics.iter_mut() {
        if nic.verdict.possible() {
            nic.verdict = alone(index, board, nic);
        }
    }
    together(nics);
    let known = board.is_some();
    for nic in nics.iter_mut().filter(|nic| nic.verdict.possible()) {
        nic.conditions = conditions(nic, known);
    }
}

fn no(cause: Cause, reason: impl Into<String>) -> Verdict {
    Verdict::Impassable { cause, reason: reason.into() }
}

/// What the NIC's own node and what it refers to say.
fn alone(index: &Index<'_>, board: Option<&Board>, nic: &PlatformNic) -> Verdict {
    let compatible: Vec<&str> = nic.compatible.iter().map(String::as_str).collect();
    let Some(binding) = binding::find(&compatible) else {
        let name = compatible.first().copied().unwrap_or_default();
        return no(Cause::UnknownBinding, format!("the binding {name} is not known here"));
    };
    match binding.kind {
        Kind::Part(whole) => return no(Cause::Composite, format!("it is a part of {whole}")),
        Kind::Pci => return no(Cause::Pci, "it is a PCI function: declare it as `pci`"),
        Kind::Usb => {
            return no(Cause::Usb, "it is behind a USB controller, which could go only as a whole");
        }
        Kind::Master | Kind::Programmed => {}
    }
    if !nic.enabled {
        return no(Cause::Disabled, "it is disabled: this board does not use it");
    }
    if nic.regions.is_empty() {
        return no(Cause::NoRegisters, "the CPU reaches none of its registers by an address");
    }
    if nic.interrupts.is_empty() {
        return no(Cause::NoInterrupt, "it has no interrupt of its own for VFIO to pass on");
    }
    let verdict = iommu(index, board, nic);
    if binding.kind == Kind::Programmed && nic.streams.is_empty() {
        return no(Cause::Programmed, "it does no DMA, and VFIO takes only what an IOMMU confines");
    }
    if !verdict.possible() {
        return verdict;
    }
    borrowed(index, board, nic).unwrap_or(verdict)
}

/// What it needs of others that a guest cannot have.
fn borrowed(index: &Index<'_>, board: Option<&Board>, nic: &PlatformNic) -> Option<Verdict> {
    let facts = board.and_then(|board| board.nic(&nic.path));
    for it in &nic.uses {
        let dropped = facts.is_some_and(|facts| facts.drop.contains(&it.property));
        if it.property == "memory-region" {
            let reason = format!("its DMA goes through memory set aside on the host ({})", it.of);
            return Some(no(Cause::ReservedMemory, reason));
        }
        let target = index.find(&it.of).map(|id| index.node(id));
        let shared = target
            .and_then(|node| value::strings(node, "compatible"))
            .is_some_and(|names| names.contains(&"syscon"));
        let provided = ["clocks", "resets", "power-domains", "phys", "assigned-clocks"];
        if shared
            && !dropped
            && !OPTIONAL.contains(&it.property.as_str())
            && !it.property.starts_with("assigned-")
            && !provided.contains(&it.property.as_str())
        {
            let reason = format!(
                "its driver writes registers that other devices share ({} in {})",
                it.property, it.of
            );
            return Some(no(Cause::SharedRegisters, reason));
        }
    }
    let there = nic.ties.iter().any(|tie| tie.kind == TieKind::PhyThere);
    let link = &nic.link;
    if let (Some(mdio), false, false, false) = (&link.mdio, link.own_mdio, link.fixed, there) {
        let reason = format!(
            "its PHY is on {mdio}, which does no DMA and so is behind no IOMMU: a board file may \
             say how the link is fixed"
        );
        return Some(no(Cause::PhyElsewhere, reason));
    }
    None
}

fn iommu(index: &Index<'_>, board: Option<&Board>, nic: &PlatformNic) -> Verdict {
    let with = Vec::new();
    if let Some(first) = nic.streams.first() {
        let iommu = first.iommu.clone();
        return match nic.streams.iter().find(|stream| !stream.enabled) {
            None => Verdict::Passable {
                with,
                reason: format!("{iommu} confines its DMA ({})", specifier(&nic.streams)),
            },
            Some(off) => Verdict::NeedsIommu {
                missing: Missing::Enable,
                reason: format!(
                    "{} would confine its DMA but is disabled: the host overlay enables it",
                    off.iommu
                ),
                iommu: off.iommu.clone(),
                with,
            },
        };
    }
    let facts = board.and_then(|board| board.nic(&nic.path));
    if let Some((facts, iommu)) = facts.and_then(|facts| Some((facts, facts.iommu.clone()?)))
        && !facts.streams.is_empty()
    {
        return Verdict::NeedsIommu {
            missing: Missing::Binding,
            reason: format!("the board file knows its streams at {iommu}"),
            iommu,
            with,
        };
    }
    let general = index.ids().find(|id| {
        let compatible = value::strings(index.node(*id), "compatible").unwrap_or_default();
        binding::is_iommu(&compatible)
    });
    match general {
        Some(id) => Verdict::NeedsIommu {
            missing: Missing::Streams,
            reason: format!(
                "its node does not name {}; whether that is in front of it, and by which stream \
                 ids, only the SoC's manual says",
                index.path(id)
            ),
            iommu: index.path(id),
            with,
        },
        None => no(Cause::NoIommu, "the tree has no IOMMU that could confine its DMA"),
    }
}

fn specifier(streams: &[Stream]) -> String {
    let one = |stream: &Stream| {
        let cells: Vec<_> = stream.specifier.iter().map(|cell| format!("{cell:#x}")).collect();
        cells.join(" ")
    };
    let all: Vec<_> = streams.iter().map(one).collect();
    format!("stream {}", all.join(", "))
}

/// NICs that go together or stay: one on the other's MDIO bus, or of one stream. One that cannot go
/// keeps the others.
fn together(nics: &mut [PlatformNic]) {
    let needs = |kind| matches!(kind, TieKind::PhyThere | TieKind::PhyHere | TieKind::Stream);
    // What keeps one may keep the next that needs it: at most as often as there are NICs.
    for _ in 0..nics.len() {
        let kept: Vec<(usize, Verdict)> = nics
            .iter()
            .enumerate()
            .filter(|(_, nic)| nic.verdict.possible())
            .filter_map(|(at, nic)| Some((at, keeper(nic, nics)?)))
            .collect();
        if kept.is_empty() {
            break;
        }
        for (at, verdict) in kept {
            if let Some(nic) = nics.get_mut(at) {
                nic.verdict = verdict;
            }
        }
    }
    let sets: Vec<Vec<String>> = (0..nics.len()).map(|at| closure(at, nics, needs)).collect();
    for (nic, set) in nics.iter_mut().zip(sets) {
        match &mut nic.verdict {
            Verdict::Passable { with, .. } | Verdict::NeedsIommu { with, .. } => *with = set,
            Verdict::Impassable { .. } => {}
        }
    }
}

/// Why a tie keeps a NIC that could go by itself.
fn keeper(nic: &PlatformNic, nics: &[PlatformNic]) -> Option<Verdict> {
    nic.ties.iter().find_map(|tie| {
        let other = nics.iter().find(|other| other.path == tie.with);
        match (tie.kind, other) {
            (TieKind::Stream, None) => {
                let reason = format!("{} shares its stream of DMA and is no NIC", tie.with);
                Some(no(Cause::SharedStream, reason))
            }
            (TieKind::Stream, Some(other)) if !other.verdict.possible() && other.enabled => {
                let reason = format!(
                    "{} shares its stream of DMA and stays: {}",
                    tie.with,
                    other.verdict.reason()
                );
                Some(no(Cause::SharedStream, reason))
            }
            (TieKind::PhyThere | TieKind::PhyHere, Some(other)) if !other.verdict.possible() => {
                let whose = if tie.kind == TieKind::PhyThere {
                    "its PHY is on the MDIO bus of"
                } else {
                    "its MDIO bus has the PHY of"
                };
                let reason =
                    format!("{whose} {}, which stays: {}", tie.with, other.verdict.reason());
                Some(no(Cause::PhyElsewhere, reason))
            }
            _ => None,
        }
    })
}

fn closure(from: usize, nics: &[PlatformNic], needs: impl Fn(TieKind) -> bool) -> Vec<String> {
    let mut set = vec![from];
    let mut next = 0;
    while let Some(nic) = set.get(next).and_then(|at| nics.get(*at)) {
        next += 1;
        for tie in nic.ties.iter().filter(|tie| needs(tie.kind)) {
            let other = nics.iter().position(|other| other.path == tie.with);
            if let Some(other) = other.filter(|other| !set.contains(other)) {
                set.push(other);
            }
        }
    }
    set.into_iter().skip(1).filter_map(|at| nics.get(at)).map(|nic| nic.path.clone()).collect()
}

/// What an operator must see to, or should know.
fn conditions(nic: &PlatformNic, known: bool) -> Vec<String> {
    let mut all = Vec::new();
    let has = |property: &str| nic.uses.iter().any(|it| it.property == property);
    if has("clocks") {
        all.push(
            "its clocks stay with the host, and no driver there holds them: boot the host with \
             clk_ignore_unused, unless firmware keeps them running"
                .to_owned(),
        );
    }
    if has("power-domains") {
        all.push(
            "its power domain is switched on by the host when vfio-platform takes it, and off \
             afterwards"
                .to_owned(),
        );
    }
    if has("resets") {
        all.push(
            "its reset line stays with the host: a guest cannot pull it, and what a guest left \
             in the NIC stays unless vfio-platform has a reset driver for it"
                .to_owned(),
        );
    }
    if nic.uses.iter().any(|it| it.property.ends_with("-supply")) {
        all.push("its PHY's supply stays with the host: mark it regulator-always-on".to_owned());
    }
    if nic.regions.iter().any(|it| it.address % 4096 != 0 || it.size % 4096 != 0) {
        all.push(
            "a range of its registers is not whole pages: every access to it costs an exit"
                .to_owned(),
        );
    }
    let lines = nic.interrupts.iter().map(|it| (&it.controller, &it.specifier));
    if lines.clone().enumerate().any(|(at, line)| lines.clone().take(at).any(|it| it == line)) {
        all.push(
            "two of its interrupts are one line, which vfio-platform gives out once only: a VMM \
             that asks for both is refused the second"
                .to_owned(),
        );
    }
    if nic.mac.is_none() {
        all.push("the tree has no address for it: give one, or the guest makes one up".to_owned());
    }
    if nic.link.mode.is_none() {
        all.push("its node has no phy-mode: the board may not wire it".to_owned());
    }
    if nic.ties.iter().any(|tie| tie.kind == TieKind::Switch) {
        all.push("a switch hangs on it: what is behind that switch moves with it".to_owned());
    }
    if !known {
        all.push("no board file: its clocks' rates are the usual ones".to_owned());
    }
    if let Verdict::NeedsIommu { iommu, .. } = &nic.verdict {
        all.push(format!(
            "{iommu} is new to the kernel: boot the host with iommu.passthrough=1, and with \
             arm-smmu.disable_bypass=0 if masters behind it are not named"
        ));
    }
    let streams = nic.streams.iter();
    if streams.clone().any(|a| nic.streams.iter().any(|b| !std::ptr::eq(a, b) && same_stream(a, b)))
    {
        all.push("two of its streams overlap".to_owned());
    }
    all
}
