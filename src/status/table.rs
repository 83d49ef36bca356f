//! The status as people read it.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets};

use super::{Drawing, LinkStatus, Row, Status};
use crate::run::lines::printable;

impl Status {
    /// The table that `netvm status` prints.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let fixed = &self.fixed;
        let _ = writeln!(out, "scenario  {} (pid {})", fixed.scenario, fixed.pid);
        for nic in &fixed.nics {
            let group = nic.group.map_or_else(|| "none".into(), |group| group.to_string());
            let back = nic.host_driver.as_deref().unwrap_or("no driver");
            let _ = write!(out, "nic       {}", nic.address);
            for text in [&nic.id, &nic.label].into_iter().flatten() {
                let _ = write!(out, " {text}");
            }
            let _ = writeln!(out, " in IOMMU group {group}, goes back to {back}");
        }
        if let Some(line) = self.netvm_line() {
            let _ = writeln!(out, "netvm     {line}");
        }
        if let Some(state) = self.netvm.as_ref().and_then(|netvm| netvm.state.as_ref()) {
            match &state.uplink {
                Some(uplink) => {
                    let _ = writeln!(out, "uplink    {}", uplink_line(uplink));
                }
                None => out.push_str("uplink    none\n"),
            }
        }
        if !fixed.overrides.is_empty() {
            let _ = writeln!(out, "overrides {}", fixed.overrides.join(", "));
        }
        let _ = write!(out, "\n{}\n", self.link_table());
        out
    }

    fn netvm_line(&self) -> Option<String> {
        let netvm = self.netvm.as_ref()?;
        let pid = netvm.pid.map_or_else(|| "not running".into(), |pid| format!("pid {pid}"));
        let Some(state) = &netvm.state else { return Some(format!("{pid}, has not reported yet")) };
        let mut line =
            format!("{}, {pid}, {} on the guests' subnet", state.phase, self.fixed.gateway);
        if !state.reason.is_empty() {
            let _ = write!(line, ": {}", state.reason);
        }
        if state.denied > 0 {
            let _ = write!(line, "; {} packets denied", state.denied);
        }
        if let Some(age) = netvm.age_seconds.filter(|age| *age > 15) {
            let _ = write!(line, "; silent for {age} s");
        }
        Some(line)
    }

    fn link_table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header([
            "GUEST",
            "ADDRESS",
            "MAC",
            "GUEST END",
            "FAR END",
            "SENT",
            "RECEIVED",
            "DROPPED",
        ]);
        for (declared, link) in self.fixed.declared.iter().zip(&self.links) {
            let address = self.address_of(declared).map_or_else(|| "-".into(), |a| a.to_string());
            let (guest, far) = ends(link);
            let (sent, received) = frames(link);
            table.add_row([
                declared.guest.clone(),
                address,
                declared.mac.clone(),
                guest.into(),
                far.into(),
                sent,
                received,
                drops(link),
            ]);
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        for index in [5, 6] {
            if let Some(column) = table.column_mut(index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }

    /// The topology, to draw.
    pub fn drawing(&self) -> Drawing {
        let fixed = &self.fixed;
        let links = fixed.declared.iter().zip(&self.links).map(|(declared, link)| {
            let (sent, received) = frames(link);
            let address = self.address_of(declared).map_or_else(String::new, |a| a.to_string());
            Row {
                guest: declared.guest.clone(),
                detail: address,
                link: format!("{sent} sent, {received} received"),
                guest_connected: link.report.as_ref().is_some_and(|r| r.guest.connected),
                far_connected: link.report.as_ref().is_some_and(|r| r.netvm.connected),
            }
        });
        let isolated = self.netvm.is_some();
        let mut centre =
            vec![if isolated { "netvm".to_owned() } else { "host (insecure)".to_owned() }];
        centre.push(fixed.gateway.to_string());
        if let Some(state) = self.netvm.as_ref().and_then(|netvm| netvm.state.as_ref()) {
            centre.push(state.phase.to_string());
            centre.extend(state.uplink.iter().map(|uplink| format!("uplink {}", uplink.address)));
            centre.push(format!("{} leases", state.leases.len()));
            centre.push(format!("{} packets denied", state.denied));
        }
        let nic = fixed.nics.iter().flat_map(|nic| {
            let group = nic.group.map(|group| format!("IOMMU group {group}"));
            [Some(nic.address.clone()), nic.id.clone(), group].into_iter().flatten()
        });
        Drawing {
            title: format!("netvm, scenario {}", fixed.scenario),
            links: links.collect(),
            centre,
            nic: nic.collect(),
            isolated,
        }
    }
}

fn uplink_line(uplink: &netvm_image::state::Uplink) -> String {
    let mut line = format!("{} on {} ({})", uplink.address, uplink.interface, uplink.driver);
    if let Some(gateway) = &uplink.gateway.0 {
        let _ = write!(line, " via {gateway}");
    }
    if !uplink.dns.is_empty() {
        let dns: Vec<_> = uplink.dns.iter().map(ToString::to_string).collect();
        let _ = write!(line, ", DNS {}", dns.join(" "));
    }
    line
}

fn ends(link: &LinkStatus) -> (&'static str, &'static str) {
    let word = |up| if up { "up" } else { "down" };
    match &link.report {
        Some(report) => (word(report.guest.connected), word(report.netvm.connected)),
        None => ("?", "?"),
    }
}

/// Frames that the guest sent and that it received.
fn frames(link: &LinkStatus) -> (String, String) {
    match &link.report {
        Some(report) => (report.guest.frames_in.to_string(), report.guest.frames_out.to_string()),
        None => ("?".into(), "?".into()),
    }
}

fn drops(link: &LinkStatus) -> String {
    let Some(report) = &link.report else { return "?".into() };
    let drops: Vec<_> = report
        .drops
        .iter()
        .filter(|(_, count)| **count > 0)
        // A link may have been taken over by its guest: its words must not disturb a terminal.
        .map(|(reason, count)| format!("{count} {}", printable(reason.as_bytes())))
        .collect();
    if drops.is_empty() { "0".into() } else { drops.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_named_by_a_hostile_link_do_not_reach_the_terminal_raw() {
        let end = r#"{"kind":"vhost-user","connected":true,"up":true,"features":0,"frames_in":1,
            "bytes_in":1,"frames_out":1,"bytes_out":1,"drops":{},"reconnects":0,"refused":0,
            "ring_faults":0,"last_error":null}"#;
        let text = format!(
            r#"{{"guest":"a","pid":1,"restarts":0,"report":{{"name":"a","guest":{end},"netvm":{end},
            "drops":{{"\u001b[2J":3,"frame-long":0}},"sandbox_missing":[]}}}}"#
        );
        let link: LinkStatus = serde_json::from_str(&text).unwrap();
        assert_eq!(drops(&link), "3 .[2J");
    }
}
