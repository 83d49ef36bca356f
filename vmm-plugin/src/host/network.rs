//! What the host's network stack does with its interfaces, from rtnetlink.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp, XdpAttached,
};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use rtnetlink::{Handle, RouteMessageBuilder};
use serde::Serialize;

use super::sysfs::Sysfs;

/// One network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Link {
    /// Its index, unique in the namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Administratively up.
    pub up: bool,
    /// What kind of virtual interface: `bridge`, `vlan`, `bond`; `None` for hardware.
    pub kind: Option<String>,
    /// Index of the bridge, bond, team or VRF it is a port of.
    pub master: Option<u32>,
    /// Index of the interface it sits on (VLAN, macvlan, ipvlan).
    pub lower: Option<u32>,
    /// Whether an XDP program is attached.
    pub xdp: bool,
}

/// One address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Address {
    /// Index of the interface.
    pub link: u32,
    /// The address.
    pub address: IpAddr,
    /// Length of its prefix in bits.
    pub prefix: u8,
}

impl Address {
    /// Whether the kernel gave it to itself for the link alone (`fe80::/10`): every interface
    /// that is up has one, so it shows no use.
    #[must_use]
    pub fn is_link_local(&self) -> bool {
        match self.address {
            IpAddr::V4(_) => false,
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        }
    }
}

/// One unicast route that leaves through an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    /// Index of the interface.
    pub link: u32,
    /// To everywhere (`default`).
    pub default: bool,
    /// By way of a router, not to the link's own network.
    pub gateway: bool,
}

/// The SSH session this program was started from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SshSession {
    /// The far end.
    pub client: IpAddr,
    /// The address it reached this host at.
    pub server: IpAddr,
    /// Index of the interface that packets to the client leave by.
    pub route: Option<u32>,
}

/// The network stack of this network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NetworkFacts {
    /// Interfaces.
    pub links: Vec<Link>,
    /// Addresses.
    pub addresses: Vec<Address>,
    /// Unicast routes of every table.
    pub routes: Vec<Route>,
    /// Set when there is one.
    pub ssh: Option<SshSession>,
}

/// The kernel's network facts cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No netlink socket, or no runtime for it.
    #[error("Cannot ask the kernel about its network (rtnetlink socket)")]
    Socket(#[source] std::io::Error),
    /// A request failed.
    #[error("Cannot read the kernel's {what} (rtnetlink)")]
    Request {
        /// What was asked for.
        what: &'static str,
        /// The kernel's answer.
        #[source]
        source: Box<rtnetlink::Error>,
    },
}

impl NetworkFacts {
    /// Asks the kernel. Blocks; must not be called from within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`NetworkError`].
    pub fn read(sysfs: &Sysfs) -> Result<Self, NetworkError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(NetworkError::Socket)?;
        runtime.block_on(async {
            let (connection, handle, _) =
                rtnetlink::new_connection().map_err(NetworkError::Socket)?;
            tokio::spawn(connection);
            let mut facts = dump(&handle).await?;
            if let Some((client, server)) = ssh_ends(sysfs) {
                facts.ssh =
                    Some(SshSession { client, server, route: route_to(&handle, client).await });
            }
            Ok(facts)
        })
    }

    /// The interface called `name`.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The interface with this index and everything built on it: its bridge or bond, its
    /// VLANs, and what is built on those.
    #[must_use]
    pub fn stack(&self, index: u32) -> Vec<&Link> {
        let mut indices = vec![index];
        let mut next = 0;
        while let Some(below) = indices.get(next).copied() {
            next += 1;
            let master = self.links.iter().find(|l| l.index == below);
            let uppers = self.links.iter().filter(|l| {
                let sits_on = l.lower == Some(below) && l.kind.as_deref() != Some("veth");
                sits_on || master.and_then(|m| m.master) == Some(l.index)
            });
            for upper in uppers.map(|l| l.index) {
                if !indices.contains(&upper) {
                    indices.push(upper);
                }
            }
        }
        self.links.iter().filter(|l| indices.contains(&l.index)).collect()
    }
}

fn request(what: &'static str) -> impl Fn(rtnetlink::Error) -> NetworkError {
    move |source| NetworkError::Request { what, source: Box::new(source) }
}

async fn dump(handle: &Handle) -> Result<NetworkFacts, NetworkError> {
    let links: Vec<LinkMessage> =
        handle.link().get().execute().try_collect().await.map_err(request("interfaces"))?;
    let addresses: Vec<AddressMessage> =
        handle.address().get().execute().try_collect().await.map_err(request("addresses"))?;
    let mut routes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        let dump: Result<Vec<RouteMessage>, _> =
            handle.route().get(message).execute().try_collect().await;
        match dump {
            Ok(found) => routes.extend(found),
            // A kernel without IPv6.
            Err(error) if family == AddressFamily::Inet6 => {
                tracing::debug!(%error, "no IPv6 routes");
            }
            Err(error) => return Err(request("routes")(error)),
        }
    }
    Ok(NetworkFacts {
        links: links.iter().map(link).collect(),
        addresses: addresses.iter().filter_map(address).collect(),
        routes: routes.iter().flat_map(route).collect(),
        ssh: None,
    })
}

