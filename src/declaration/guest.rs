//! The `[[guest]]` tables and the spare links.

use std::net::Ipv4Addr;
use std::ops::{Range, RangeInclusive};

use serde::Serialize;

use super::LINKS_MAX;
use super::at::At;
use super::check::{Check, Field};
use super::error::Problem;
use super::mac::{MacAddress, MacRole};
use super::memory::Memory;
use super::name::{HostName, NameError};
use super::netvm::{Netvm, UID_MAX, check_memory};
use super::network::{Network, host_range, is_host};
use super::rate::{Rate, check_rate};
use super::raw::RawGuest;
use crate::vmm::Vmm;

/// Names that mean something else in netvm's DNS or in the command's own words.
const RESERVED: [&str; 4] = ["netvm", "host", "localhost", "gateway"];

/// Least memory of a guest, as some are tiny.
const GUEST_MEMORY_MIN: Memory = Memory::from_mebibytes(16);

/// CPU numbers that the kernel's interface takes. Whether there is such a CPU is known only where
/// the link runs.
const CPUS: RangeInclusive<u16> = 0..=1023;

/// A guest with a link to netvm, or a spare link for one that comes later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Guest {
    /// Unique; `spare-N` for a spare link.
    pub name: HostName,
    /// Of the guest's card; unique over everything else in the declaration.
    pub mac: MacAddress,
    /// Of netvm's card at the other end of the link, by which netvm tells its links apart.
    pub card_mac: MacAddress,
    /// Fixed address; `None`: dynamic.
    pub address: Option<Ipv4Addr>,
    /// What runs it.
    pub vmm: Vmm,
    /// Its memory, 16 MiB to 1 TiB.
    pub memory: Memory,
    /// User id that may connect to its end of the link, if not root.
    pub user: Option<u32>,
    /// What its link carries in a second.
    pub rate: Rate,
    /// CPU that its link runs on; `None`: any. Whether the host has it is not known here: see
    /// [`Parsed::check_cpus`](super::Parsed::check_cpus).
    pub link_cpu: Option<u16>,
    /// Whether it is a spare link.
    pub spare: bool,
}

/// A guest between raw and plain: what is wrong in it takes no part in comparisons.
pub(super) struct Draft {
    name: Field<HostName>,
    mac: Field<MacAddress>,
    address: Field<Ipv4Addr>,
    vmm: Field<Vmm>,
    memory: Field<Memory>,
    user: Field<u32>,
    rate: Field<Rate>,
    link_cpu: Field<u16>,
}

impl Draft {
    /// The name with its place, if it is right.
    pub(super) fn name(&self) -> Option<&At<HostName>> {
        self.name.good()
    }

    /// The CPU of its link with its place, if it is one.
    pub(super) fn link_cpu(&self) -> Option<&At<u16>> {
        self.link_cpu.good()
    }

    /// The fixed address, if it is right.
    pub(super) fn address(&self) -> Option<Ipv4Addr> {
        self.address.good().map(|at| at.value)
    }

    /// Whether an address is written, right or wrong.
    pub(super) fn has_address(&self) -> bool {
        !matches!(self.address, Field::Absent)
    }

    /// The MAC address that the guest has in the end, with the place to blame for it.
    fn mac(&self) -> Option<At<MacAddress>> {
        match (&self.mac, &self.name) {
            (Field::Good(mac), _) => Some(mac.clone()),
            (Field::Absent, Field::Good(At { span, value })) => Some(At {
                span: span.clone(),
                value: MacAddress::derive(MacRole::Guest, value.as_str()),
            }),
            _ => None,
        }
    }

    fn finish(self, default_vmm: Vmm) -> Option<Guest> {
        let mac = self.mac()?.value;
        let name = self.name.optional()??;
        Some(Guest {
            mac,
            card_mac: MacAddress::derive(MacRole::Card, name.as_str()),
            name,
            address: self.address.optional()?,
            vmm: self.vmm.or(default_vmm)?,
            memory: self.memory.or(Memory::from_mebibytes(512))?,
            user: self.user.optional()?,
            rate: self.rate.or(Rate::default())?,
            link_cpu: self.link_cpu.optional()?,
            spare: false,
        })
    }
}

/// Validates each `[[guest]]` and all of them against each other.
pub(super) fn check_guests(
    check: &mut Check,
    raw: &[At<RawGuest>],
    network: Option<&Network>,
) -> Vec<Draft> {
    let drafts: Vec<Draft> = raw.iter().map(|raw| check_guest(check, raw, network)).collect();
    let names = drafts.iter().filter_map(|draft| draft.name.good().cloned());
    report_twice(check, names, "netvm::guest::duplicate_name", "name", "give one another name");
    let addresses = drafts.iter().filter_map(|draft| draft.address.good().cloned());
    let fix = "give one another address, or none for a dynamic one";
    report_twice(check, addresses, "netvm::guest::duplicate_address", "address", fix);
    check_macs(check, &drafts, network);
    drafts
}

/// Turns drafts into guests, with spare links behind them; `None` if one of them was wrong.
pub(super) fn finish_guests(
    drafts: Vec<Draft>,
    spare_links: u16,
    netvm: &Netvm,
) -> Option<Vec<Guest>> {
    let declared = drafts.into_iter().map(|draft| draft.finish(netvm.vmm));
    let spares = (1..=spare_links).map(|number| {
        let name = HostName::spare(number);
        Some(Guest {
            mac: MacAddress::derive(MacRole::Guest, name.as_str()),
            card_mac: MacAddress::derive(MacRole::Card, name.as_str()),
            name,
            address: None,
            vmm: netvm.vmm,
            memory: Memory::from_mebibytes(512),
            user: None,
            rate: Rate::default(),
            link_cpu: None,
            spare: true,
        })
    });
    declared.chain(spares).collect()
}

