//! Whether the parts of a configuration fit together.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{Config, MAX_LINKS, Protocol, Uplink};

/// Parts of a configuration contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The subnet has no room for netvm and a guest, or is written with host bits.
    #[error("Subnet {0} is not a network with a prefix length of 1 to 30")]
    Subnet(Ipv4Net),
    /// An address is not a host address of the subnet.
    #[error("{what} {address} is not a host address of {subnet}")]
    Outside {
        /// Whose address.
        what: String,
        /// The address.
        address: Ipv4Addr,
        /// The guests' subnet.
        subnet: Ipv4Net,
    },
    /// Two things that must differ are the same.
    #[error("{what} {value} is used twice")]
    Duplicate {
        /// What kind of value.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// The range is empty or holds netvm's address.
    #[error("Dynamic range {0} to {1} is empty or holds netvm's own address")]
    Range(Ipv4Addr, Ipv4Addr),
    /// There are guests without an address and no range to take one from.
    #[error("Guest {0} has no address and there is no dynamic range")]
    NoRange(String),
    /// A lease is of no use: the guest has an address of its own, or it is not of the range.
    #[error("Guest {0} cannot hold a lease of {1}")]
    Lease(String, Ipv4Addr),
    /// The MTU is out of bounds.
    #[error("MTU {0} is not between 1280 and 65521")]
    Mtu(u16),
    /// More links than a bridge has ports.
    #[error("{0} links are too many: a Linux bridge has 1023 ports")]
    TooManyLinks(usize),
    /// A rule names no link.
    #[error("Rule names guest {0}, which has no link")]
    UnknownGuest(String),
    /// A rule lets a guest reach itself.
    #[error("Rule lets guest {0} reach itself, which never passes netvm")]
    ToItself(String),
    /// Ports do not go with the protocol, or a port is 0, or a range is empty.
    #[error(
        "Rule for guest {0} has ports that its protocol does not have, port 0, or an empty range"
    )]
    Ports(String),
    /// A forward leads to a guest without an address of its own.
    #[error("Forward of port {port} leads to guest {guest}, which has no static address")]
    ForwardToDynamic {
        /// The port on the uplink.
        port: u16,
        /// The guest.
        guest: String,
    },
    /// The static uplink is in the guests' subnet, or its gateway is outside its own network.
    #[error("Uplink {address} via {gateway} does not work: {reason}")]
    Uplink {
        /// Address and prefix length.
        address: Ipv4Net,
        /// The gateway.
        gateway: Ipv4Addr,
        /// What is wrong.
        reason: &'static str,
    },
    /// A DNS server cannot be asked.
    #[error("DNS server {0} is not a unicast address outside the guests' subnet")]
    Dns(Ipv4Addr),
}

/// Checks everything that the types cannot.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let subnet = config.subnet;
    if !(1..=30).contains(&subnet.prefix_len()) || subnet.addr() != subnet.network() {
        return Err(ConfigError::Subnet(subnet));
    }
    host_address(config, "netvm's address", config.address)?;
    if !(1280..=65521).contains(&config.mtu) {
        return Err(ConfigError::Mtu(config.mtu));
    }
    if let Some(&server) =
        config.dns.iter().find(|server| !is_unicast(**server) || subnet.contains(*server))
    {
        return Err(ConfigError::Dns(server));
    }
    dynamic_range(config)?;
    links(config)?;
    rules(config)?;
    uplink(config)
}

fn host_address(config: &Config, what: &str, address: Ipv4Addr) -> Result<(), ConfigError> {
    let subnet = config.subnet;
    if subnet.contains(&address) && address != subnet.network() && address != subnet.broadcast() {
        return Ok(());
    }
    Err(ConfigError::Outside { what: what.to_owned(), address, subnet })
}

fn is_unicast(address: Ipv4Addr) -> bool {
    !address.is_unspecified()
        && !address.is_loopback()
        && !address.is_multicast()
        && !address.is_broadcast()
}

