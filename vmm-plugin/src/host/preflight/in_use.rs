//! R4 and D27: the host does not live on what it gives away.

use super::super::device::Device;
use super::super::network::{Link, NetworkFacts};
use super::super::nic::Nic;
use super::super::usb;
use super::Facts;
use super::report::{Check, Override, Report};

const FLAG: (Check, Override) = (Check::R4, Override::TakeFromHost);

pub(super) fn check(facts: Facts<'_>, report: &mut Report) {
    for nic in facts.nics {
        let before = report.findings.len();
        let subject = &nic.device.name;
        for name in &nic.device.netdevs {
            match facts.environment.network.link(name) {
                Some(link) => interface(facts, nic, link, report),
                None => report.refuse_unless(
                    FLAG,
                    subject,
                    format!("nothing is known about its interface {name}"),
                    "It appeared or vanished just now: try again",
                ),
            }
        }
        elsewhere(facts, &nic.device, report);
        storage(facts, nic, report);
        others_on_usb(facts, nic, report);
        report.ok_if_silent(before, Check::R4, subject, "the host does not use it");
    }
    siblings(facts, report);
}

fn interface(facts: Facts<'_>, nic: &Nic, link: &Link, report: &mut Report) {
    let network = &facts.environment.network;
    let stack = network.stack(link.index);
    let subject = &nic.device.name;
    let uses = uses(network, link, &stack);
    if !uses.is_empty() {
        report.refuse_unless(
            FLAG,
            subject,
            format!("the host uses {}: {}", link.name, uses.join(", ")),
            format!(
                "Give the host another way to the network, then release it: `ip addr flush dev \
                 {0}; ip link set {0} down`, and keep NetworkManager or networkd off it",
                link.name
            ),
        );
    } else if let Some(leftover) = leftover(network, link) {
        report.warn(
            Check::R4,
            subject,
            leftover,
            format!("`ip link set {} down` if nothing needs it", link.name),
        );
    }
    session(network, nic, &stack, report);
}

/// What makes the interface part of the host's working network.
fn uses(network: &NetworkFacts, link: &Link, stack: &[&Link]) -> Vec<String> {
    let mut uses = Vec::new();
    if let Some(master) = link.master {
        let name = network.links.iter().find(|l| l.index == master);
        let name = name.map_or("another interface", |l| l.name.as_str());
        uses.push(format!("it is a port of {name}"));
    }
    for upper in stack.iter().filter(|l| l.lower == Some(link.index)) {
        if upper.kind.as_deref() != Some("veth") {
            uses.push(format!("{} sits on it", upper.name));
        }
    }
    for member in stack.iter().filter(|l| l.up) {
        for address in network.addresses.iter().filter(|a| a.link == member.index) {
            if !address.is_link_local() {
                let text = format!("{}/{}", address.address, address.prefix);
                uses.push(format!("{} is up with address {text}", member.name));
            }
        }
    }
    for member in stack {
        let through = |default| {
            network
                .routes
                .iter()
                .any(|r| r.link == member.index && r.default == default && r.gateway | default)
        };
        if through(true) {
            uses.push(format!("the default route leaves by {}", member.name));
        }
        if through(false) {
            uses.push(format!("a route leaves by {}", member.name));
        }
    }
    if link.xdp {
        uses.push("an XDP program is attached".to_owned());
    }
    uses
}

/// What an interface looks like after boot when nobody configured it, or after somebody let go
/// of it.
fn leftover(network: &NetworkFacts, link: &Link) -> Option<String> {
    let addresses: Vec<String> = network
        .addresses
        .iter()
        .filter(|a| a.link == link.index && !a.is_link_local())
        .map(|a| format!("{}/{}", a.address, a.prefix))
        .collect();
    if !addresses.is_empty() {
        let list = addresses.join(", ");
        return Some(format!("{} is down but still has {list}", link.name));
    }
    link.up.then(|| format!("{} is up, without address or route", link.name))
}