fn link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        ..Link::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Controller(index) => link.master = Some(*index).filter(|i| *i != 0),
            LinkAttribute::Link(index) => link.lower = Some(*index).filter(|i| *i != 0),
            LinkAttribute::LinkInfo(infos) => {
                link.kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind_name(kind)),
                    _ => None,
                });
            }
            LinkAttribute::Xdp(xdp) => {
                link.xdp = xdp
                    .iter()
                    .any(|x| matches!(x, LinkXdp::Attached(mode) if *mode != XdpAttached::None));
            }
            _ => {}
        }
    }
    link
}

fn kind_name(kind: &InfoKind) -> String {
    kind.to_string()
}

fn address(message: &AddressMessage) -> Option<Address> {
    let find = |local: bool| {
        message.attributes.iter().find_map(|a| match a {
            AddressAttribute::Local(address) if local => Some(*address),
            AddressAttribute::Address(address) if !local => Some(*address),
            _ => None,
        })
    };
    Some(Address {
        link: message.header.index,
        // On a point-to-point link `Address` is the peer's.
        address: find(true).or_else(|| find(false))?,
        prefix: message.header.prefix_len,
    })
}

fn route(message: &RouteMessage) -> Vec<Route> {
    if message.header.kind != RouteType::Unicast {
        return Vec::new();
    }
    let default = message.header.destination_prefix_length == 0;
    let mut links = Vec::new();
    let mut gateway = false;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => links.push(*index),
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => gateway = true,
            RouteAttribute::MultiPath(hops) => {
                gateway = true;
                links.extend(hops.iter().map(|hop| hop.interface_index));
            }
            _ => {}
        }
    }
    links.into_iter().map(|link| Route { link, default, gateway }).collect()
}

async fn route_to(handle: &Handle, to: IpAddr) -> Option<u32> {
    let message = match to {
        IpAddr::V4(v4) => {
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().destination_prefix(v4, 32).build()
        }
        IpAddr::V6(v6) => {
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().destination_prefix(v6, 128).build()
        }
    };
    let mut answers = handle.route().get(message).execute();
    let answer = answers.try_next().await.ok()??;
    answer.attributes.iter().find_map(|a| match a {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

/// Client and server address of the SSH session, from this process's environment or that of
/// the nearest ancestor that has it: sudo removes the variable.
fn ssh_ends(sysfs: &Sysfs) -> Option<(IpAddr, IpAddr)> {
    if let Ok(value) = std::env::var("SSH_CONNECTION") {
        return parse_ssh(&value);
    }
    let mut pid = std::process::id();
    // Deeper than any chain of shells, multiplexers and sudo.
    for _ in 0..32 {
        let environment = sysfs.bytes(format!("/proc/{pid}/environ"), 1 << 20);
        let found = environment.and_then(|bytes| ssh_of_environment(&bytes));
        if found.is_some() {
            return found;
        }
        let status = sysfs.text(format!("/proc/{pid}/status"))?;
        let parent = status.lines().find_map(|l| l.strip_prefix("PPid:"))?;
        pid = parent.trim().parse().ok().filter(|p| *p > 1)?;
    }
    None
}

fn ssh_of_environment(environment: &[u8]) -> Option<(IpAddr, IpAddr)> {
    environment
        .split(|b| *b == 0)
        .find_map(|variable| variable.strip_prefix(b"SSH_CONNECTION="))
        .and_then(|value| parse_ssh(&String::from_utf8_lossy(value)))
}

/// `CLIENT PORT SERVER PORT`; a link-local address may carry `%interface`.
fn parse_ssh(value: &str) -> Option<(IpAddr, IpAddr)> {
    let address = |text: &str| text.split('%').next()?.parse().ok();
    let mut words = value.split_whitespace();
    let client = address(words.next()?)?;
    Some((client, address(words.nth(1)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_ssh_link_local_and_garbage() {
        let ends = parse_ssh("fe80::1%eth0 5022 fe80::2%eth0 22").unwrap();
        assert_eq!(ends.0, "fe80::1".parse::<IpAddr>().unwrap());
        assert_eq!(ends.1, "fe80::2".parse::<IpAddr>().unwrap());
        for text in ["", "192.0.2.1", "192.0.2.1 1 x 22", "a b c d"] {
            assert_eq!(parse_ssh(text), None, "{text:?}");
        }
    }

    #[test]
    fn read_of_this_machine_finds_loopback() {
        let facts = NetworkFacts::read(&Sysfs::default()).unwrap();
        let loopback = facts.link("lo").expect("every namespace has one");
        assert_eq!(loopback.index, 1);
        assert_eq!(loopback.master, None);
    }

    #[test]
    fn stack_follows_bridge_and_vlan_but_not_siblings() {
        let link = |index, name: &str, master, lower| Link {
            index,
            name: name.to_owned(),
            master,
            lower,
            ..Link::default()
        };
        let facts = NetworkFacts {
            links: vec![
                link(2, "eth0", None, None),
                link(3, "eth0.7", Some(4), Some(2)),
                link(4, "br0", None, None),
                link(5, "eth1", Some(4), None),
            ],
            ..NetworkFacts::default()
        };
        let names: Vec<&str> = facts.stack(2).iter().map(|l| l.name.as_str()).collect();
        assert_eq!(names, ["eth0", "eth0.7", "br0"]);
    }
}