fn check_guest(check: &mut Check, raw: &At<RawGuest>, network: Option<&Network>) -> Draft {
    let At { span, value: raw } = raw;
    let mac_fix = "write six pairs of hex digits whose first byte is even, such as \
                   \"02:00:00:00:00:01\", or leave it out";
    Draft {
        name: check_name(check, span, raw.name.as_ref()),
        mac: check.parsed(
            span,
            "mac",
            raw.mac.as_ref(),
            ("netvm::guest::mac", "an address that a card can have", mac_fix),
        ),
        address: check_address(check, span, raw.address.as_ref(), network),
        vmm: check.plain(span, "vmm", raw.vmm.as_ref()),
        memory: check_memory(check, span, raw.memory.as_ref(), GUEST_MEMORY_MIN),
        user: check.number(span, "user", raw.user.as_ref(), 0..=UID_MAX, "netvm::vm::user"),
        rate: check_rate(check, span, raw.rate.as_ref()),
        link_cpu: check.number(
            span,
            "link_cpu",
            raw.link_cpu.as_ref(),
            CPUS,
            "netvm::guest::link_cpu",
        ),
    }
}

/// Whether spare links are named like this: `spare-` and a number.
fn is_spare_name(name: &str) -> bool {
    name.strip_prefix("spare-")
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

fn check_name(
    check: &mut Check,
    table: &Range<usize>,
    raw: Option<&At<String>>,
) -> Field<HostName> {
    let field = check.plain(table, "name", raw);
    let field = check.required(
        field,
        table,
        "netvm::guest::unnamed",
        "This [[guest]] has no name",
        "write `name`, such as \"browser\"",
    );
    let Field::Good(At { span, value: text }) = field else { return Field::Bad };
    let (code, message, fix) = match text.parse::<HostName>() {
        Ok(_) if RESERVED.contains(&text.as_str()) || is_spare_name(&text) => (
            "netvm::guest::reserved_name",
            format!("No guest can be named \"{text}\": the name is taken"),
            "choose another name; spare links are declared with `spare_links`".to_owned(),
        ),
        Ok(value) => return Field::Good(At { span, value }),
        Err(reason) => (
            "netvm::guest::name",
            format!("\"{text}\" is not a host name: {reason}"),
            match reason {
                NameError::UpperCase => format!("write \"{}\"", text.to_ascii_lowercase()),
                _ => "use lower-case letters, digits and hyphens, 63 at most".to_owned(),
            },
        ),
    };
    check.report(Problem::error(code, span, message, "this name").help(fix));
    Field::Bad
}

fn check_address(
    check: &mut Check,
    table: &Range<usize>,
    raw: Option<&At<String>>,
    network: Option<&Network>,
) -> Field<Ipv4Addr> {
    let fix = "write four numbers with dots between them, or leave it out for a dynamic address";
    let field: Field<Ipv4Addr> =
        check.parsed(table, "address", raw, ("netvm::guest::address", "an IPv4 address", fix));
    let (Some(At { span, value: address }), Some(network)) = (field.good(), network) else {
        return field;
    };
    let subnet = network.subnet;
    let refusal = if !subnet.contains(address) {
        ("netvm::guest::address_outside", format!("{address} is outside of {subnet}"))
    } else if !is_host(subnet, *address) {
        let message = format!("{address} is the network or broadcast address of {subnet}");
        ("netvm::guest::address_unusable", message)
    } else if *address == network.address {
        ("netvm::guest::address_of_netvm", format!("{address} is netvm's own address"))
    } else {
        return field;
    };
    let (code, message) = refusal;
    let fix = host_range(subnet) + &format!(", but not {}", network.address);
    check.report(Problem::error(code, span.clone(), message, "this address").help(fix));
    Field::Bad
}

/// Reports each value that was there before.
fn report_twice<T: PartialEq + std::fmt::Display>(
    check: &mut Check,
    values: impl Iterator<Item = At<T>>,
    code: &'static str,
    what: &str,
    fix: &str,
) {
    let mut seen: Vec<At<T>> = Vec::new();
    for at in values {
        if let Some(first) = seen.iter().find(|first| first.value == at.value) {
            let message = format!("Two guests have the {what} {}", at.value);
            check.report(
                Problem::error(code, at.span, message, "again here")
                    .also(first.span.clone(), "first here")
                    .help(fix),
            );
        } else {
            seen.push(at);
        }
    }
}

/// MAC addresses differ over guests, spare links and netvm's own cards.
fn check_macs(check: &mut Check, drafts: &[Draft], network: Option<&Network>) {
    let fix = "give one another `mac`, or none for one derived from its name";
    let macs: Vec<At<MacAddress>> = drafts.iter().filter_map(Draft::mac).collect();
    report_twice(check, macs.iter().cloned(), "netvm::guest::duplicate_mac", "MAC address", fix);
    let mut own: Vec<MacAddress> = drafts
        .iter()
        .filter_map(Draft::name)
        .map(|name| MacAddress::derive(MacRole::Card, name.value.as_str()))
        .collect();
    own.extend(network.map(|network| network.mac));
    // Spare links are declared by number alone, and their number may change.
    for spare in (1..=LINKS_MAX).map(HostName::spare) {
        own.extend(
            [MacRole::Guest, MacRole::Card].map(|role| MacAddress::derive(role, spare.as_str())),
        );
    }
    for At { span, value } in macs {
        if own.contains(&value) {
            check.report(
                Problem::error(
                    "netvm::guest::mac_of_netvm",
                    span,
                    format!(
                        "{value} is the address of one of netvm's own cards or of a spare link"
                    ),
                    "this address",
                )
                .help("give the guest another `mac`, or none for one derived from its name"),
            );
        }
    }
}
