//! A NIC in words: what it is, what it depends on, what moves and what stays.

use std::fmt::Write as _;

use dt_overlay::Tree;
use dt_overlay::board::Board;
use dt_overlay::overlay::label;
use dt_overlay::survey::{PlatformNic, TieKind, Use, Verdict};

use super::table::{answer, clean};

/// Writing to a `String` does not fail.
macro_rules! line {
    ($out:expr, $($arg:tt)*) => { let _ = writeln!($out, $($arg)*); };
}

/// A page about the NIC; `host` is its host overlay, if one can be made.
pub(super) fn words(nic: &PlatformNic, board: Option<&Board>, host: Option<&Tree>) -> String {
    let mut out = String::new();
    line!(out, "{} ({})", nic.path, nic.device);
    line!(out, "  {}, Linux driver {}", nic.compatible.join(", "), nic.driver.unwrap_or("unknown"));
    if let Some(board) = board {
        line!(out, "  on {}. {}", board.name, board.hardware);
    }
    line!(out, "\nCan it be given to a guest? {}: {}", answer(nic), nic.verdict.reason());
    if !nic.verdict.with().is_empty() {
        line!(out, "These go with it, or all stay: {}", nic.verdict.with().join(", "));
    }
    line!(out, "\nMoves to the guest");
    for region in &nic.regions {
        line!(out, "  registers {:#x}, {:#x} bytes", region.address, region.size);
    }
    for (nth, interrupt) in nic.interrupts.iter().enumerate() {
        let number = interrupt.spi.map_or_else(String::new, |spi| format!("SPI {spi} "));
        let name = interrupt.name.as_deref().unwrap_or("");
        line!(out, "  interrupt {nth} {name} {number}of {}", interrupt.controller);
    }
    match (&nic.link.phy, nic.link.own_mdio) {
        (Some(phy), true) => {
            line!(out, "  PHY {phy}");
        }
        (Some(phy), false) => {
            line!(out, "  not its PHY: {phy} is on another's bus");
        }
        (None, _) => {}
    }
    line!(out, "\nConfined by");
    for stream in &nic.streams {
        let off = if stream.enabled { "" } else { " (disabled)" };
        line!(out, "  {}{off}, stream {:x?}", stream.iommu, stream.specifier);
    }
    if nic.streams.is_empty() {
        line!(out, "  nothing, as the tree is");
    }
    line!(out, "\nStays with the host");
    for it in nic.uses.iter().filter(|it| !moves(nic, it)) {
        let name = it.name.as_deref().map_or_else(String::new, |name| format!(" {name}"));
        line!(out, "  {}{name}: {} {:?}", it.property, it.of, it.arguments);
    }
    let ties: Vec<_> = nic.ties.iter().collect();
    if !ties.is_empty() {
        line!(out, "\nTied to");
        for tie in ties {
            line!(out, "  {} ({})", tie.with, kind(tie.kind));
        }
    }
    if nic.verdict.possible() {
        line!(out, "\nTo be seen to");
        for condition in &nic.conditions {
            line!(out, "  - {condition}");
        }
        for note in board.map(|board| board.notes.as_slice()).unwrap_or_default() {
            line!(out, "  - {note}");
        }
        line!(out, "\nIn the guest its label is {} (crosvm: dt-symbol)", label(nic));
    }
    for correction in board.map(|board| board.correction.as_slice()).unwrap_or_default() {
        line!(
            out,
            "\nPublished instructions say: {}\n  Instead: {}",
            correction.was,
            correction.now
        );
    }
    if let Some(host) = host {
        line!(out, "\nThe host overlay:\n{}", host.to_dts());
    }
    if !matches!(nic.verdict, Verdict::Impassable { .. }) && host.is_none() {
        line!(out, "\nNo host overlay yet: the streams must be given (--stream)");
    }
    let lines: Vec<String> = out.lines().map(|line| clean(&line.replace('\t', "    "))).collect();
    lines.join("\n") + "\n"
}

/// Whether what it refers to is within it, and so comes along.
pub(super) fn moves(nic: &PlatformNic, it: &Use) -> bool {
    it.of.strip_prefix(nic.path.as_str()).is_some_and(|rest| rest.starts_with('/'))
}

/// How it is tied.
pub(super) fn kind(kind: TieKind) -> &'static str {
    match kind {
        TieKind::PhyThere => "its PHY is on that NIC's MDIO bus",
        TieKind::PhyHere => "that NIC's PHY is on its MDIO bus",
        TieKind::Stream => "one stream of DMA",
        TieKind::Clock => "one clock gate",
        TieKind::Reset => "one reset line",
        TieKind::PowerDomain => "one power domain",
        TieKind::Switch => "a switch behind it",
        TieKind::DmaMaster => "does its DMA",
    }
}
