//! netvm.toml as it is written: keys, TOML types and places, nothing else checked.
//!
//! The comments of the fields are what a reader of the JSON schema sees, so they speak to the
//! author of a declaration. Keys that must be present are optional here too: a missing one is
//! reported together with everything else that is wrong.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

use super::at::At;
use super::{Protocol, Scenario, Transport};
use crate::vmm::Vmm;

/// The declaration of a machine's netvm: who gets the network card, and who may talk to whom.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Declaration", title = "netvm.toml")]
pub(super) struct RawDeclaration {
    /// Whether the network card leaves the host ("secure"), or each link ends in a TAP of the
    /// host ("development": no netvm, no isolation, for work on guests alone).
    #[schemars(required)]
    pub scenario: Option<At<Scenario>>,
    /// The guest that owns the network card.
    pub netvm: Option<At<RawNetvm>>,
    /// Network cards that move into netvm. The first is the uplink; further ones are for cards
    /// that cannot be separated from it, such as the second port of a two-port card.
    #[serde(default)]
    pub nic: Vec<At<RawNic>>,
    /// The network of the guests, behind netvm.
    pub network: Option<At<RawNetwork>>,
    /// How netvm gets its own address on the outside network.
    pub uplink: Option<At<RawUplink>>,
    /// The guests that get a link to netvm.
    #[serde(default)]
    pub guest: Vec<At<RawGuest>>,
    /// Traffic that is allowed from one guest to another. All other is denied; answers to
    /// allowed traffic pass.
    #[serde(default)]
    pub allow: Vec<At<RawAllow>>,
    /// Ports of netvm's outside address that lead to a guest.
    #[serde(default)]
    pub forward: Vec<At<RawForward>>,
    /// Links for guests that come later without a restart of netvm, named spare-1, spare-2 and so
    /// on, with dynamic addresses. Default: 0.
    #[schemars(range(min = 0, max = 200))]
    pub spare_links: Option<At<i64>>,
}

/// The guest that owns the network card.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Netvm")]
pub(super) struct RawNetvm {
    /// The VMM that runs netvm. Default: "qemu".
    pub vmm: Option<At<Vmm>>,
    /// Whole path of the VMM's program. Default: found in PATH by its usual name.
    pub vmm_binary: Option<At<String>>,
    /// netvm's memory, such as "512M" or "1G". Default: "512M".
    #[schemars(regex(pattern = r"^[0-9]+[MG]$"))]
    pub memory: Option<At<String>>,
    /// netvm's virtual CPUs. Default: 1.
    #[schemars(range(min = 1, max = 64))]
    pub vcpus: Option<At<i64>>,
    /// A kernel and an initramfs of your own, for example from the board vendor. Default: the
    /// built-in image.
    pub image: Option<At<RawImage>>,
    /// What is added to netvm's kernel command line.
    pub cmdline: Option<At<String>>,
    /// Kernel modules that netvm loads besides those that its NIC needs.
    #[serde(default)]
    pub modules: Vec<At<String>>,
    /// Numeric id of the user that the VMM runs as. Default: one that is set aside
    /// for it, 1879048192.
    #[schemars(range(min = 0, max = 4_294_967_294_u32))]
    pub user: Option<At<i64>>,
}

/// A kernel and an initramfs in place of the built-in ones.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Image")]
pub(super) struct RawImage {
    /// Whole path of the kernel.
    #[schemars(required)]
    pub kernel: Option<At<String>>,
    /// Whole path of the initramfs; netvm's configuration is appended to a copy of it.
    #[schemars(required)]
    pub initramfs: Option<At<String>>,
}

/// A network card, named in exactly one way.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Nic", extend("minProperties" = 1, "maxProperties" = 1))]
pub(super) struct RawNic {
    /// PCI address, such as "0000:00:03.0".
    #[schemars(regex(pattern = r"^[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7]$"))]
    pub pci: Option<At<String>>,
    /// PCI vendor and device, such as "8086:10d3".
    #[schemars(regex(pattern = r"^[0-9a-fA-F]{4}:[0-9a-fA-F]{4}$"))]
    pub id: Option<At<String>>,
    /// PCI class: "network" (every kind), "ethernet", "wireless", or its first two, four or six hex
    /// digits such as "0280".
    #[schemars(regex(pattern = r"^(network|ethernet|wireless|([0-9a-fA-F]{2}){1,3})$"))]
    pub class: Option<At<String>>,
    /// USB vendor and product, such as "0bda:8153". The USB controller that it is plugged into
    /// moves to netvm, with everything else on that controller.
    #[schemars(regex(pattern = r"^[0-9a-fA-F]{4}:[0-9a-fA-F]{4}$"))]
    pub usb: Option<At<String>>,
    /// Name of a platform device (a NIC in the system on chip), as in
    /// /sys/bus/platform/devices, such as "6800000.ethernet".
    pub platform: Option<At<String>>,
}

