//! L9, and redirects and router advertisements in ICMP.

use super::frames::*;
use super::*;

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// From the guest's address to the outside.
fn packet(protocol: u8, fragment: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    from_guest(0x0800, &ipv4_with(protocol, ADDRESS, OUTSIDE, fragment, options, payload))
}

#[test]
fn l9_header_is_sane() {
    let good = packet(6, 0, &[], &tcp());
    assert_eq!(class(EndId::Guest, &good), Class::Data);
    for first in [0x55, 0x65, 0x05, 0x44, 0x40, 0x4f] {
        let mut bad = good.clone();
        bad[14] = first;
        assert_dropped(&bad, DropReason::Ipv4Header);
    }
    let with_total = |total: u16| {
        let mut frame = good.clone();
        frame[16..18].copy_from_slice(&total.to_be_bytes());
        frame
    };
    for total in [0, 19, 41, 1500, u16::MAX] {
        assert_dropped(&with_total(total), DropReason::Ipv4Header);
    }
    // What a driver pads is no part of the packet.
    assert_passes(&with_total(40));
    assert_passes(&[&good[..], &[0; 6]].concat());
    for len in 14..good.len() {
        assert_dropped(&good[..len], DropReason::Ipv4Header);
    }
}

#[test]
fn l9_source_is_the_guests() {
    let from = |source| from_guest(0x0800, &ipv4(6, source, OUTSIDE, &tcp()));
    for own in [ADDRESS, SECOND_ADDRESS] {
        assert_passes(&from(own));
    }
    for foreign in [
        Ipv4Addr::new(100, 64, 0, 15),
        Ipv4Addr::new(100, 64, 0, 18),
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::new(0, 0, 0, 1),
        OUTSIDE,
    ] {
        assert_dropped(&from(foreign), DropReason::Ipv4Source);
    }
    for group in [Ipv4Addr::new(224, 0, 0, 1), Ipv4Addr::new(240, 0, 0, 1), Ipv4Addr::BROADCAST] {
        assert_dropped(&from(group), DropReason::Ipv4SourceGroup);
    }
}

#[test]
fn l9_unspecified_source_is_for_dhcp_broadcasts_only() {
    let message = dhcp(1, GUEST, Ipv4Addr::UNSPECIFIED, &[53, 1, 1, 255]);
    assert_passes(&discover(&message));
    let nobody = Ipv4Addr::UNSPECIFIED;
    for (protocol, to, datagram) in [
        (6, Ipv4Addr::BROADCAST, udp(68, 67, &message)),
        (2, Ipv4Addr::new(224, 0, 0, 22), vec![0x22; 16]),
        (17, OUTSIDE, udp(68, 67, &message)),
        (17, Ipv4Addr::BROADCAST, udp(68, 53, &message)),
        (17, Ipv4Addr::BROADCAST, udp(69, 67, &message)),
        (17, Ipv4Addr::BROADCAST, Vec::new()),
    ] {
        let frame = from_guest(0x0800, &ipv4(protocol, nobody, to, &datagram));
        assert_dropped(&frame, DropReason::Ipv4Unspecified);
    }
}

#[test]
fn l9_source_routes_are_dropped_and_other_options_pass() {
    let with = |options: &[u8]| packet(6, 0, options, &tcp());
    // Record route, router alert, timestamps, padding.
    for good in [[7, 4, 4, 0], [148, 4, 0, 0], [1, 68, 3, 0], [1, 1, 1, 1], [0, 131, 3, 4]] {
        assert_passes(&with(&good));
    }
    for kind in [131, 137] {
        for bad in [[kind, 3, 4, 0], [1, kind, 3, 4], [1, 1, 1, kind]] {
            assert_dropped(&with(&bad), DropReason::Ipv4SourceRoute);
        }
        assert_dropped(&with(&[7, 7, 4, 0, 0, 0, 0, kind]), DropReason::Ipv4SourceRoute);
    }
    // A length that hides what follows, or reaches beyond the options.
    for bad in [[7, 0, 131, 3], [7, 1, 131, 3], [7, 5, 0, 0], [1, 1, 1, 7], [7, 255, 0, 0]] {
        assert_dropped(&with(&bad), DropReason::Ipv4Options);
    }
}

#[test]
fn l9_fragments_that_hide_a_header_are_dropped() {
    const MORE: u16 = 0x2000;
    for (protocol, least) in [(6, 20), (17, 8), (1, 8), (132, 8)] {
        let payload = [0; 64];
        assert_passes(&packet(protocol, MORE, &[], &payload[..least]));
        for len in [0, least - 1] {
            assert_dropped(&packet(protocol, MORE, &[], &payload[..len]), DropReason::Ipv4Fragment);
        }
        for more in [0, MORE] {
            for offset in [1, 2] {
                let frame = packet(protocol, more | offset, &[], &payload);
                assert_dropped(&frame, DropReason::Ipv4Fragment);
            }
            assert_passes(&packet(protocol, more | 3, &[], &payload));
        }
    }
    // The end of a packet is at 65535, header included.
    assert_passes(&packet(17, 8186, &[], &[0; 27]));
    assert_dropped(&packet(17, 8186, &[], &[0; 28]), DropReason::Ipv4Fragment);
    // Whose it is is checked on every fragment.
    let foreign = ipv4_with(17, OUTSIDE, OUTSIDE, 100, &[], &[0; 64]);
    assert_dropped(&from_guest(0x0800, &foreign), DropReason::Ipv4Source);
}

#[test]
fn l9_datagrams_without_their_header_are_dropped() {
    assert_passes(&packet(17, 0, &[], &udp(5000, 53, &[])));
    assert_dropped(&packet(17, 0, &[], &udp(5000, 53, &[])[..7]), DropReason::TransportShort);
    assert_dropped(&packet(17, 0, &[], &[]), DropReason::TransportShort);
    assert_dropped(&packet(1, 0, &[], &[]), DropReason::TransportShort);
}

#[test]
fn l10_icmp_redirects_and_router_advertisements_are_dropped() {
    for (kind, verdict) in [
        (0, None),
        (3, None),
        (8, None),
        (10, None),
        (5, Some(DropReason::Redirect)),
        (9, Some(DropReason::RouterAdvertisement)),
    ] {
        for fragment in [0, 0x2000] {
            let frame = packet(1, fragment, &[], &[kind, 0, 0, 0, 0, 0, 0, 0]);
            match verdict {
                None => assert_passes(&frame),
                Some(reason) => assert_dropped(&frame, reason),
            }
        }
    }
}

#[test]
fn l9_a_guest_without_an_address_sends_nothing_but_dhcp_and_probes() {
    let filter = dynamic(None);
    let check = |frame: &[u8]| verdict(&filter, EndId::Guest, frame, 0);
    assert_eq!(check(&packet(6, 0, &[], &tcp())), Verdict::Drop(DropReason::Ipv4Source));
    let request = from_guest(0x0806, &arp(1, GUEST, ADDRESS, OUTSIDE));
    assert_eq!(check(&request), Verdict::Drop(DropReason::ArpSenderAddress));
    let probe = from_guest(0x0806, &arp(1, GUEST, Ipv4Addr::UNSPECIFIED, ADDRESS));
    assert_eq!(check(&probe), Verdict::Pass(Class::Control));
    let message = dhcp(1, GUEST, Ipv4Addr::UNSPECIFIED, &[53, 1, 1, 255]);
    assert_eq!(check(&discover(&message)), Verdict::Pass(Class::Control));
}
