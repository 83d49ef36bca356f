//! L1 to L4, L6, L7 and L18: addresses, ethertypes, lengths.

use super::frames::*;
use super::*;
use crate::mac::MacAddr;

fn plain() -> Vec<u8> {
    ipv4(6, ADDRESS, Ipv4Addr::new(192, 0, 2, 1), &tcp())
}

fn sent(destination: MacAddr, source: MacAddr) -> Verdict {
    verdict(&filter(), EndId::Guest, &ethernet(destination, source, 0x0800, &plain()), 0)
}

fn got(destination: MacAddr, source: MacAddr) -> Verdict {
    verdict(&filter(), EndId::Netvm, &ethernet(destination, source, 0x0800, &plain()), 0)
}

#[test]
fn l1_source_is_the_guests_and_nothing_else() {
    assert_eq!(sent(NETVM, GUEST), Verdict::Pass(Class::Data));
    let refused = Verdict::Drop(DropReason::SourceNotGuest);
    for bit in 0..48 {
        let mut octets = GUEST.octets();
        octets[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(sent(NETVM, MacAddr::new(octets)), refused);
    }
    // A sweep, of which a table of addresses would keep a trace.
    let before = format!("{:?}", filter());
    let filter = filter();
    for number in 0..100_000_u32 {
        let [a, b, c, d] = number.wrapping_mul(0x9e37_79b9).to_be_bytes();
        let source = MacAddr::new([0x52, 0x54, a, b, c, d]);
        if source != GUEST {
            let frame = ethernet(NETVM, source, 0x0800, &plain());
            assert_eq!(filter.check(EndId::Guest, &Frame::whole(&frame), 0), refused);
        }
    }
    assert_eq!(format!("{filter:?}"), before);
    for source in [MacAddr::new([0; 6]), BROADCAST, ALL_NODES, NETVM] {
        assert_eq!(sent(NETVM, source), refused);
    }
}

#[test]
fn l2_guest_reaches_netvm_and_groups_only() {
    assert_eq!(sent(NETVM, GUEST), Verdict::Pass(Class::Data));
    assert_eq!(sent(BROADCAST, GUEST), Verdict::Pass(Class::Control));
    assert_eq!(sent(ALL_NODES, GUEST), Verdict::Pass(Class::Control));
    for destination in [OTHER, GUEST, MacAddr::new([0; 6])] {
        assert_eq!(sent(destination, GUEST), Verdict::Drop(DropReason::DestinationNotNetvm));
    }
}

#[test]
fn l3_guest_gets_frames_for_itself_and_groups_only() {
    assert_eq!(got(GUEST, NETVM), Verdict::Pass(Class::Data));
    assert_eq!(got(BROADCAST, NETVM), Verdict::Pass(Class::Control));
    for destination in [OTHER, NETVM, MacAddr::new([0; 6])] {
        assert_eq!(got(destination, NETVM), Verdict::Drop(DropReason::DestinationNotGuest));
    }
}

#[test]
fn l4_netvm_does_not_speak_as_the_guest_or_as_a_group() {
    assert_eq!(got(GUEST, OTHER), Verdict::Pass(Class::Data));
    assert_eq!(got(GUEST, GUEST), Verdict::Drop(DropReason::SourceIsGuest));
    assert_eq!(got(BROADCAST, GUEST), Verdict::Drop(DropReason::SourceIsGuest));
    for source in [BROADCAST, ALL_NODES, MacAddr::new([0; 6])] {
        assert_eq!(got(GUEST, source), Verdict::Drop(DropReason::SourceGroup));
    }
}

#[test]
fn l6_vlan_tags_are_dropped_whatever_is_in_them() {
    for kind in [0x8100, 0x88a8, 0x9100, 0x9200] {
        for tag in [[0, 0], [0xe0, 0], [0, 1], [0x0f, 0xff]] {
            let once = [&tag[..], &[8, 0], &plain()].concat();
            let twice = [&tag[..], &[0x81, 0], &once].concat();
            for payload in [once, twice] {
                assert_dropped(&from_guest(kind, &payload), DropReason::VlanTag);
                let down = verdict(&filter(), EndId::Netvm, &from_netvm(kind, &payload), 0);
                assert_eq!(down, Verdict::Drop(DropReason::VlanTag));
            }
        }
    }
    assert_passes(&from_guest(0x0800, &plain()));
}

#[test]
fn l7_only_ipv4_arp_and_ipv6_pass() {
    let filter = filter();
    let allowed = [0x0800, 0x0806, 0x86dd, 0x8035];
    for kind in 0..=u16::MAX {
        let frame = from_guest(kind, &plain());
        let verdict = filter.check(EndId::Guest, &Frame::whole(&frame), 0);
        let unknown = matches!(verdict, Verdict::Drop(DropReason::Ethertype | DropReason::VlanTag));
        assert_eq!(unknown, !allowed.contains(&kind), "{kind:#x}");
    }
    // LLC, flow control, LACP, EAPOL, MACsec, LLDP, PTP.
    for kind in [46, 0x8808, 0x8809, 0x888e, 0x88e5, 0x88cc, 0x88f7] {
        assert_dropped(&from_guest(kind, &[0; 46]), DropReason::Ethertype);
    }
}

#[test]
fn l7_addresses_of_bridges_are_dropped() {
    for last in 0..=15 {
        let reserved = MacAddr::new([0x01, 0x80, 0xc2, 0, 0, last]);
        assert_eq!(sent(reserved, GUEST), Verdict::Drop(DropReason::DestinationReserved));
        assert_eq!(got(reserved, NETVM), Verdict::Drop(DropReason::DestinationReserved));
    }
    let next = MacAddr::new([0x01, 0x80, 0xc2, 0, 0, 0x10]);
    assert_eq!(sent(next, GUEST), Verdict::Pass(Class::Control));
}

#[test]
fn l18_length_limits_are_14_and_mtu_plus_14() {
    let mut long = from_guest(0x0800, &plain());
    for len in 0..14 {
        assert_dropped(&long[..len], DropReason::FrameShort);
    }
    // Too short for what it says it is, but an Ethernet frame.
    assert_dropped(&long[..14], DropReason::Ipv4Header);
    long.resize(1514, 0);
    assert_passes(&long);
    long.push(0);
    assert_dropped(&long, DropReason::FrameLong);
}

#[test]
fn l18_a_gso_frame_is_as_long_as_its_segments() {
    let filter = filter();
    let packet =
        ipv4(6, ADDRESS, Ipv4Addr::new(192, 0, 2, 1), &[&tcp()[..], &[7; 60_000]].concat());
    let bytes = from_guest(0x0800, &packet);
    let check = |wire_len| {
        filter.check(EndId::Guest, &Frame { bytes: &bytes[..128], len: bytes.len(), wire_len }, 0)
    };
    assert_eq!(check(1514), Verdict::Pass(Class::Data));
    assert_eq!(check(1515), Verdict::Drop(DropReason::FrameLong));
}
