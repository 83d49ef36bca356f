//! Why a frame was not carried.

use serde::{Deserialize, Serialize};

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// The rule that dropped a frame. Names are stable: they appear in reports and in tests.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum DropReason {
            $($(#[$doc])* $variant,)*
        }

        impl DropReason {
            /// Every reason, in the order of the checks.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable kebab-case name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

drop_reasons! {
    /// The chain is not longer than a virtio-net header.
    HeaderShort = "header-short",
    /// The header claims an offload that was not negotiated.
    HeaderOffload = "header-offload",
    /// The header claims a kind of segmentation that does not exist, or two.
    GsoType = "gso-type",
    /// The header claims segmentation without a checksum to complete.
    GsoNoChecksum = "gso-no-checksum",
    /// The header claims an offload for more than the longest IP packet.
    OffloadLong = "offload-long",
    /// The header claims segments that are too small, too large or too many.
    GsoSize = "gso-size",
    /// The header claims an offload for a frame that is not IP, or whose headers lie.
    OffloadHeaders = "offload-headers",
    /// The header claims an offload for an IP fragment.
    OffloadFragment = "offload-fragment",
    /// The header claims a checksum where a transport header has none.
    ChecksumPlace = "checksum-place",
    /// The header claims a kind of segmentation that the frame is not made for.
    GsoMismatch = "gso-mismatch",
    /// Fewer than 14 bytes: not an Ethernet frame.
    FrameShort = "frame-short",
    /// More than MTU + 14 bytes.
    FrameLong = "frame-long",
    /// From the guest, with a source address that is not the guest's.
    SourceNotGuest = "source-not-guest",
    /// From the guest, to a unicast address that is not netvm's.
    DestinationNotNetvm = "destination-not-netvm",
    /// To the guest, with a group address as its source.
    SourceGroup = "source-group",
    /// To the guest, with the guest's own address as its source.
    SourceIsGuest = "source-is-guest",
    /// To the guest's end, for a unicast address that is not the guest's.
    DestinationNotGuest = "destination-not-guest",
    /// To one of 01:80:c2:00:00:00 to 0f, which belong to the protocols of bridges.
    DestinationReserved = "destination-reserved",
    /// A VLAN tag; no link carries VLANs.
    VlanTag = "vlan-tag",
    /// An ethertype that is none of IPv4, IPv6 and ARP.
    Ethertype = "ethertype",
    /// ARP that is not a request or reply for IPv4 over Ethernet, or of the wrong length.
    ArpShape = "arp-shape",
    /// ARP with a sender's hardware address that is not the guest's.
    ArpSenderMac = "arp-sender-mac",
    /// ARP with a sender's protocol address that is not the guest's.
    ArpSenderAddress = "arp-sender-address",
    /// RARP that is not the guest announcing its own MAC address.
    Rarp = "rarp",
    /// An IPv4 header whose version or lengths are wrong.
    Ipv4Header = "ipv4-header",
    /// IPv4 with a multicast, reserved or broadcast address as its source.
    Ipv4SourceGroup = "ipv4-source-group",
    /// IPv4 with a source that is not the guest's.
    Ipv4Source = "ipv4-source",
    /// IPv4 from 0.0.0.0 that is not a DHCP client's broadcast.
    Ipv4Unspecified = "ipv4-unspecified",
    /// IPv4 options that cannot be read.
    Ipv4Options = "ipv4-options",
    /// An IPv4 source route.
    Ipv4SourceRoute = "ipv4-source-route",
    /// An IPv4 fragment that hides or overwrites a transport header, or reaches beyond 65535 bytes.
    Ipv4Fragment = "ipv4-fragment",
    /// A packet that ends within its UDP or ICMP header.
    TransportShort = "transport-short",
    /// An ICMP or neighbour discovery redirect.
    Redirect = "redirect",
    /// An ICMP or neighbour discovery router advertisement.
    RouterAdvertisement = "router-advertisement",
    /// To a DHCP client: only netvm is a DHCP server.
    DhcpServer = "dhcp-server",
    /// To a DHCP server, in fragments.
    DhcpFragment = "dhcp-fragment",
    /// To a DHCP server, and not a well-formed request.
    DhcpShape = "dhcp-shape",
    /// A DHCP request for another card than the guest's.
    DhcpClientMac = "dhcp-client-mac",
    /// A DHCP request that pretends to come from a relay.
    DhcpRelay = "dhcp-relay",
    /// An IPv6 header whose version or length is wrong.
    Ipv6Header = "ipv6-header",
    /// IPv6 with a multicast address as its source.
    Ipv6SourceGroup = "ipv6-source-group",
    /// IPv6 with a source that is not the guest's.
    Ipv6Source = "ipv6-source",
    /// IPv6 from :: that is neither duplicate address detection nor a multicast listener report.
    Ipv6Unspecified = "ipv6-unspecified",
    /// IPv6 extension headers: too many, out of place, or longer than the packet.
    Ipv6Extension = "ipv6-extension",
    /// An IPv6 routing header.
    Ipv6RoutingHeader = "ipv6-routing-header",
    /// An IPv6 fragment that hides or overwrites a transport header.
    Ipv6Fragment = "ipv6-fragment",
    /// An ICMPv6 type that a guest has no cause to send.
    Icmpv6Type = "icmpv6-type",
    /// Neighbour discovery or a multicast listener report in fragments.
    NeighbourFragment = "neighbour-fragment",
    /// Neighbour discovery with a hop limit other than 255.
    NeighbourHopLimit = "neighbour-hop-limit",
    /// Neighbour discovery that is malformed.
    NeighbourShape = "neighbour-shape",
    /// Neighbour discovery about a target that is not the guest's to speak for.
    NeighbourTarget = "neighbour-target",
    /// Neighbour discovery with a link-layer address that is not the guest's.
    NeighbourLinkAddress = "neighbour-link-address",
    /// A multicast listener report that is malformed or to the wrong destination.
    MulticastListener = "multicast-listener",
    /// To a DHCPv6 client: only netvm is a DHCPv6 server.
    Dhcpv6Server = "dhcpv6-server",
    /// More bytes a second than allowed.
    RateBytes = "rate-bytes",
    /// More frames a second than allowed.
    RateFrames = "rate-frames",
    /// More broadcast, multicast, ARP and neighbour discovery frames a second than allowed.
    RateControl = "rate-control",
    /// The receiving end has no running receive ring.
    PeerDown = "peer-down",
    /// The receiving end has too few receive buffers at the moment.
    NoRxBuffer = "no-rx-buffer",
    /// The receive buffers offered are too small for the frame.
    RxBufferShort = "rx-buffer-short",
}

impl DropReason {
    /// Position in [`DropReason::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_equal_the_serialised_form_and_are_unique() {
        let mut seen = std::collections::BTreeSet::new();
        for (position, reason) in DropReason::ALL.iter().enumerate() {
            let json = serde_json::to_string(reason).unwrap();
            assert_eq!(json, format!("{:?}", reason.name()));
            assert_eq!(reason.index(), position);
            assert!(seen.insert(reason.name()));
        }
    }
}