/// The network of the guests, behind netvm.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Network")]
pub(super) struct RawNetwork {
    /// IPv4 subnet of netvm and all guests. Default: "100.127.77.0/24".
    pub subnet: Option<At<String>>,
    /// netvm's address in the subnet: the guests' gateway, DHCP and DNS server. Default: the first
    /// address of the subnet.
    pub address: Option<At<String>>,
    /// DNS domain of the guests. Default: "netvm.internal".
    pub domain: Option<At<String>>,
    /// IPv4 addresses of the DNS servers that netvm asks. Default: those that the uplink's DHCP
    /// server names.
    #[serde(default)]
    pub dns: Vec<At<String>>,
    /// Largest IP packet on the links, in bytes. Default: 1500.
    #[schemars(range(min = 1280, max = 9000))]
    pub mtu: Option<At<i64>>,
}

/// How netvm gets its own address on the outside network.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Uplink")]
pub(super) struct RawUplink {
    /// Whether the address comes by DHCP. Default: true, unless `address` is given.
    pub dhcp: Option<At<bool>>,
    /// A fixed address with its prefix length, such as "192.168.1.20/24".
    pub address: Option<At<String>>,
    /// The router of the outside network; goes with `address`.
    pub gateway: Option<At<String>>,
}

/// A guest that gets a link to netvm.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Guest")]
pub(super) struct RawGuest {
    /// Its name, which is also its name in DNS: lower-case letters, digits and hyphens.
    #[schemars(required, regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    pub name: Option<At<String>>,
    /// MAC address of its card. Default: derived from its name, always the same.
    #[schemars(regex(pattern = r"^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$"))]
    pub mac: Option<At<String>>,
    /// Its fixed IPv4 address in the subnet. Default: a dynamic one.
    pub address: Option<At<String>>,
    /// The VMM that runs it, for which `netvm flags` prints the options. Default: that of netvm.
    pub vmm: Option<At<Vmm>>,
    /// Its memory as `netvm flags` prints it, such as "2G". Default: "512M".
    #[schemars(regex(pattern = r"^[0-9]+[MG]$"))]
    pub memory: Option<At<String>>,
    /// Numeric id of the user whose VMM may connect to the link. Default: 0, root.
    #[schemars(range(min = 0, max = 4_294_967_294_u32))]
    pub user: Option<At<i64>>,
    /// What its link carries in a second. Default: no limit but that of `control_frames`.
    pub rate: Option<At<RawRate>>,
    /// The host's CPU that its link runs on, and no other. Default: any, as the kernel sees fit.
    #[schemars(range(min = 0, max = 1023))]
    pub link_cpu: Option<At<i64>>,
}

/// What a guest's link carries in a second at most. Frames beyond it are dropped and counted.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Rate")]
pub(super) struct RawRate {
    /// From the guest, such as "500kbit", "100Mbit" or "1Gbit". Default: no limit.
    #[schemars(regex(pattern = r"^[0-9]+[kMG]bit$"))]
    pub up: Option<At<String>>,
    /// To the guest. Default: no limit.
    #[schemars(regex(pattern = r"^[0-9]+[kMG]bit$"))]
    pub down: Option<At<String>>,
    /// Frames from the guest. Default: no limit.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub up_frames: Option<At<i64>>,
    /// Frames to the guest. Default: no limit.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub down_frames: Option<At<i64>>,
    /// Broadcast, multicast, ARP and neighbour discovery frames, in each direction. Default: 1000.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub control_frames: Option<At<i64>>,
}

/// Traffic that is allowed from one guest to another.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Allow")]
pub(super) struct RawAllow {
    /// Name of the guest that opens the connection.
    #[schemars(required)]
    pub from: Option<At<String>>,
    /// Name of the guest that is connected to.
    #[schemars(required)]
    pub to: Option<At<String>>,
    /// Which protocol. Default: "any".
    pub protocol: Option<At<Protocol>>,
    /// Destination ports, for "tcp" and "udp": numbers, or ranges such as "8000-8010". Default:
    /// every port.
    pub ports: Option<At<Vec<At<RawPort>>>>,
}

/// A port of netvm's outside address that leads to a guest.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Forward")]
pub(super) struct RawForward {
    /// Which protocol.
    #[schemars(required)]
    pub protocol: Option<At<Transport>>,
    /// Port of netvm's outside address.
    #[schemars(required, range(min = 1, max = 65535))]
    pub port: Option<At<i64>>,
    /// Name of the guest; it needs a fixed address.
    #[schemars(required)]
    pub to: Option<At<String>>,
    /// Port of the guest. Default: the same as `port`.
    #[schemars(range(min = 1, max = 65535))]
    pub to_port: Option<At<i64>>,
}

/// A port as a number, or a range of ports as a text.
#[derive(Debug)]
pub(super) enum RawPort {
    Number(i64),
    Range(String),
}

impl<'de> Deserialize<'de> for RawPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PortVisitor;
        impl Visitor<'_> for PortVisitor {
            type Value = RawPort;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port such as 443 or a range such as \"8000-8010\"")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<RawPort, E> {
                Ok(RawPort::Number(number))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<RawPort, E> {
                Ok(RawPort::Range(text.to_owned()))
            }
        }
        deserializer.deserialize_any(PortVisitor)
    }
}

impl JsonSchema for RawPort {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Port".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "description": "A port, or a range of ports such as \"8000-8010\".",
            "oneOf": [
                { "type": "integer", "minimum": 1, "maximum": 65535 },
                { "type": "string", "pattern": "^[0-9]+(-[0-9]+)?$" }
            ]
        })
    }
}
