//! A declaration as netvm's image wants it. Values are converted by their text, which both sides check.

use netvm_image::config::{self, Config, ConfigError, InvalidValue, RenderedFile};

use crate::declaration::{Declaration, HostName, MacAddress, Protocol, Transport, Uplink};
use crate::leases::Known;

/// Why a declaration that is valid in itself cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A single value.
    #[error("netvm's image does not take a value of the declaration")]
    Value(#[from] InvalidValue),
    /// Values that do not fit together.
    #[error("netvm's image does not take the declaration")]
    Config(#[from] ConfigError),
}

/// The files that are appended to netvm's image. `leases` are what dynamic guests hold already.
pub fn netvm(declaration: &Declaration, leases: &Known) -> Result<Vec<RenderedFile>, RenderError> {
    let network = &declaration.network;
    let links = declaration.guests.iter().map(|guest| {
        Ok(config::Link {
            name: name(&guest.name)?,
            card_mac: mac(guest.card_mac)?,
            guest_mac: mac(guest.mac)?,
            guest_address: guest.address,
            lease: leases.get(guest.name.as_str()).copied(),
        })
    });
    let allow = declaration.allows.iter().map(|allow| {
        Ok(config::Allow {
            from: name(&allow.from)?,
            to: name(&allow.to)?,
            protocol: match allow.protocol {
                Protocol::Tcp => config::Protocol::Tcp,
                Protocol::Udp => config::Protocol::Udp,
                Protocol::Icmp => config::Protocol::Icmp,
                Protocol::Any => config::Protocol::Any,
            },
            ports: allow.ports.iter().map(|range| range.first..=range.last).collect(),
        })
    });
    let forwards = declaration.forwards.iter().map(|forward| {
        Ok(config::Forward {
            protocol: match forward.protocol {
                Transport::Tcp => config::Protocol::Tcp,
                Transport::Udp => config::Protocol::Udp,
            },
            port: forward.port,
            to: name(&forward.to)?,
            to_port: forward.to_port,
        })
    });
    let config = Config {
        netvm_mac: mac(network.mac)?,
        subnet: network.subnet,
        address: network.address,
        domain: network.domain.as_str().parse()?,
        dns: network.dns.clone(),
        mtu: network.mtu,
        uplink: match declaration.uplink {
            Uplink::Dhcp => config::Uplink::Dhcp,
            Uplink::Static { address, gateway } => config::Uplink::Static { address, gateway },
        },
        // Every Ethernet card that is no link: the host does not know the NIC's MAC for certain.
        nics: Vec::new(),
        modules: declaration
            .netvm
            .modules
            .iter()
            .map(|module| module.parse())
            .collect::<Result<_, InvalidValue>>()?,
        links: links.collect::<Result<_, InvalidValue>>()?,
        dynamic_range: declaration.dynamic_range().map(|range| (range.first, range.last)),
        allow: allow.collect::<Result<_, InvalidValue>>()?,
        forwards: forwards.collect::<Result<_, InvalidValue>>()?,
    };
    Ok(config::render(&config)?)
}

fn name(name: &HostName) -> Result<config::HostName, InvalidValue> {
    name.as_str().parse()
}

fn mac(mac: MacAddress) -> Result<config::MacAddress, InvalidValue> {
    mac.to_string().parse()
}
