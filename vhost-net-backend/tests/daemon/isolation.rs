//! Two guests, two links, two cards of netvm: what holds because there is a process for each link.

use std::net::Ipv4Addr;
use std::time::Duration;

use vhost_net_backend::mac::MacAddr;

use crate::common::guest::{EVENT_IDX, Guest, MRG_RXBUF};
use crate::common::{GUEST, GUEST_ADDRESS, NETVM, frame, frame_from};
use crate::daemon::{Daemon, Whose};

const OTHER: MacAddr = MacAddr::new([0x52, 0x54, 0, 0, 0, 0x77]);
const OTHER_ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 77);
const BROADCAST: MacAddr = MacAddr::new([0xff; 6]);
const ALL_NODES: MacAddr = MacAddr::new([0x33, 0x33, 0, 0, 0, 1]);
/// Longer than a link needs for anything.
const MOMENT: Duration = Duration::from_millis(50);

/// A link with both of its ends.
struct Side {
    daemon: Daemon,
    guest: Guest,
    netvm: Guest,
}

impl Side {
    fn new(whose: Whose) -> Self {
        let daemon = Daemon::start_for(whose, &["--sandbox", "available"]);
        let mut guest = Guest::new(MRG_RXBUF | EVENT_IDX, 256);
        let mut netvm = Guest::new(MRG_RXBUF | EVENT_IDX, 256);
        guest.connect(&daemon.guest_socket());
        netvm.connect(&daemon.netvm_socket());
        guest.fill_rx();
        netvm.fill_rx();
        Self { daemon, guest, netvm }
    }

    fn is_silent(&mut self) -> bool {
        self.guest.receive_within(MOMENT).is_none() && self.netvm.receive_within(MOMENT).is_none()
    }
}

fn sides() -> (Side, Side) {
    (Side::new((GUEST, GUEST_ADDRESS)), Side::new((OTHER, OTHER_ADDRESS)))
}

/// What a guest may try to reach another one.
fn attempts() -> Vec<Vec<u8>> {
    let mut attempts = Vec::new();
    for destination in [OTHER, BROADCAST, ALL_NODES, NETVM, GUEST] {
        for source in [GUEST, OTHER, NETVM] {
            for address in [GUEST_ADDRESS, OTHER_ADDRESS] {
                attempts.push(frame_from(address, destination, source, 64, 1));
            }
        }
    }
    attempts
}

#[test]
fn l2_l5_what_a_guest_sends_reaches_netvm_at_its_own_link_or_nobody() {
    let (mut a, mut b) = sides();
    for attempt in attempts() {
        a.guest.send(&attempt);
    }
    // Three of all those are its own and to netvm or a group.
    for destination in [BROADCAST, ALL_NODES, NETVM] {
        assert_eq!(a.netvm.receive(), frame(destination, GUEST, 64, 1));
    }
    // Nothing else to netvm, nothing back to the sender, nothing to the other link.
    assert!(a.is_silent());
    assert!(b.is_silent());
    let report = b.daemon.report();
    assert_eq!((report.guest.frames_out, report.netvm.frames_out), (0, 0));
    // The other guest is there: it gets what netvm sends it.
    let down = frame(OTHER, NETVM, 64, 2);
    b.netvm.send(&down);
    assert_eq!(b.guest.receive(), down);
}

#[test]
fn l3_what_netvm_sends_into_a_link_reaches_its_guest_or_nobody() {
    let (mut a, mut b) = sides();
    for destination in [OTHER, NETVM, MacAddr::new([2, 3, 4, 5, 6, 7])] {
        a.netvm.send(&frame(destination, NETVM, 64, 1));
    }
    // Unknown unicast is not flooded, and a guest's name is not taken.
    a.netvm.send(&frame(BROADCAST, GUEST, 64, 1));
    assert!(a.is_silent() && b.is_silent());
    assert_eq!(a.daemon.report().netvm.drops["destination-not-guest"], 3);
    let broadcast = frame(BROADCAST, NETVM, 64, 2);
    a.netvm.send(&broadcast);
    assert_eq!(a.guest.receive(), broadcast);
    assert!(b.is_silent());
}

#[test]
fn l15_without_netvm_frames_go_nowhere_and_none_waits_for_the_next_one() {
    let (mut a, mut b) = sides();
    a.netvm.disconnect();
    assert!(crate::common::guest::wait_for(|| !a.daemon.report().netvm.up));
    for round in 0..100 {
        a.guest.send(&frame(NETVM, GUEST, 64, round));
        a.guest.send(&frame(BROADCAST, GUEST, 64, round));
    }
    assert_eq!(a.daemon.report().guest.drops["peer-down"], 200);
    assert!(b.is_silent());
    let mut next = Guest::new(MRG_RXBUF | EVENT_IDX, 256);
    next.connect(&a.daemon.netvm_socket());
    next.fill_rx();
    assert!(next.receive_within(MOMENT).is_none(), "a frame for the netvm before");
    let fresh = frame(NETVM, GUEST, 64, 200);
    a.guest.send(&fresh);
    assert_eq!(next.receive(), fresh);
}

#[test]
fn l13_a_flood_that_nobody_takes_costs_no_memory_and_no_other_link_a_frame() {
    let (mut a, mut b) = sides();
    let anonymous = |side: &Side| -> u64 {
        side.daemon.status("RssAnon").trim_end_matches(" kB").parse().unwrap()
    };
    let flood = frame(NETVM, GUEST, 1514, 1);
    let round = |a: &mut Side| {
        for _ in 0..200 {
            a.guest.post(&flood);
        }
        a.guest.kick_tx();
        a.guest.wait_tx();
    };
    round(&mut a);
    let before = anonymous(&a);
    for number in 0..100 {
        round(&mut a);
        let up = frame_from(OTHER_ADDRESS, NETVM, OTHER, 64, number);
        b.guest.send(&up);
        assert_eq!(b.netvm.receive(), up);
        b.netvm.fill_rx();
    }
    let grown = anonymous(&a).saturating_sub(before);
    assert!(grown < 256, "{grown} KiB more");
    // A ring of 256 buffers, and not one frame more.
    assert_eq!(a.daemon.report().guest.drops["no-rx-buffer"], 101 * 200 - 256);
    assert!(b.daemon.report().drops.is_empty());
}
