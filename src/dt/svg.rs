//! A NIC and what it depends on as an SVG: what moves to the guest on the right, what stays on the
//! left, the IOMMU between.

use std::fmt::{self, Display};

use dt_overlay::board::Board;
use dt_overlay::survey::PlatformNic;

use super::explain::{kind, moves};
use super::table::answer;
use crate::status::svg::{card, escape, wire};

const TOP: usize = 84;
const ROW: usize = 68;
/// Most boxes in a column; the rest is counted.
const MOST: usize = 24;

/// What is drawn; text is escaped when it is.
#[derive(Debug)]
pub(super) struct Drawing {
    title: String,
    answer: String,
    /// Two lines a box.
    stays: Vec<[String; 2]>,
    iommu: Vec<String>,
    moves: Vec<[String; 2]>,
    possible: bool,
}

impl Drawing {
    pub(super) fn new(nic: &PlatformNic, board: Option<&Board>) -> Self {
        let mut stays: Vec<[String; 2]> = Vec::new();
        for it in nic.uses.iter().filter(|it| !moves(nic, it)) {
            let name = it.name.as_deref().unwrap_or("");
            stays.push([format!("{} {name}", it.property), last(&it.of)]);
        }
        stays.extend(nic.ties.iter().map(|tie| [kind(tie.kind).to_owned(), last(&tie.with)]));
        let mut coming: Vec<[String; 2]> = Vec::new();
        for region in &nic.regions {
            coming
                .push(["registers".into(), format!("{:#x} + {:#x}", region.address, region.size)]);
        }
        for interrupt in &nic.interrupts {
            let number = interrupt.spi.map_or_else(String::new, |spi| format!("SPI {spi}"));
            coming.push([format!("interrupt {}", interrupt.name.as_deref().unwrap_or("")), number]);
        }
        if let (Some(phy), true) = (&nic.link.phy, nic.link.own_mdio) {
            coming.push(["PHY".into(), last(phy)]);
        }
        coming.extend(nic.verdict.with().iter().map(|with| ["goes with it".into(), last(with)]));
        let mut iommu = vec!["IOMMU".to_owned()];
        for stream in &nic.streams {
            iommu.push(last(&stream.iommu));
            iommu.push(format!("stream {:x?}", stream.specifier));
        }
        if nic.streams.is_empty() {
            iommu.push("not in the tree".to_owned());
        }
        let on = board.map_or_else(String::new, |board| format!(" on {}", board.name));
        Self {
            title: format!("{}{on}", nic.path),
            answer: format!("Can be given away: {}: {}", answer(nic), nic.verdict.reason()),
            stays: bounded(stays),
            iommu,
            moves: bounded(coming),
            possible: nic.verdict.possible(),
        }
    }
}

/// The last name in a path.
fn last(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).chars().take(30).collect()
}

fn bounded(mut boxes: Vec<[String; 2]>) -> Vec<[String; 2]> {
    if boxes.len() > MOST {
        let more = boxes.len() - MOST;
        boxes.truncate(MOST);
        boxes.push([format!("and {more} more"), String::new()]);
    }
    boxes
}

impl Display for Drawing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.stays.len().max(self.moves.len()).max(2);
        let body = rows * ROW - 14;
        let height = TOP + rows * ROW + 20;
        writeln!(
            f,
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1000 {height}" font-family="ui-sans-serif, sans-serif" font-size="13">
<rect width="1000" height="{height}" fill="#ffffff"/>
<text x="24" y="32" font-size="18" fill="#1f2933">{}</text>
<text x="24" y="54" fill="#5b6672">{}</text>"##,
            escape(&self.title),
            escape(&self.answer.chars().take(140).collect::<String>())
        )?;
        let names =
            [(24, "stays with the host"), (370, "confines it"), (690, "moves to the guest")];
        for (x, name) in names {
            writeln!(f, r##"<text x="{x}" y="{}" fill="#5b6672">{name}</text>"##, TOP - 8)?;
        }
        let (fill, edge) =
            if self.possible { ("#e7f6ec", "#2f8f4e") } else { ("#fdecea", "#c0392b") };
        let iommu: Vec<&str> = self.iommu.iter().take(2 * rows).map(String::as_str).collect();
        card(f, (370, TOP, 250, body), fill, edge, &iommu)?;
        for (nth, lines) in self.stays.iter().enumerate() {
            let y = TOP + nth * ROW;
            wire(f, 300, 370, y + 27, false)?;
            card(f, (24, y, 276, 54), "#f0f1f3", "#5b6672", &[&lines[0], &lines[1]])?;
        }
        for (nth, lines) in self.moves.iter().enumerate() {
            let y = TOP + nth * ROW;
            wire(f, 620, 690, y + 27, self.possible)?;
            card(f, (690, y, 286, 54), "#e8f0fe", "#3b6fd4", &[&lines[0], &lines[1]])?;
        }
        writeln!(f, "</svg>")
    }
}
