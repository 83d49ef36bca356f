//! L10: IPv6 headers, sources, extension headers, fragments, DHCPv6.

use std::net::Ipv6Addr;

use super::frames::*;
use super::*;

const TCP: u8 = 6;
const UDP: u8 = 17;

fn outside() -> Ipv6Addr {
    "2001:db8::1".parse().unwrap()
}

/// From the guest's link-local address.
fn packet(next: u8, payload: &[u8]) -> Vec<u8> {
    from_guest(0x86dd, &ipv6(next, 64, link_local(), outside(), payload))
}

/// An extension header of 8 bytes.
fn extension(next: u8) -> [u8; 8] {
    [next, 0, 1, 4, 0, 0, 0, 0]
}

fn fragment_header(next: u8, offset: u16, more: bool) -> [u8; 8] {
    let [a, b] = (offset << 3 | u16::from(more)).to_be_bytes();
    [next, 0, a, b, 0, 0, 0, 1]
}

#[test]
fn l10_header_is_sane() {
    let good = packet(TCP, &tcp());
    assert_eq!(class(EndId::Guest, &good), Class::Data);
    for first in [0x40, 0x00, 0x70] {
        let mut bad = good.clone();
        bad[14] = first;
        assert_dropped(&bad, DropReason::Ipv6Header);
    }
    for len in 14..good.len() {
        assert_dropped(&good[..len], DropReason::Ipv6Header);
    }
    assert_passes(&[&good[..], &[0; 6]].concat());
}

#[test]
fn l10_source_is_the_guests() {
    let from = |source: &str| {
        from_guest(0x86dd, &ipv6(TCP, 64, source.parse().unwrap(), outside(), &tcp()))
    };
    assert_passes(&from(&link_local().to_string()));
    assert_passes(&from(ADDRESS6));
    for foreign in ["fe80::1", "fd00:6e65:7476::11", "2001:db8::1", "::1", "::ffff:100.64.0.16"] {
        assert_dropped(&from(foreign), DropReason::Ipv6Source);
    }
    for group in ["ff02::1", "ff00::"] {
        assert_dropped(&from(group), DropReason::Ipv6SourceGroup);
    }
    assert_dropped(&from("::"), DropReason::Ipv6Unspecified);
}

#[test]
fn l10_extension_headers_are_followed_and_capped_at_8() {
    let chain = |count: usize| {
        let mut payload = Vec::new();
        for number in 0..count {
            payload.extend(extension(if number + 1 == count { TCP } else { 60 }));
        }
        payload.extend(tcp());
        packet(if count == 0 { TCP } else { 60 }, &payload)
    };
    for count in 0..=8 {
        assert_passes(&chain(count));
    }
    for count in [9, 10, 100] {
        assert_dropped(&chain(count), DropReason::Ipv6Extension);
    }
    // A header that is longer than the packet, or cut.
    for len in [3, 255] {
        let mut bad = extension(TCP);
        bad[1] = len;
        assert_dropped(&packet(60, &[&bad[..], &tcp()].concat()), DropReason::Ipv6Extension);
    }
    assert_dropped(&packet(60, &[TCP]), DropReason::Ipv6Extension);
    // Hop-by-hop options come first or not at all.
    assert_passes(&packet(0, &[&extension(TCP)[..], &tcp()].concat()));
    let late = [&extension(0)[..], &extension(TCP), &tcp()].concat();
    assert_dropped(&packet(60, &late), DropReason::Ipv6Extension);
    // An authentication header counts in units of 4 bytes.
    let authentication = [&[UDP, 1, 0, 0][..], &[0; 8], &udp(1, 546, &[])].concat();
    assert_dropped(&packet(51, &authentication), DropReason::Dhcpv6Server);
}

#[test]
fn l10_routing_headers_are_dropped() {
    for kind in [0, 2, 4] {
        let header = [TCP, 0, kind, 0, 0, 0, 0, 0];
        assert_dropped(&packet(43, &[&header[..], &tcp()].concat()), DropReason::Ipv6RoutingHeader);
        let behind = [&extension(43)[..], &header, &tcp()].concat();
        assert_dropped(&packet(60, &behind), DropReason::Ipv6RoutingHeader);
    }
    assert_passes(&packet(60, &[&extension(TCP)[..], &tcp()].concat()));
}

#[test]
fn l10_fragments_that_hide_a_header_are_dropped() {
    let fragment = |next, offset, more, payload: &[u8]| {
        packet(44, &[&fragment_header(next, offset, more)[..], payload].concat())
    };
    let payload = [0; 64];
    for (protocol, least) in [(TCP, 20), (UDP, 8), (58, 8), (132, 8)] {
        let mut first = payload;
        first[0] = 128;
        assert_passes(&fragment(protocol, 0, true, &first[..least]));
        let short = fragment(protocol, 0, true, &first[..least - 1]);
        assert_dropped(&short, DropReason::Ipv6Fragment);
        assert_dropped(&fragment(protocol, 1, false, &payload), DropReason::Ipv6Fragment);
        assert_dropped(&fragment(protocol, 2, true, &payload), DropReason::Ipv6Fragment);
        assert_passes(&fragment(protocol, 3, true, &payload));
    }
    // The chain does not end in the first fragment.
    assert_dropped(&fragment(60, 0, true, &extension(60)), DropReason::Ipv6Fragment);
    assert_dropped(&fragment(60, 0, true, &[]), DropReason::Ipv6Fragment);
    // Fragments of fragments.
    let twice = [&fragment_header(TCP, 0, true)[..], &tcp()].concat();
    assert_dropped(&fragment(44, 0, true, &twice), DropReason::Ipv6Fragment);
    // From nobody.
    let nobody = ipv6(44, 64, Ipv6Addr::UNSPECIFIED, outside(), &twice);
    assert_dropped(&from_guest(0x86dd, &nobody), DropReason::Ipv6Unspecified);
}

#[test]
fn l10_no_dhcpv6_server_speaks_from_a_guest() {
    assert_passes(&packet(UDP, &udp(546, 547, &[1, 0, 0, 1])));
    let reply = udp(547, 546, &[7, 0, 0, 1]);
    assert_dropped(&packet(UDP, &reply), DropReason::Dhcpv6Server);
    assert_dropped(&packet(60, &[&extension(UDP)[..], &reply].concat()), DropReason::Dhcpv6Server);
    let first = [&fragment_header(UDP, 0, true)[..], &reply].concat();
    assert_dropped(&packet(44, &first), DropReason::Dhcpv6Server);
    assert_dropped(&packet(UDP, &reply[..7]), DropReason::TransportShort);
}

#[test]
fn netvm_s_neighbour_discovery_is_control() {
    let message = |kind| {
        let message = about(kind, link_local(), &[]);
        from_netvm(0x86dd, &ipv6(58, 255, "fe80::1".parse().unwrap(), link_local(), &message))
    };
    for kind in 133..=137 {
        assert_eq!(class(EndId::Netvm, &message(kind)), Class::Control);
    }
    assert_eq!(class(EndId::Netvm, &message(128)), Class::Data);
    assert_eq!(class(EndId::Netvm, &from_netvm(0x86dd, &[])), Class::Data);
}
