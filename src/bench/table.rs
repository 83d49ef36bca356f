//! The report as people read it.

use std::fmt::{self, Display};

use comfy_table::{CellAlignment, Table, presets};

use super::report::{Report, Throughput};

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (machine, setting) = (&self.machine, &self.setting);
        writeln!(f, "machine   {}, Linux {}", machine.cpu, machine.kernel)?;
        writeln!(
            f,
            "setting   links on CPU {}, generator on CPU {}, {} rings of {}, {} s each",
            machine.link_cpu,
            machine.generator_cpu,
            setting.ring,
            setting.ring_size,
            setting.seconds
        )?;
        match setting.sandbox_missing.as_slice() {
            [] => writeln!(f, "sandbox   complete")?,
            missing => writeln!(f, "sandbox   without {}", missing.join("; "))?,
        }
        if !self.throughput.is_empty() {
            writeln!(f, "\n{}", self.throughput_table())?;
        }
        if let Some(rate) = self.copy_bytes_per_s {
            writeln!(f, "\nOne core copies {} GB/s from memory to memory.", giga(rate))?;
        }
        if !self.links.is_empty() {
            writeln!(f, "\n{}", self.links_table())?;
        }
        if !self.latency.is_empty() {
            writeln!(f, "\n{}", self.latency_table())?;
        }
        for (heading, lines) in [("Lost", &self.losses), ("Not measured", &self.not_measured)] {
            if !lines.is_empty() {
                writeln!(f, "\n{heading}:")?;
            }
            for line in lines {
                writeln!(f, "  {line}")?;
            }
        }
        Ok(())
    }
}

impl Report {
    fn throughput_table(&self) -> Table {
        let mut table = table(&[
            "FRAMES",
            "WAY",
            "TO NETVM Mframes/s",
            "GB/s",
            "TO GUEST Mframes/s",
            "GB/s",
            "CPU ns/frame",
            "BUSY ns/frame",
            "OF COPY RATE",
            "LOST",
        ]);
        for row in &self.throughput {
            let share = row.of_copy_rate.map(|share| format!("{:.0} %", share * 100.0));
            table.add_row([
                size(row),
                row.ways.name().to_owned(),
                mega(row.frames_per_s[0]),
                giga(row.bytes_per_s[0]),
                mega(row.frames_per_s[1]),
                giga(row.bytes_per_s[1]),
                or_dash(row.cpu_ns_per_frame.map(|ns| format!("{ns:.0}"))),
                or_dash(row.busy_ns_per_frame.map(|ns| format!("{ns:.0}"))),
                or_dash(share),
                row.lost.to_string(),
            ]);
        }
        align(table, 2)
    }

    fn links_table(&self) -> Table {
        let mut table = table(&[
            "LINKS",
            "BUSY Mframes/s",
            "CPU ns/frame",
            "LOST",
            "IDLE wake-ups/s",
            "PRIVATE MiB",
        ]);
        for row in &self.links {
            let mebi = |bytes: u64| format!("{:.2}", bytes as f64 / f64::from(1 << 20));
            table.add_row([
                row.busy.links.to_string(),
                mega(row.busy.frames()),
                or_dash(row.busy.cpu_ns_per_frame.map(|ns| format!("{ns:.0}"))),
                row.busy.lost.to_string(),
                or_dash(row.wakeups_per_s.map(|rate| format!("{rate:.2}"))),
                or_dash(row.private_bytes.map(mebi)),
            ]);
        }
        align(table, 0)
    }

    fn latency_table(&self) -> Table {
        let mut table =
            table(&["64-BYTE FRAME THROUGH", "p50 us", "p99 us", "p99.9 us", "MAX us", "FRAMES"]);
        for row in &self.latency {
            let micro = |ns: u64| format!("{:.1}", ns as f64 / 1000.0);
            let times = row.times;
            table.add_row([
                row.path.to_owned(),
                micro(times.p50_ns),
                micro(times.p99_ns),
                micro(times.p999_ns),
                micro(times.max_ns),
                times.count.to_string(),
            ]);
        }
        align(table, 1)
    }
}

/// The size of a load's frames, in words.
pub fn size(row: &Throughput) -> String {
    if row.gso { "64 KiB GSO".to_owned() } else { format!("{} bytes", row.frame_bytes) }
}

fn mega(rate: f64) -> String {
    format!("{:.3}", rate / 1e6)
}

fn giga(rate: f64) -> String {
    format!("{:.2}", rate / 1e9)
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(header);
    table
}

/// Numbers, from column `first` on, to the right.
fn align(mut table: Table, first: usize) -> Table {
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if index >= first {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use crate::bench::report::tests::report;

    #[test]
    fn table_has_every_number_and_says_what_is_missing() {
        let text = report().to_string();
        for wanted in [
            "links on CPU 0, generator on CPU 1, split rings of 256, 2 s each",
            "without landlock",
            "64 KiB GSO",
            "1.250",
            "80 %",
            "copies 10.00 GB/s",
            "0.50",
            "1.50",
            "12.3",
            "  tap + bridge: needs root",
        ] {
            assert!(text.contains(wanted), "{wanted} is not in\n{text}");
        }
    }
}
