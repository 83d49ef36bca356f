//! dnsmasq: DHCP server and DNS forwarder for the guests, on their bridge only (man 8 dnsmasq).

use super::Config;

/// Lease time in seconds. Short: a netvm that was restarted without knowing the leases of the one
/// before learns dynamic addresses again at renewal, after half of it.
const LEASE_SECONDS: u32 = 600;

/// The main configuration file.
pub(super) fn configuration(config: &Config) -> String {
    let Config { address, subnet, domain, mtu, .. } = config;
    let netmask = subnet.netmask();
    let range = match config.dynamic_range {
        Some((first, last)) => format!("{first},{last},{netmask},{LEASE_SECONDS}"),
        None => format!("{},static,{netmask},{LEASE_SECONDS}", subnet.network()),
    };
    let upstream = if config.dns.is_empty() {
        "resolv-file=/run/netvm/resolv.conf\n".to_owned()
    } else {
        let servers: String =
            config.dns.iter().map(|server| format!("server={server}\n")).collect();
        format!("no-resolv\n{servers}")
    };
    format!(
        "\
# Nothing but the guests' bridge is served.
interface=guests
except-interface=lo
bind-dynamic
user=dnsmasq
group=dnsmasq

# DNS
{upstream}no-hosts
addn-hosts=/etc/netvm/hosts
domain={domain}
local=/{domain}/
domain-needed
bogus-priv
cache-size=1000
dns-forward-max=150

# DHCP: only for the cards of links, known by MAC; what a client says about itself is ignored.
dhcp-range={range}
dhcp-hostsfile=/etc/netvm/dhcp-hosts
dhcp-ignore=tag:!known
dhcp-ignore-names
dhcp-ignore-clid
dhcp-authoritative
no-ping
dhcp-lease-max={leases}
dhcp-option=option:router,{address}
dhcp-option=option:dns-server,{address}
dhcp-option=option:mtu,{mtu}
dhcp-leasefile=/run/netvm/leases
dhcp-script=/lib/netvm/lease
",
        leases = config.links.len().max(1),
    )
}

/// `dhcp-hostsfile`: MAC, address if it is static, name.
pub(super) fn dhcp_hosts(config: &Config) -> String {
    let mut file = String::new();
    for link in &config.links {
        match link.guest_address {
            Some(address) => {
                file.push_str(&format!("{},{address},{}\n", link.guest_mac, link.name));
            }
            None => file.push_str(&format!("{},{}\n", link.guest_mac, link.name)),
        }
    }
    file
}

/// What the lease file begins with: expiry, MAC, address, name, no client id.
pub(super) fn leases(config: &Config) -> String {
    let mut file = String::new();
    for link in &config.links {
        if let Some(lease) = &link.lease {
            let (expires, mac, address, name) =
                (lease.expires, link.guest_mac, lease.address, &link.name);
            file.push_str(&format!("{expires} {mac} {address} {name} *\n"));
        }
    }
    file
}

/// `addn-hosts`: netvm, and guests with a static address, whether or not they hold a lease.
pub(super) fn hosts(config: &Config) -> String {
    let domain = &config.domain;
    let mut file = format!("{} netvm.{domain} netvm\n", config.address);
    for link in &config.links {
        if let Some(address) = link.guest_address {
            file.push_str(&format!("{address} {name}.{domain} {name}\n", name = link.name));
        }
    }
    file
}
