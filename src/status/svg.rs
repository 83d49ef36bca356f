//! The topology as it runs, as an SVG: guests, their links, netvm, the NIC, the wire.

use std::fmt::{self, Display, Write as _};

/// What is drawn; text is escaped here.
#[derive(Debug, Default)]
pub struct Drawing {
    /// The line above the picture.
    pub title: String,
    /// One row a link, top to bottom.
    pub links: Vec<Row>,
    /// The lines in the box in the middle: netvm, or the host in the `development` scenario.
    pub centre: Vec<String>,
    /// The lines in the NIC's box.
    pub nic: Vec<String>,
    /// Whether the middle is one that isolates the host (drawn green) or not (drawn red).
    pub isolated: bool,
}

/// A guest and its link.
#[derive(Debug, Default)]
pub struct Row {
    /// The guest's name.
    pub guest: String,
    /// Below its name: addresses.
    pub detail: String,
    /// In the link's box: frames and drops.
    pub link: String,
    /// Whether the guest's VMM is connected.
    pub guest_connected: bool,
    /// Whether the far end is connected.
    pub far_connected: bool,
}

const ROW: usize = 84;
const TOP: usize = 84;
/// What the columns are: where their names begin.
const COLUMNS: [(usize, &str); 4] = [
    (24, "guests"),
    (270, "links: one sandboxed process each"),
    (530, "routes"),
    (780, "NIC, behind the IOMMU"),
];

impl Display for Drawing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.links.len().max(2);
        let height = TOP + rows * ROW;
        let body = rows * ROW - 24;
        writeln!(
            f,
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1000 {height}" font-family="ui-sans-serif, sans-serif" font-size="13">
<rect width="1000" height="{height}" fill="#ffffff"/>
<text x="24" y="36" font-size="18" fill="#1f2933">{}</text>"##,
            escape(&self.title)
        )?;
        for (x, name) in COLUMNS {
            writeln!(f, r##"<text x="{x}" y="{}" fill="#5b6672">{name}</text>"##, TOP - 14)?;
        }
        for (index, row) in self.links.iter().enumerate() {
            let y = TOP + index * ROW;
            let middle = y + 30;
            wire(f, 210, 270, middle, row.guest_connected)?;
            wire(f, 470, 530, middle, row.far_connected)?;
            card(f, (24, y, 186, 60), "#e8f0fe", "#3b6fd4", &[&row.guest, &row.detail])?;
            card(
                f,
                (270, y, 200, 60),
                "#f5f0e6",
                "#a67c2d",
                &[&format!("link {}", row.guest), &row.link],
            )?;
        }
        let (fill, edge) =
            if self.isolated { ("#e7f6ec", "#2f8f4e") } else { ("#fdecea", "#c0392b") };
        let centre: Vec<&str> = self.centre.iter().map(String::as_str).collect();
        card(f, (530, TOP, 200, body), fill, edge, &centre)?;
        wire(f, 730, 780, TOP + body / 2, true)?;
        let nic: Vec<&str> = self.nic.iter().map(String::as_str).collect();
        card(f, (780, TOP, 150, body), "#f0f1f3", "#5b6672", &nic)?;
        wire(f, 930, 990, TOP + body / 2, true)?;
        writeln!(f, "</svg>")
    }
}

/// A line from one box to the next, dashed if it is not `up`.
pub(crate) fn wire(
    f: &mut fmt::Formatter<'_>,
    from: usize,
    to: usize,
    y: usize,
    up: bool,
) -> fmt::Result {
    let (colour, dash) = if up { ("#1f2933", "none") } else { ("#c0392b", "4 4") };
    writeln!(
        f,
        r#"<line x1="{from}" y1="{y}" x2="{to}" y2="{y}" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>"#
    )
}

/// A box with lines of text, the first bold.
pub(crate) fn card(
    f: &mut fmt::Formatter<'_>,
    (x, y, width, height): (usize, usize, usize, usize),
    fill: &str,
    edge: &str,
    lines: &[&str],
) -> fmt::Result {
    writeln!(
        f,
        r#"<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{fill}" stroke="{edge}"/>"#
    )?;
    for (index, line) in lines.iter().enumerate() {
        let (text_x, text_y) = (x + 12, y + 25 + index * 20);
        let weight = if index == 0 { 600 } else { 400 };
        writeln!(
            f,
            r##"<text x="{text_x}" y="{text_y}" font-weight="{weight}" fill="#1f2933">{}</text>"##,
            escape(line)
        )?;
    }
    Ok(())
}

/// Text as it may stand in an SVG.
pub(crate) fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push('.'),
            c => {
                let _ = out.write_char(c);
            }
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawing_escapes_what_comes_from_elsewhere() {
        let drawing = Drawing { title: "<script>&".into(), ..Drawing::default() }.to_string();
        assert!(drawing.contains("&lt;script&gt;&amp;"));
        assert!(!drawing.contains("<script"));
    }

    #[test]
    fn drawing_has_every_guest_and_shows_what_is_not_connected() {
        let row = |guest: &str, up| Row {
            guest: guest.into(),
            guest_connected: up,
            far_connected: true,
            ..Row::default()
        };
        let drawing =
            Drawing { links: vec![row("a", true), row("b", false)], ..Drawing::default() };
        let svg = drawing.to_string();
        assert!(svg.contains("link a") && svg.contains("link b"));
        assert_eq!(svg.matches(r#"stroke-dasharray="4 4""#).count(), 1);
    }
}