fn dynamic_range(config: &Config) -> Result<(), ConfigError> {
    let Some((first, last)) = config.dynamic_range else {
        let dynamic = config.links.iter().find(|link| link.guest_address.is_none());
        return dynamic.map_or(Ok(()), |link| Err(ConfigError::NoRange(link.name.to_string())));
    };
    host_address(config, "First dynamic address", first)?;
    host_address(config, "Last dynamic address", last)?;
    if first > last || (first..=last).contains(&config.address) {
        return Err(ConfigError::Range(first, last));
    }
    Ok(())
}

fn links(config: &Config) -> Result<(), ConfigError> {
    if config.links.len() > MAX_LINKS {
        return Err(ConfigError::TooManyLinks(config.links.len()));
    }
    let mut macs = BTreeSet::from([config.netvm_mac]);
    let mut names = BTreeSet::new();
    let mut addresses = BTreeSet::from([config.address]);
    for link in &config.links {
        unique("Guest name", &mut names, &link.name)?;
        unique("MAC address", &mut macs, &link.card_mac)?;
        unique("MAC address", &mut macs, &link.guest_mac)?;
        if let Some(address) = link.guest_address {
            host_address(config, &format!("Address of guest {}", link.name), address)?;
            unique("Address", &mut addresses, &address)?;
        }
        if let Some(lease) = &link.lease {
            let range = config.dynamic_range.filter(|_| link.guest_address.is_none());
            if !range.is_some_and(|(first, last)| (first..=last).contains(&lease.address)) {
                return Err(ConfigError::Lease(link.name.to_string(), lease.address));
            }
            unique("Address", &mut addresses, &lease.address)?;
        }
    }
    for nic in &config.nics {
        unique("MAC address", &mut macs, nic)?;
    }
    Ok(())
}

fn unique<T: Ord + Clone + Display>(
    what: &'static str,
    seen: &mut BTreeSet<T>,
    value: &T,
) -> Result<(), ConfigError> {
    if seen.insert(value.clone()) {
        return Ok(());
    }
    Err(ConfigError::Duplicate { what, value: value.to_string() })
}

fn rules(config: &Config) -> Result<(), ConfigError> {
    for rule in &config.allow {
        for name in [&rule.from, &rule.to] {
            if config.link_index(name).is_none() {
                return Err(ConfigError::UnknownGuest(name.to_string()));
            }
        }
        if rule.from == rule.to {
            return Err(ConfigError::ToItself(rule.to.to_string()));
        }
        let has_ports = matches!(rule.protocol, Protocol::Tcp | Protocol::Udp);
        let bad_range = rule.ports.iter().any(|range| *range.start() == 0 || range.is_empty());
        if bad_range || (!has_ports && !rule.ports.is_empty()) {
            return Err(ConfigError::Ports(rule.to.to_string()));
        }
    }
    let mut ports = BTreeSet::new();
    for forward in &config.forwards {
        let guest = forward.to.to_string();
        let link = config.links.iter().find(|link| link.name == forward.to);
        let Some(link) = link else {
            return Err(ConfigError::UnknownGuest(guest));
        };
        let has_ports = matches!(forward.protocol, Protocol::Tcp | Protocol::Udp);
        if !has_ports || forward.port == 0 || forward.to_port == 0 {
            return Err(ConfigError::Ports(guest));
        }
        if link.guest_address.is_none() {
            return Err(ConfigError::ForwardToDynamic { port: forward.port, guest });
        }
        if !ports.insert((forward.protocol == Protocol::Tcp, forward.port)) {
            return Err(ConfigError::Duplicate {
                what: "Forwarded port",
                value: forward.port.to_string(),
            });
        }
    }
    Ok(())
}

fn uplink(config: &Config) -> Result<(), ConfigError> {
    let Uplink::Static { address, gateway } = config.uplink else {
        return Ok(());
    };
    let refuse = |reason| Err(ConfigError::Uplink { address, gateway, reason });
    if address.contains(&config.subnet.network()) || config.subnet.contains(&address.network()) {
        return refuse("it overlaps the guests' subnet");
    }
    if !address.contains(&gateway) || gateway == address.addr() || !is_unicast(gateway) {
        return refuse("the gateway is not another address of its network");
    }
    if !is_unicast(address.addr()) || !(1..=31).contains(&address.prefix_len()) {
        return refuse("it is not a unicast address with a prefix length of 1 to 31");
    }
    Ok(())
}
