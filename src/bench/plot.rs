//! The report as bars.

use std::fmt::{self, Display};

use super::report::Report;
use super::table::size;

/// A report, to draw.
#[derive(Debug)]
pub struct Plot<'a>(pub &'a Report);

/// Bars of one kind.
struct Panel {
    title: &'static str,
    /// Name and value of each bar.
    bars: Vec<(String, f64)>,
}

const WIDTH: usize = 1000;
const LEFT: usize = 330;
/// Room for the longest bar; its value is written behind it.
const BAR: f64 = 560.0;
const ROW: usize = 24;
const HEADING: usize = 56;
const TOP: usize = 64;

impl Plot<'_> {
    fn panels(&self) -> Vec<Panel> {
        let report = self.0;
        let load = || report.throughput.iter();
        let name = |row| format!("{}, {}", size(row), row.ways.name());
        let links = || report.links.iter();
        let count = |count: u16| format!("{count} links");
        let latency = || report.latency.iter();
        let panels = [
            Panel {
                title: "Million frames a second, both ends together",
                bars: load().map(|row| (name(row), row.frames() / 1e6)).collect(),
            },
            Panel {
                title: "Gigabytes a second, both ends together",
                bars: load()
                    .map(|row| (name(row), row.bytes() / 1e9))
                    .chain(
                        report
                            .copy_bytes_per_s
                            .map(|rate| ("memory to memory, one core".to_owned(), rate / 1e9)),
                    )
                    .collect(),
            },
            Panel {
                title: "CPU of busy links on one core: nanoseconds per 64-byte frame",
                bars: links()
                    .filter_map(|row| Some((count(row.busy.links), row.busy.cpu_ns_per_frame?)))
                    .collect(),
            },
            Panel {
                title: "Latency, 99 of 100 frames: microseconds",
                bars: latency()
                    .map(|row| (row.path.to_owned(), row.times.p99_ns as f64 / 1e3))
                    .collect(),
            },
        ];
        panels.into_iter().filter(|panel| !panel.bars.is_empty()).collect()
    }
}

impl Display for Plot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let panels = self.panels();
        let rows: usize = panels.iter().map(|panel| HEADING + panel.bars.len() * ROW).sum();
        let height = TOP + rows + 24;
        writeln!(
            f,
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="ui-sans-serif, sans-serif" font-size="13">
<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>
<text x="24" y="36" font-size="18" fill="#1f2933">netvm bench, {} rings, {}</text>"##,
            self.0.setting.ring,
            escape(&self.0.machine.cpu)
        )?;
        let mut y = TOP;
        for panel in &panels {
            draw(f, panel, y)?;
            y += HEADING + panel.bars.len() * ROW;
        }
        writeln!(f, "</svg>")
    }
}

fn draw(f: &mut fmt::Formatter<'_>, panel: &Panel, top: usize) -> fmt::Result {
    writeln!(
        f,
        r##"<text x="24" y="{}" font-weight="600" fill="#1f2933">{}</text>"##,
        top + 24,
        panel.title
    )?;
    let longest = panel.bars.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    for (index, (name, value)) in panel.bars.iter().enumerate() {
        let y = top + 38 + index * ROW;
        let width = (value / longest * BAR).max(1.0);
        writeln!(
            f,
            r##"<text x="{}" y="{}" text-anchor="end" fill="#5b6672">{}</text>
<rect x="{LEFT}" y="{y}" width="{width:.1}" height="16" rx="3" fill="#3b6fd4"/>
<text x="{:.1}" y="{}" fill="#1f2933">{}</text>"##,
            LEFT - 10,
            y + 13,
            escape(name),
            LEFT as f64 + width + 8.0,
            y + 13,
            digits(*value)
        )?;
    }
    Ok(())
}

/// Three digits or so.
fn digits(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::report;

    #[test]
    fn plot_has_a_bar_for_every_number_and_escapes_names() {
        let report = report();
        let svg = Plot(&report).to_string();
        // Frames, bytes and memory, CPU, latency.
        assert_eq!(svg.matches("rx=\"3\"").count(), 2 + 3 + 1 + 1);
        assert!(svg.contains("CPU &lt;1&gt;"));
        // The longest bar of a panel is as long as there is room.
        assert!(svg.contains("width=\"560.0\""));
    }

    #[test]
    fn plot_of_nothing_is_a_title() {
        let report = Report {
            throughput: Vec::new(),
            links: Vec::new(),
            latency: Vec::new(),
            copy_bytes_per_s: None,
            ..report()
        };
        assert_eq!(Plot(&report).to_string().matches("<rect").count(), 1);
    }
}