/// D27.
fn session(network: &NetworkFacts, nic: &Nic, stack: &[&Link], report: &mut Report) {
    let Some(ssh) = &network.ssh else { return };
    let member = |index: u32| stack.iter().find(|l| l.index == index);
    let by_route = ssh.route.and_then(member);
    let by_address =
        network.addresses.iter().filter(|a| a.address == ssh.server).find_map(|a| member(a.link));
    if let Some(link) = by_route.or(by_address) {
        report.refuse_unless(
            (Check::D27, Override::CutMeOff),
            &nic.device.name,
            format!(
                "this SSH session from {} comes in through {}: it would end",
                ssh.client, link.name
            ),
            "Log in by another interface, a serial console or the machine's own keyboard",
        );
    }
}

/// Consumers that are not network interfaces of this namespace.
fn elsewhere(facts: Facts<'_>, device: &Device, report: &mut Report) {
    let subject = &device.name;
    let network = device.ids.is_some_and(|ids| ids.base_class() == 0x02);
    let vfio = device.name.vfio_driver();
    match &device.driver {
        Some(driver) if driver == vfio => {}
        Some(driver) if network && device.netdevs.is_empty() => report.refuse_unless(
            FLAG,
            subject,
            format!(
                "{driver} drives it, but its interface is not here: it may be in another network \
                 namespace (a container's)"
            ),
            "Stop the container, or move the interface back",
        ),
        _ => {}
    }
    for (class, what) in [("infiniband", "RDMA"), ("drm", "graphics")] {
        if !facts.sysfs.entries(device.directory.join(class)).is_empty() {
            report.refuse_unless(
                FLAG,
                subject,
                format!("the host may use it for {what} ({class} devices exist)"),
                "Stop what uses it and unload that driver",
            );
        }
    }
}

/// A disk below the device, or below another member of its group.
fn storage(facts: Facts<'_>, nic: &Nic, report: &mut Report) {
    let members = nic.device.group.iter().flat_map(|g| &g.members);
    let names = members.chain(std::iter::once(&nic.device.name));
    let mut directories: Vec<_> =
        names.filter_map(|name| facts.sysfs.device_directory(name).ok()).collect();
    directories.sort();
    directories.dedup();
    for directory in directories {
        // A bridge of the group has half the machine below it, which stays with the host.
        let header = facts.sysfs.bytes(directory.join("config"), 64);
        if header.is_some_and(|bytes| bytes.get(0x0e).is_some_and(|t| t & 0x7f == 1)) {
            continue;
        }
        let used: Vec<&str> = facts
            .environment
            .storage
            .iter()
            .filter(|storage| storage.needs(&directory))
            .map(|storage| storage.purpose.as_str())
            .collect();
        if !used.is_empty() {
            report.refuse(
                Check::R4,
                &nic.device.name,
                format!(
                    "the host's storage hangs on {}, which would go with it: {}",
                    directory.file_name().unwrap_or_default().to_string_lossy(),
                    used.join(", ")
                ),
                "Use a NIC in a group of its own",
            );
        }
    }
}

/// Everything else that is plugged into a USB NIC's controller.
fn others_on_usb(facts: Facts<'_>, nic: &Nic, report: &mut Report) {
    let others = match &nic.usb {
        Some(usb) => usb.others.clone(),
        None => usb::below(facts.sysfs, &nic.device.name),
    };
    if !others.is_empty() {
        report.warn(
            Check::R4,
            &nic.device.name,
            format!("these USB devices leave the host with it: {}", others.join("; ")),
            "Plug those the host needs into ports of another USB controller",
        );
    }
}

/// Other functions of a card keep talking to the same firmware.
fn siblings(facts: Facts<'_>, report: &mut Report) {
    for nic in facts.nics {
        let Some(address) = nic.device.name.pci() else {
            continue;
        };
        let others: Vec<String> = facts
            .sysfs
            .pci_devices()
            .into_iter()
            .filter(|other| other.same_slot(&address))
            .map(super::super::DeviceName::Pci)
            .filter(|other| !facts.nics.iter().any(|n| n.device.name == *other))
            // Those of the same group are refused by R3.
            .filter(|other| {
                let group = nic.device.group.as_ref();
                !group.is_some_and(|g| g.members.contains(other))
            })
            .filter_map(|other| Device::read(facts.sysfs, &other).ok())
            .filter(|other| other.driver.is_some())
            .map(|other| other.describe())
            .collect();
        if !others.is_empty() {
            report.warn(
                Check::R4,
                &nic.device.name,
                format!("the host keeps other functions of this card: {}", others.join("; ")),
                "Give the whole card away if its functions share firmware or flash",
            );
        }
    }
}
