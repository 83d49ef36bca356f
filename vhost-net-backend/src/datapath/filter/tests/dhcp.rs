//! L9 and L11: DHCP messages of the guest, and the address that netvm's bind.

use super::frames::*;
use super::*;
use crate::mac::MacAddr;

const SERVER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
const NONE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

fn request(kind: u8) -> Vec<u8> {
    dhcp(1, GUEST, NONE, &[53, 1, kind, 50, 4, 100, 64, 0, 99, 255])
}

/// An acknowledgement for ten minutes.
fn acknowledge(client: MacAddr, address: Ipv4Addr) -> Vec<u8> {
    dhcp(2, client, address, &[53, 1, 5, 54, 4, 100, 64, 0, 1, 51, 4, 0, 0, 2, 88, 255])
}

/// Whether the guest may send from the leased address at `now`.
fn holds(filter: &Filter, now: u64) -> bool {
    let frame = from_guest(0x0800, &ipv4(6, LEASED, SERVER, &tcp()));
    let sent = verdict(filter, EndId::Guest, &frame, now);
    let frame = from_guest(0x0806, &arp(1, GUEST, LEASED, SERVER));
    let asked = verdict(filter, EndId::Guest, &frame, now);
    match (sent, asked) {
        (Verdict::Pass(_), Verdict::Pass(_)) => true,
        (Verdict::Drop(DropReason::Ipv4Source), Verdict::Drop(DropReason::ArpSenderAddress)) => {
            false
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn deliver(filter: &Filter, frame: &[u8], now: u64) {
    let verdict = verdict(filter, EndId::Netvm, frame, now);
    assert!(matches!(verdict, Verdict::Pass(_)), "{verdict:?}");
}

#[test]
fn l11_no_server_speaks_from_a_guest() {
    let message = acknowledge(OTHER, LEASED);
    for source in [67, 68, 4000] {
        let frame = from_guest(0x0800, &ipv4(17, ADDRESS, SERVER, &udp(source, 68, &message)));
        assert_dropped(&frame, DropReason::DhcpServer);
        let frame = ipv4_with(17, ADDRESS, SERVER, 0x2000, &[], &udp(source, 68, &message));
        assert_dropped(&from_guest(0x0800, &frame), DropReason::DhcpServer);
    }
    // A server's message to a server's port.
    assert_dropped(&discover(&message), DropReason::DhcpShape);
    assert_passes(&from_guest(0x0800, &ipv4(17, ADDRESS, SERVER, &udp(67, 69, &message))));
}

#[test]
fn l11_requests_are_for_the_guests_own_card() {
    assert_passes(&discover(&request(1)));
    let renewal = ipv4(17, ADDRESS, SERVER, &udp(68, 67, &request(3)));
    assert_passes(&from_guest(0x0800, &renewal));
    for client in [OTHER, NETVM, BROADCAST] {
        let message = dhcp(1, client, NONE, &[53, 1, 1, 255]);
        assert_dropped(&discover(&message), DropReason::DhcpClientMac);
        // From any port.
        let frame = ipv4(17, ADDRESS, SERVER, &udp(4000, 67, &message));
        assert_dropped(&from_guest(0x0800, &frame), DropReason::DhcpClientMac);
    }
    let mut relayed = request(1);
    relayed[24..28].copy_from_slice(&ADDRESS.octets());
    assert_dropped(&discover(&relayed), DropReason::DhcpRelay);
}

#[test]
fn l11_requests_can_be_read_in_one_way_only() {
    let with = |options: &[u8]| discover(&dhcp(1, GUEST, NONE, options));
    assert_passes(&with(&[0, 0, 53, 1, 1, 255, 53, 1, 7]));
    assert_passes(&with(&[53, 1, 1]));
    for bad in [
        &[255][..],
        &[],
        &[53, 1, 1, 53, 1, 7, 255],
        &[53, 2, 1, 7, 255],
        &[53, 1, 1, 52, 1, 3, 255],
        &[53],
        &[53, 1],
        &[53, 1, 1, 12, 200, 1],
    ] {
        assert_dropped(&with(bad), DropReason::DhcpShape);
    }
    let good = request(1);
    for (at, value) in [(0, 2), (0, 0), (1, 6), (2, 16), (236, 0), (239, 0)] {
        let mut message = good.clone();
        message[at] = value;
        assert_dropped(&discover(&message), DropReason::DhcpShape);
    }
    assert_dropped(&discover(&good[..239]), DropReason::DhcpShape);
    // The UDP length leaves the message type out, or is longer than the packet.
    for len in [0_u16, 8, 248, 300] {
        let mut frame = discover(&good);
        frame[38..40].copy_from_slice(&len.to_be_bytes());
        assert_dropped(&frame, DropReason::DhcpShape);
    }
}

#[test]
fn l11_requests_are_in_one_piece() {
    let datagram = udp(68, 67, &request(1));
    let packet = ipv4_with(17, NONE, Ipv4Addr::BROADCAST, 0x2000, &[], &datagram);
    assert_dropped(&from_guest(0x0800, &packet), DropReason::DhcpFragment);
    assert_passes(&discover(&request(1)));
}

#[test]
fn l9_acknowledgement_binds_until_the_lease_ends() {
    for to in [GUEST, BROADCAST] {
        let filter = dynamic(None);
        assert!(!holds(&filter, 0));
        deliver(&filter, &reply(to, &acknowledge(GUEST, LEASED)), 5 * SECOND);
        assert!(holds(&filter, 5 * SECOND) && holds(&filter, 605 * SECOND));
        assert!(!holds(&filter, 608 * SECOND));
        // Renewed.
        deliver(&filter, &reply(to, &acknowledge(GUEST, LEASED)), 600 * SECOND);
        assert!(holds(&filter, 1200 * SECOND));
        // Another address takes its place.
        deliver(&filter, &reply(to, &acknowledge(GUEST, ADDRESS)), 601 * SECOND);
        assert!(!holds(&filter, 601 * SECOND));
    }
}

#[test]
fn l9_what_is_no_acknowledgement_for_the_guest_binds_nothing() {
    let offer = dhcp(2, GUEST, LEASED, &[53, 1, 2, 51, 4, 0, 0, 2, 88, 255]);
    let no_time = dhcp(2, GUEST, LEASED, &[53, 1, 5, 255]);
    let no_kind = dhcp(2, GUEST, LEASED, &[51, 4, 0, 0, 2, 88, 255]);
    let request = dhcp(1, GUEST, LEASED, &[53, 1, 5, 51, 4, 0, 0, 2, 88, 255]);
    let other = acknowledge(OTHER, LEASED);
    let mut cut = acknowledge(GUEST, LEASED);
    cut.truncate(250);
    for message in [offer, no_time, no_kind, request, other, cut] {
        let filter = dynamic(None);
        deliver(&filter, &reply(BROADCAST, &message), 0);
        assert!(!holds(&filter, 0), "{message:?}");
    }
    // From another port, to another port, in a fragment, from the guest itself.
    let message = acknowledge(GUEST, LEASED);
    for packet in [
        ipv4(17, SERVER, LEASED, &udp(68, 68, &message)),
        ipv4(17, SERVER, LEASED, &udp(67, 67, &message)),
        ipv4(6, SERVER, LEASED, &udp(67, 68, &message)),
        ipv4_with(17, SERVER, LEASED, 0x2000, &[], &udp(67, 68, &message)),
    ] {
        let filter = dynamic(None);
        deliver(&filter, &from_netvm(0x0800, &packet), 0);
        assert!(!holds(&filter, 0));
    }
    let filter = dynamic(None);
    let packet = ipv4(17, NONE, Ipv4Addr::BROADCAST, &udp(67, 68, &message));
    verdict(&filter, EndId::Guest, &from_guest(0x0800, &packet), 0);
    assert!(!holds(&filter, 0));
    // To somebody else: dropped, and no binding.
    let filter = dynamic(None);
    let dropped = verdict(&filter, EndId::Netvm, &reply(OTHER, &message), 0);
    assert_eq!(dropped, Verdict::Drop(DropReason::DestinationNotGuest));
    assert!(!holds(&filter, 0));
}

#[test]
fn l9_a_static_guest_gets_no_other_address() {
    let filter = filter();
    deliver(&filter, &reply(GUEST, &acknowledge(GUEST, LEASED)), 0);
    assert!(!holds(&filter, 0));
}

#[test]
fn l9_refusal_release_and_decline_end_the_binding() {
    let lease = Lease { address: LEASED, seconds: 600 };
    let refusal = |client| dhcp(2, client, NONE, &[53, 1, 6, 255]);
    let filter = dynamic(Some(lease));
    deliver(&filter, &reply(BROADCAST, &refusal(OTHER)), 0);
    assert!(holds(&filter, 0));
    deliver(&filter, &reply(BROADCAST, &refusal(GUEST)), 0);
    assert!(!holds(&filter, 0));
    for kind in 1..=8 {
        let filter = dynamic(Some(lease));
        let packet = ipv4(17, LEASED, SERVER, &udp(68, 67, &request(kind)));
        let verdict = verdict(&filter, EndId::Guest, &from_guest(0x0800, &packet), 0);
        assert_eq!(verdict, Verdict::Pass(Class::Data));
        assert_eq!(holds(&filter, 0), kind != 4 && kind != 7, "{kind}");
    }
}

#[test]
fn l9_a_lease_given_at_the_start_holds_and_ends() {
    let filter = dynamic(Some(Lease { address: LEASED, seconds: 60 }));
    assert!(holds(&filter, 0) && holds(&filter, 60 * SECOND) && !holds(&filter, 63 * SECOND));
    let filter = dynamic(Some(Lease { address: LEASED, seconds: u32::MAX }));
    assert!(holds(&filter, 1 << 60));
}

#[test]
fn clones_share_the_binding() {
    let filter = dynamic(None);
    let clone = filter.clone();
    deliver(&filter, &reply(GUEST, &acknowledge(GUEST, LEASED)), 0);
    assert!(holds(&clone, 0));
}
