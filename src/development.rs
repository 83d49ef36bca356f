//! The steps of the `development` scenario: the host itself routes. Insecure, and said so.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::declaration::Declaration;
use crate::identity;
use crate::plan::{Part, Step};
use crate::run::paths::RunDir;
use crate::secure::{common, link_command, listen, start};

/// The programs that the steps run, and the Debian packages that have them.
pub const PROGRAMS: [(&str, &str); 3] =
    [("ip", "iproute2"), ("nft", "nftables"), ("dnsmasq", "dnsmasq-base")];

/// The bridge that the guests' TAPs are ports of.
pub const BRIDGE: &str = "netvm-dev";
/// The table of the host's ruleset that is ours.
const TABLE: &str = "netvm_development";

/// What `netvm up` prints before it starts.
pub fn warning(declaration: &Declaration) -> String {
    let guests: Vec<_> = declaration.guests.iter().map(|guest| guest.name.as_str()).collect();
    format!(
        "INSECURE: this is the development scenario. There is no netvm: this host's NIC driver and network stack \
         meet every packet.\n  exposed to the Internet: this host's kernel\n  exposed to the guests ({}): this host's \
         kernel, its services on {} ({BRIDGE}), and each other\n  Use scenario = \"secure\" for anything but development.",
        guests.join(", "),
        declaration.network.address,
    )
}

/// The TAP of the link at `index`.
fn tap(index: u32) -> String {
    format!("netvm-tap{index}")
}

/// Every step, in order.
pub fn steps(declaration: &Declaration, run: &RunDir, link: &Path) -> Vec<Step> {
    let network = &declaration.network;
    let mut steps = common(run);
    steps.push(Step::Directory { path: run.development() });
    steps.push(interface(&["ip", "link", "add", BRIDGE, "type", "bridge"], BRIDGE));
    let address = format!("{}/{}", network.address, network.subnet.prefix_len());
    for command in [
        vec!["ip", "link", "set", BRIDGE, "address", &network.mac.to_string()],
        vec!["ip", "address", "add", &address, "dev", BRIDGE],
        vec!["ip", "link", "set", BRIDGE, "mtu", &network.mtu.to_string(), "up"],
    ] {
        steps.push(run_command(&command));
    }
    let path = PathBuf::from("/proc/sys/net/ipv4/ip_forward");
    steps.push(Step::Setting { path, value: "1".to_owned() });
    let ruleset = run.development().join("ruleset.nft");
    steps.push(Step::File { path: ruleset.clone(), contents: nat(declaration) });
    let mut argv = words(&["nft", "-f"]);
    argv.push(ruleset.into());
    // `nft add` of what is there is no error, so deleting afterwards always has something to delete.
    let undo = format!("nft add table ip {TABLE} && nft delete table ip {TABLE}");
    steps.push(Step::Command { argv, undo: Some(words(&["sh", "-c", &undo])) });
    for (guest, index) in declaration.guests.iter().zip(0..) {
        let name = tap(index);
        let identity = identity::link(index);
        steps.push(interface(
            &["ip", "tuntap", "add", "dev", &name, "mode", "tap", "vnet_hdr"],
            &name,
        ));
        let mtu = network.mtu.to_string();
        steps.push(run_command(&["ip", "link", "set", &name, "master", BRIDGE, "mtu", &mtu, "up"]));
        steps.push(Step::Directory { path: run.link(guest.name.as_str()) });
        steps.push(listen(run, guest));
        let far = words(&["--tap", &name, "--control", "fd:4"]);
        let argv = link_command(link, declaration, guest, identity, &far);
        let sockets = vec![run.guest_socket(guest.name.as_str())];
        steps.push(start(Part::Link(guest.name.to_string()), argv, None, sockets));
    }
    let argv = dnsmasq(declaration, &run.development_leases());
    steps.push(start(Part::Dnsmasq, argv, None, Vec::new()));
    steps
}

/// A command that makes the interface `name`.
fn interface(command: &[&str], name: &str) -> Step {
    let undo = format!(
        "ip link show dev {name} >/dev/null 2>&1 || exit 0; exec ip link delete dev {name}"
    );
    Step::Command { argv: words(command), undo: Some(words(&["sh", "-c", &undo])) }
}

fn run_command(command: &[&str]) -> Step {
    Step::Command { argv: words(command), undo: None }
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn nat(declaration: &Declaration) -> String {
    let subnet = declaration.network.subnet;
    format!(
        "table ip {TABLE} {{\n\
         \tchain postrouting {{\n\
         \t\ttype nat hook postrouting priority srcnat; policy accept;\n\
         \t\tip saddr {subnet} ip daddr != {subnet} masquerade\n\
         \t}}\n\
         }}\n"
    )
}

fn dnsmasq(declaration: &Declaration, leases: &Path) -> Vec<OsString> {
    let network = &declaration.network;
    let mut argv = words(&[
        "dnsmasq",
        "--keep-in-foreground",
        "--log-facility=-",
        "--conf-file=/dev/null",
        "--no-hosts",
        "--bind-dynamic",
        "--except-interface=lo",
        "--dhcp-authoritative",
        // None: the usual one belongs to the host's own dnsmasq.
        "--pid-file",
    ]);
    let mut option = |text: String| argv.push(text.into());
    option(format!("--dhcp-leasefile={}", leases.display()));
    option(format!("--interface={BRIDGE}"));
    option(format!("--domain={}", network.domain.as_str()));
    option(format!("--dhcp-option=option:mtu,{}", network.mtu));
    for server in &network.dns {
        option(format!("--server={server}"));
    }
    match declaration.dynamic_range() {
        Some(range) => option(format!("--dhcp-range={},{},1h", range.first, range.last)),
        None => option(format!("--dhcp-range={},static,1h", network.subnet.network())),
    }
    for guest in &declaration.guests {
        if let Some(address) = guest.address {
            option(format!("--dhcp-host={},{address},{}", guest.mac, guest.name));
        }
    }
    argv
}
