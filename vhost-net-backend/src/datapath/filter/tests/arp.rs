//! L8 and L17: ARP and RARP.

use super::frames::*;
use super::*;

const ASKED: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);

#[test]
fn l8_requests_and_replies_of_the_guest_pass_as_control() {
    for operation in [1, 2] {
        for own in [ADDRESS, SECOND_ADDRESS] {
            let mut frame = from_guest(0x0806, &arp(operation, GUEST, own, ASKED));
            assert_eq!(class(EndId::Guest, &frame), Class::Control);
            frame.resize(60, 0);
            assert_passes(&frame);
        }
    }
    // Gratuitous, and a probe.
    assert_passes(&ethernet(BROADCAST, GUEST, 0x0806, &arp(1, GUEST, ADDRESS, ADDRESS)));
    let probe = arp(1, GUEST, Ipv4Addr::UNSPECIFIED, ASKED);
    assert_passes(&ethernet(BROADCAST, GUEST, 0x0806, &probe));
    assert_eq!(
        class(EndId::Netvm, &from_netvm(0x0806, &arp(1, NETVM, ASKED, ADDRESS))),
        Class::Control
    );
}

#[test]
fn l8_shape_is_exact() {
    let good = from_guest(0x0806, &arp(1, GUEST, ADDRESS, ASKED));
    assert_passes(&good);
    // Hardware type, protocol type, address lengths.
    for at in 14..20 {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert_dropped(&bad, DropReason::ArpShape);
    }
    for operation in [0, 3, 4, 8, 9, 255] {
        assert_dropped(
            &from_guest(0x0806, &arp(operation, GUEST, ADDRESS, ASKED)),
            DropReason::ArpShape,
        );
    }
    for len in 14..good.len() {
        assert_dropped(&good[..len], DropReason::ArpShape);
    }
    let mut long = good;
    long.resize(61, 0);
    assert_dropped(&long, DropReason::ArpShape);
}

#[test]
fn l8_sender_is_the_guest() {
    for mac in [OTHER, NETVM, BROADCAST] {
        let frame = from_guest(0x0806, &arp(2, mac, ADDRESS, ASKED));
        assert_dropped(&frame, DropReason::ArpSenderMac);
    }
    // Another guest's address, netvm's own, and no address in a reply.
    for sender in [Ipv4Addr::new(100, 64, 0, 18), ASKED, Ipv4Addr::BROADCAST] {
        for operation in [1, 2] {
            let frame = from_guest(0x0806, &arp(operation, GUEST, sender, sender));
            assert_dropped(&frame, DropReason::ArpSenderAddress);
        }
    }
    let nobody = arp(2, GUEST, Ipv4Addr::UNSPECIFIED, ASKED);
    assert_dropped(&from_guest(0x0806, &nobody), DropReason::ArpSenderAddress);
}

#[test]
fn l17_rarp_announces_the_guests_own_card_only() {
    let announce = |sender, target| ethernet(BROADCAST, GUEST, 0x8035, &rarp(sender, target));
    assert_eq!(class(EndId::Guest, &announce(GUEST, GUEST)), Class::Control);
    assert_dropped(&announce(OTHER, GUEST), DropReason::Rarp);
    assert_dropped(&announce(GUEST, OTHER), DropReason::Rarp);
    for at in [21, 31, 41] {
        // Operation, sender's address, target's address.
        let mut frame = announce(GUEST, GUEST);
        frame[at] ^= 4;
        assert_dropped(&frame, DropReason::Rarp);
    }
}
