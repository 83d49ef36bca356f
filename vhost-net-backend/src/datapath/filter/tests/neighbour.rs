//! L10: neighbour discovery, router advertisements and redirects, multicast listeners.

use std::net::Ipv6Addr;

use super::frames::*;
use super::*;

const NS: u8 = 135;
const NA: u8 = 136;

fn address(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// From the guest, an ICMPv6 message.
fn sent(hops: u8, source: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    ethernet(ALL_NODES, GUEST, 0x86dd, &ipv6(58, hops, source, to, message))
}

fn from_own(message: &[u8]) -> Vec<u8> {
    sent(255, link_local(), address("ff02::1"), message)
}

#[test]
fn l10_solicitations_and_advertisements_of_the_guest_pass_as_control() {
    for own in [link_local(), address(ADDRESS6)] {
        let message = about(NA, own, &link_address(2, GUEST));
        assert_eq!(class(EndId::Guest, &from_own(&message)), Class::Control);
        assert_passes(&from_own(&about(NA, own, &[])));
    }
    let message = about(NS, address("fe80::1"), &link_address(1, GUEST));
    assert_eq!(class(EndId::Guest, &from_own(&message)), Class::Control);
    // To one card, too.
    let packet = ipv6(58, 255, link_local(), address("fe80::1"), &message);
    assert_eq!(class(EndId::Guest, &from_guest(0x86dd, &packet)), Class::Control);
    // A nonce behind it (RFC 3971), and a router solicitation.
    let options = [&link_address(1, GUEST)[..], &[14, 1, 1, 2, 3, 4, 5, 6]].concat();
    assert_passes(&from_own(&about(NS, address("fe80::1"), &options)));
    assert_passes(&from_own(&icmpv6(133, &[&[0; 4][..], &link_address(1, GUEST)].concat())));
}

#[test]
fn l10_neighbour_discovery_has_hop_limit_255() {
    for (kind, target) in [(133, "fe80::1"), (NS, "fe80::1"), (NA, ADDRESS6)] {
        let message = match kind {
            133 => icmpv6(kind, &[0; 4]),
            _ => about(kind, address(target), &[]),
        };
        for hops in [0, 1, 64, 254] {
            let frame = sent(hops, link_local(), address("ff02::1"), &message);
            assert_dropped(&frame, DropReason::NeighbourHopLimit);
        }
        assert_passes(&from_own(&message));
    }
}

#[test]
fn l10_link_layer_addresses_are_the_guests() {
    let advertise = |options: &[u8]| from_own(&about(NA, link_local(), options));
    let solicit = |options: &[u8]| from_own(&about(NS, address("fe80::1"), options));
    let router = |options: &[u8]| from_own(&icmpv6(133, &[&[0; 4][..], options].concat()));
    for kind in [1, 2] {
        let bad = link_address(kind, OTHER);
        for options in [bad.clone(), [link_address(kind, GUEST), bad.clone()].concat()] {
            assert_dropped(&advertise(&options), DropReason::NeighbourLinkAddress);
            assert_dropped(&solicit(&options), DropReason::NeighbourLinkAddress);
            assert_dropped(&router(&options), DropReason::NeighbourLinkAddress);
        }
        // Of another length than a MAC address.
        let mut long = [&link_address(kind, GUEST)[..], &[0; 8]].concat();
        long[1] = 2;
        assert_dropped(&advertise(&long), DropReason::NeighbourLinkAddress);
        assert_passes(&advertise(&link_address(kind, GUEST)));
    }
}

#[test]
fn l10_the_guest_advertises_only_itself() {
    for foreign in ["fe80::1", "fd00:6e65:7476::11", "2001:db8::1", "::"] {
        let message = about(NA, address(foreign), &link_address(2, GUEST));
        assert_dropped(&from_own(&message), DropReason::NeighbourTarget);
    }
    assert_passes(&from_own(&about(NA, address(ADDRESS6), &link_address(2, GUEST))));
}

#[test]
fn l10_shape_is_right() {
    let good = about(NA, link_local(), &link_address(2, GUEST));
    let mut coded = good.clone();
    coded[1] = 1;
    assert_dropped(&from_own(&coded), DropReason::NeighbourShape);
    // Cut within the target, or within an option.
    for len in (4..24).chain(25..32) {
        assert_dropped(&from_own(&good[..len]), DropReason::NeighbourShape);
    }
    assert_passes(&from_own(&good[..24]));
    let mut endless = good.clone();
    endless[25] = 0;
    assert_dropped(&from_own(&endless), DropReason::NeighbourShape);
    let nonces =
        |count: usize| about(NS, address("fe80::1"), &[14, 1, 0, 0, 0, 0, 0, 0].repeat(count));
    assert_passes(&from_own(&nonces(16)));
    assert_dropped(&from_own(&nonces(17)), DropReason::NeighbourShape);
    let group = about(NS, address("ff02::1"), &[]);
    assert_dropped(&from_own(&group), DropReason::NeighbourShape);
}

#[test]
fn l10_unspecified_source_detects_duplicates_of_own_addresses_only() {
    let nobody = Ipv6Addr::UNSPECIFIED;
    for own in [link_local(), address(ADDRESS6)] {
        let detect = about(NS, own, &[]);
        assert_passes(&sent(255, nobody, solicited_node(own), &detect));
        let elsewhere = sent(255, nobody, address("ff02::1"), &detect);
        assert_dropped(&elsewhere, DropReason::NeighbourShape);
        let told = about(NS, own, &link_address(1, GUEST));
        assert_dropped(&sent(255, nobody, solicited_node(own), &told), DropReason::NeighbourShape);
    }
    let other = address("fd00:6e65:7476::11");
    let foreign = sent(255, nobody, solicited_node(other), &about(NS, other, &[]));
    assert_dropped(&foreign, DropReason::NeighbourTarget);
    for message in [about(NA, link_local(), &[]), icmpv6(133, &[0; 4]), icmpv6(128, &[0; 4])] {
        let frame = sent(255, nobody, address("ff02::1"), &message);
        assert_dropped(&frame, DropReason::Ipv6Unspecified);
    }
}

#[test]
fn l10_router_advertisements_and_redirects_are_dropped_wherever_they_hide() {
    for (kind, reason) in [(134, DropReason::RouterAdvertisement), (137, DropReason::Redirect)] {
        let message = about(kind, link_local(), &[]);
        let frame = |next, payload: &[u8]| {
            let packet = ipv6(next, 255, link_local(), address("ff02::1"), payload);
            ethernet(ALL_NODES, GUEST, 0x86dd, &packet)
        };
        let extension = |next| [next, 0, 1, 4, 0, 0, 0, 0];
        let fragment = |next| [next, 0, 0, 1, 0, 0, 0, 1];
        assert_dropped(&frame(58, &message), reason);
        for first in [0, 60] {
            let hidden = [&extension(58)[..], &message].concat();
            assert_dropped(&frame(first, &hidden), reason);
        }
        let deep = [&extension(60)[..].repeat(7), &extension(58)[..], &message].concat();
        assert_dropped(&frame(60, &deep), reason);
        assert_dropped(&frame(44, &[&fragment(58)[..], &message].concat()), reason);
        let both = [&fragment(60)[..], &extension(58), &message].concat();
        assert_dropped(&frame(44, &both), reason);
        // The type is in the next fragment: cannot be told, so dropped.
        let cut = [&fragment(60)[..], &extension(58)].concat();
        assert_dropped(&frame(44, &cut), DropReason::Ipv6Fragment);
        // Not a router's message.
        let echo = [&extension(58)[..], &icmpv6(128, &[0; 4])].concat();
        assert_passes(&frame(60, &echo));
    }
}

#[test]
fn l10_neighbour_discovery_is_in_one_piece() {
    for message in [about(NS, address("fe80::1"), &[]), about(NA, link_local(), &[])] {
        // Even when the fragment is all of it.
        for flags in [0, 1] {
            let payload = [&[58, 0, 0, flags, 0, 0, 0, 1][..], &message].concat();
            let packet = ipv6(44, 255, link_local(), address("ff02::1"), &payload);
            assert_dropped(&from_guest(0x86dd, &packet), DropReason::NeighbourFragment);
        }
        assert_passes(&from_own(&message));
    }
}

#[test]
fn l10_listener_reports_go_to_routers() {
    let group = address("ff02::1:ff00:10");
    let v1 = icmpv6(131, &[&[0; 4][..], &group.octets()].concat());
    let done = icmpv6(132, &[&[0; 4][..], &group.octets()].concat());
    let v2 = icmpv6(143, &[0, 0, 0, 0]);
    for source in [link_local(), Ipv6Addr::UNSPECIFIED] {
        for (message, to) in [(&v1, group), (&done, address("ff02::2")), (&v2, address("ff02::16"))]
        {
            let frame = sent(1, source, to, message);
            assert_eq!(class(EndId::Guest, &frame), Class::Control);
            // With the router alert that real ones have.
            let alert = [&[58, 0, 5, 2, 0, 0, 1, 0][..], message].concat();
            let packet = ipv6(0, 1, source, to, &alert);
            assert_passes(&ethernet(ALL_NODES, GUEST, 0x86dd, &packet));
            let far = sent(64, source, to, message);
            assert_dropped(&far, DropReason::MulticastListener);
            let elsewhere = sent(1, source, address("ff02::1"), message);
            assert_dropped(&elsewhere, DropReason::MulticastListener);
        }
    }
    let routed = sent(1, address(ADDRESS6), address("ff02::16"), &v2);
    assert_dropped(&routed, DropReason::MulticastListener);
}

#[test]
fn l10_other_icmpv6_of_routers_is_dropped() {
    // Listener query, router renumbering, inverse discovery, multicast router advertisement.
    for kind in [130, 138, 141, 142, 151, 0, 100, 255] {
        assert_dropped(&from_own(&icmpv6(kind, &[0; 4])), DropReason::Icmpv6Type);
    }
    for kind in [1, 2, 3, 4, 128, 129] {
        assert_passes(&from_own(&icmpv6(kind, &[0; 4])));
    }
    assert_dropped(&from_own(&[]), DropReason::TransportShort);
}
