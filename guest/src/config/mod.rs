//! What differs per declaration: rendered on the host into files below /etc/netvm, which are
//! appended to the unchanged image.
//!
//! Every value has a type that cannot hold the syntax of a file, and [`render`] refuses what does
//! not fit together, so a rendered file says what its renderer meant and nothing else.

mod dnsmasq;
mod name;
mod ruleset;
mod serde;
mod sysctl;
mod tables;
mod validate;

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path::Path;

use ipnet::Ipv4Net;

pub use name::{Domain, HostName, InvalidValue, MacAddress, ModuleName};
pub use validate::ConfigError;

use crate::ImageError;
use crate::initramfs::{AppendedFile, append as append_files};

/// Most links one netvm can have: a Linux bridge has 1023 ports.
pub const MAX_LINKS: usize = 1023;

/// A file rendered from a [`Config`].
pub type RenderedFile = AppendedFile;

/// netvm's network as declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The MAC of netvm's bridge, which guests know as their gateway.
    pub netvm_mac: MacAddress,
    /// The network that all guests share; prefix length 1 to 30.
    pub subnet: Ipv4Net,
    /// netvm's address in it: the guests' gateway and DNS server.
    pub address: Ipv4Addr,
    /// The domain of the guests' names.
    pub domain: Domain,
    /// DNS servers to ask; empty means those that the uplink's DHCP server names.
    pub dns: Vec<Ipv4Addr>,
    /// The guests' MTU in bytes: the IP packet, without the Ethernet header; 1280 to 65521.
    pub mtu: u16,
    /// How the uplink gets its address.
    pub uplink: Uplink,
    /// The native cards that may become the uplink. Empty: every Ethernet card that is no link.
    pub nics: Vec<MacAddress>,
    /// Kernel modules to load besides those that the devices ask for.
    pub modules: Vec<ModuleName>,
    /// One per guest, spare links included. The index of a link is its identity in policy.
    pub links: Vec<Link>,
    /// First and last address for guests without one of their own; absent: there are none.
    pub dynamic_range: Option<(Ipv4Addr, Ipv4Addr)>,
    /// Which guest may reach which. Nothing else passes between guests, replies excepted.
    pub allow: Vec<Allow>,
    /// Ports of the uplink's address that lead to a guest.
    pub forwards: Vec<Forward>,
}

/// How the uplink gets its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uplink {
    /// From a DHCP server on the wire.
    Dhcp,
    /// As declared.
    Static {
        /// Address and prefix length.
        address: Ipv4Net,
        /// The default gateway, within that network.
        gateway: Ipv4Addr,
    },
}

/// A link between one guest and netvm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The guest's name.
    pub name: HostName,
    /// The MAC of the link's card in netvm: how netvm tells which card is which link.
    pub card_mac: MacAddress,
    /// The MAC of the guest's card, the only one the link accepts as a source.
    pub guest_mac: MacAddress,
    /// The guest's address; absent: one of [`Config::dynamic_range`].
    pub guest_address: Option<Ipv4Addr>,
    /// What a guest without an address of its own leased from an earlier netvm and still uses.
    pub lease: Option<KnownLease>,
}

/// A dynamic address that a guest holds already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownLease {
    /// The address, one of [`Config::dynamic_range`].
    pub address: Ipv4Addr,
    /// When it ends, in seconds since 1970; 0: never.
    pub expires: u64,
}

/// A protocol that a rule speaks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP echo request (ping); has no ports.
    Icmp,
    /// Every IPv4 protocol; has no ports.
    Any,
}

/// Permission for one guest to open connections to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allow {
    /// Who opens the connection.
    pub from: HostName,
    /// Who is connected to.
    pub to: HostName,
    /// By which protocol.
    pub protocol: Protocol,
    /// To which destination ports; empty: to all. Only for TCP and UDP.
    pub ports: Vec<RangeInclusive<u16>>,
}

/// A port of the uplink's address that leads to a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port on the uplink's address, 1 to 65535.
    pub port: u16,
    /// The guest, which has a static address.
    pub to: HostName,
    /// The port at the guest, 1 to 65535.
    pub to_port: u16,
}

impl Config {
    /// The index of the link with this guest's name.
    #[must_use]
    pub fn link_index(&self, name: &HostName) -> Option<usize> {
        self.links.iter().position(|link| link.name == *name)
    }
}

/// Renders every file that differs per declaration, sorted by path.
///
/// # Errors
/// [`ConfigError`] names the first thing that does not fit together.
pub fn render(config: &Config) -> Result<Vec<RenderedFile>, ConfigError> {
    validate::check(config)?;
    let file = |name: &str, contents: String| RenderedFile {
        path: format!("etc/netvm/{name}"),
        mode: 0o644,
        contents: contents.into_bytes(),
    };
    Ok(vec![
        file("dhcp-hosts", dnsmasq::dhcp_hosts(config)),
        file("dnsmasq.conf", dnsmasq::configuration(config)),
        file("hosts", dnsmasq::hosts(config)),
        file("leases", dnsmasq::leases(config)),
        file("links", tables::links(config)),
        file("modules", tables::modules(config)),
        file("network", tables::network(config)),
        file("ruleset.nft", ruleset::ruleset(config)),
        file("sysctl-guests.conf", sysctl::guests()),
        file("sysctl.conf", sysctl::global()),
        file("uplink", tables::uplink(config)),
    ])
}

/// Writes `image` followed by the rendered files to `out`. The image itself is not changed.
///
/// # Errors
/// As [`crate::append`].
pub fn append(image: &Path, rendered: &[RenderedFile], out: &Path) -> Result<(), ImageError> {
    append_files(image, rendered, out)
}

/// The interface name of a link in netvm.
fn interface(index: usize) -> String {
    format!("link{index}")
}
