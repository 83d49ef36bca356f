//! Whatever bytes come: no panic, the same verdict piece by piece, and none of them foreign.

use std::net::{IpAddr, Ipv6Addr};

use proptest::collection::vec;
use proptest::prelude::*;

use super::frames::*;
use super::*;

/// Frames of every kind that the rules know, from the guest and from netvm.
fn corpus() -> Vec<Vec<u8>> {
    let outside = Ipv4Addr::new(192, 0, 2, 1);
    let outside6: Ipv6Addr = "2001:db8::1".parse().unwrap();
    let all_nodes: Ipv6Addr = "ff02::1".parse().unwrap();
    let declared: Ipv6Addr = ADDRESS6.parse().unwrap();
    let options = [53, 1, 5, 51, 4, 0, 0, 2, 88, 255];
    let solicit = about(135, declared, &link_address(1, GUEST));
    let advertise = about(136, declared, &link_address(2, GUEST));
    let fragment = [&[58, 0, 0, 1, 0, 0, 0, 1][..], &icmpv6(128, &[0; 12])].concat();
    let alert = [&[58, 0, 5, 2, 0, 0, 1, 0][..], &icmpv6(143, &[0; 4])].concat();
    let extended = [&[60, 0, 1, 4, 0, 0, 0, 0].repeat(3)[..], &[6, 0, 1, 4, 0, 0, 0, 0], &tcp()];
    let mut frames = vec![
        from_guest(0x0806, &arp(1, GUEST, ADDRESS, outside)),
        from_guest(0x0806, &arp(1, GUEST, Ipv4Addr::UNSPECIFIED, ADDRESS)),
        from_guest(0x8035, &rarp(GUEST, GUEST)),
        from_guest(0x0800, &ipv4(6, ADDRESS, outside, &tcp())),
        from_guest(0x0800, &ipv4(17, ADDRESS, outside, &udp(4000, 53, &[1; 300]))),
        from_guest(0x0800, &ipv4(1, SECOND_ADDRESS, outside, &[8; 64])),
        from_guest(0x0800, &ipv4_with(6, ADDRESS, outside, 0x2000, &[], &tcp())),
        from_guest(0x0800, &ipv4_with(6, ADDRESS, outside, 0, &[148, 4, 0, 0, 7, 4, 4, 0], &tcp())),
        discover(&dhcp(1, GUEST, Ipv4Addr::UNSPECIFIED, &options)),
        from_guest(
            0x0800,
            &ipv4(17, ADDRESS, outside, &udp(68, 67, &dhcp(1, GUEST, ADDRESS, &options))),
        ),
    ];
    for (next, payload) in [
        (6, tcp()),
        (17, udp(4000, 53, &[1; 300])),
        (58, solicit),
        (58, advertise),
        (58, icmpv6(128, &[0; 60])),
        (44, fragment),
        (60, extended.concat()),
    ] {
        for (source, to) in [(declared, outside6), (link_local(), all_nodes)] {
            frames.push(from_guest(0x86dd, &ipv6(next, 255, source, to, &payload)));
        }
    }
    let routers = "ff02::16".parse().unwrap();
    frames.push(from_guest(0x86dd, &ipv6(0, 1, link_local(), routers, &alert)));
    let down = ipv4(17, outside, LEASED, &udp(67, 68, &dhcp(2, GUEST, LEASED, &options)));
    frames.push(from_netvm(0x0800, &down));
    frames.push(from_netvm(0x0800, &ipv4(6, outside, ADDRESS, &tcp())));
    frames
}

/// What is done to a frame.
#[derive(Clone, Debug)]
enum Change {
    Set(usize, u8),
    Flip(usize, u8),
    Cut(usize),
    Grow(usize),
    /// Puts bytes that mean something at a place.
    Write(usize, Vec<u8>),
}

fn change() -> impl Strategy<Value = Change> {
    let meaning: Vec<Vec<u8>> = vec![
        vec![8, 0],
        vec![0x86, 0xdd],
        vec![8, 6],
        vec![0x81, 0],
        OTHER.octets().to_vec(),
        ADDRESS.octets().to_vec(),
        LEASED.octets().to_vec(),
        vec![0; 4],
        vec![255; 4],
        vec![224, 0, 0, 1],
        vec![134, 0],
        vec![137, 0],
        vec![0, 67, 0, 68],
        vec![0, 68, 0, 67],
        vec![2, 35, 2, 34],
    ];
    // Most of what the rules read lies in the first 96 bytes.
    let at = || prop_oneof![4 => 0..96_usize, 1 => 0..400_usize];
    prop_oneof![
        3 => (at(), any::<u8>()).prop_map(|(at, value)| Change::Set(at, value)),
        3 => (at(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, 1 << bit)),
        1 => (0..400_usize).prop_map(Change::Cut),
        1 => (0..200_usize).prop_map(Change::Grow),
        3 => (at(), proptest::sample::select(meaning))
            .prop_map(|(at, bytes)| Change::Write(at, bytes)),
    ]
}

fn mutate(mut frame: Vec<u8>, changes: Vec<Change>) -> Vec<u8> {
    for change in changes {
        match change {
            Change::Cut(len) => frame.truncate(len),
            Change::Grow(more) => frame.resize(frame.len() + more, 0x5a),
            Change::Set(at, value) => {
                frame.get_mut(at).into_iter().for_each(|byte| *byte = value);
            }
            Change::Flip(at, bit) => frame.get_mut(at).into_iter().for_each(|byte| *byte ^= bit),
            Change::Write(at, bytes) => {
                for (byte, value) in frame.iter_mut().skip(at).zip(bytes) {
                    *byte = value;
                }
            }
        }
    }
    frame
}

/// A known frame, changed a little.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let changed = (proptest::sample::select(corpus()), vec(change(), 0..5))
        .prop_map(|(frame, changes)| mutate(frame, changes));
    prop_oneof![9 => changed, 1 => vec(any::<u8>(), 0..600)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// [`verdict`] asks with a prefix first, and compares.
    #[test]
    fn verdict_on_a_prefix_is_that_on_the_whole_frame(
        frame in frame(),
        from_guest in any::<bool>(),
        is_dynamic in any::<bool>(),
        now in any::<u64>(),
    ) {
        let from = if from_guest { EndId::Guest } else { EndId::Netvm };
        let lease = Lease { address: LEASED, seconds: 600 };
        let filter = if is_dynamic { dynamic(Some(lease)) } else { filter() };
        verdict(&filter, from, &frame, now);
    }

    /// The short cut says nothing that the rules do not say.
    #[test]
    fn frames_judged_at_a_glance_pass_the_rules_as_well(
        frame in frame(),
        from_guest in any::<bool>(),
        len in prop_oneof![Just(0), 0..2000_usize],
    ) {
        let from = if from_guest { EndId::Guest } else { EndId::Netvm };
        for filter in [filter(), dynamic(Some(Lease { address: LEASED, seconds: 600 }))] {
            let asked = Frame { len: frame.len().max(len), ..Frame::whole(&frame) };
            if plain::passes(&filter, from, &asked, 0) {
                prop_assert_eq!(filter.apply(from, &asked, 0), Verdict::Pass(Class::Data));
            }
        }
    }

    /// Prefixes and lengths that no caller has: no panic, and no more is asked for than there is.
    #[test]
    fn more_is_never_more_than_the_frame(
        frame in frame(),
        seen in 0..600_usize,
        len in prop_oneof![0..1600_usize, any::<usize>()],
        from_guest in any::<bool>(),
    ) {
        let bytes = &frame[..seen.min(frame.len())];
        let from = if from_guest { EndId::Guest } else { EndId::Netvm };
        let asked = Frame { bytes, len, wire_len: 60 };
        if let Verdict::More(wanted) = dynamic(None).check(from, &asked, 0) {
            prop_assert!(bytes.len() < wanted && wanted <= len);
        }
    }

    #[test]
    fn ownership_equals_the_reference(frame in frame()) {
        let own = [
            IpAddr::from(ADDRESS),
            SECOND_ADDRESS.into(),
            ADDRESS6.parse().unwrap(),
            link_local().into(),
        ];
        let foreign = reference::foreign(&frame, &own);
        match verdict(&filter(), EndId::Guest, &frame, 0) {
            Verdict::Pass(_) => {
                prop_assert_eq!(foreign, None);
                prop_assert!(!reference::forbidden(&frame));
            }
            Verdict::Drop(reason) if reference::OWNERSHIP.contains(&reason) => {
                prop_assert_eq!(foreign, Some(reason));
            }
            _ => {}
        }
    }
}

#[test]
fn ordinary_traffic_is_judged_at_a_glance() {
    let outside = Ipv4Addr::new(192, 0, 2, 1);
    let datagram = udp(4000, 53, &[1; 300]);
    for (protocol, payload) in [(6, &tcp()), (17, &datagram)] {
        let up = from_guest(0x0800, &ipv4(protocol, ADDRESS, outside, payload));
        let down = from_netvm(0x0800, &ipv4(protocol, outside, ADDRESS, payload));
        for (from, frame) in [(EndId::Guest, up), (EndId::Netvm, down)] {
            assert!(plain::passes(&filter(), from, &Frame::whole(&frame), 0), "{frame:02x?}");
        }
    }
}

#[test]
fn the_corpus_passes() {
    let filter = filter();
    for frame in corpus() {
        let from = if frame[..6] == GUEST.octets() { EndId::Netvm } else { EndId::Guest };
        let verdict = verdict(&filter, from, &frame, 0);
        assert!(matches!(verdict, Verdict::Pass(_)), "{verdict:?} {frame:02x?}");
    }
}
