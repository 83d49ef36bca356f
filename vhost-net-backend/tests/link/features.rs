//! What the negotiated features change.

use std::time::Duration;

use vhost::VhostBackend;
use vhost::vhost_user::VhostUserFrontend;
use vhost::vhost_user::message::VhostUserConfigFlags;

use crate::common::driver::{Desc, INDIRECT, NEXT};
use crate::common::guest::{EVENT_IDX, Guest, INDIRECT_DESC, MRG_RXBUF, wait_for};
use crate::common::link::TestLink;
use crate::common::{CARD, GUEST, NETVM, frame};
use crate::pair;

#[test]
fn mergeable_frame_fills_several_buffers_that_appear_together() {
    let (link, mut guest, mut netvm) = pair(MRG_RXBUF, 64);
    netvm.disconnect();
    link.report_when(|report| !report.netvm.connected);
    let mut netvm = Guest::new(MRG_RXBUF, 64);
    netvm.rx_buffer_len = 200;
    netvm.connect(&link.netvm_socket());
    netvm.fill_rx();
    for len in [60, 188, 189, 1000, 1514] {
        let sent = frame(NETVM, GUEST, len, 7);
        guest.send(&sent);
        let (received, buffers) = netvm.receive_within(Duration::from_secs(5)).unwrap();
        assert_eq!(received, sent);
        assert_eq!(usize::from(buffers), (len + 12).div_ceil(200));
    }
}

#[test]
fn t30_frame_too_long_for_a_buffer_is_dropped_without_mergeable_buffers() {
    let link = TestLink::start();
    let (mut guest, mut netvm) = (Guest::new(0, 64), Guest::new(0, 64));
    netvm.rx_buffer_len = 200;
    guest.connect(&link.guest_socket());
    netvm.connect(&link.netvm_socket());
    netvm.fill_rx();
    guest.send(&frame(NETVM, GUEST, 189, 1));
    assert_eq!(link.drops("rx-buffer-short"), 1);
    // The buffer was not used up, and later frames that fit do arrive.
    let good = frame(NETVM, GUEST, 188, 2);
    guest.send(&good);
    assert_eq!(netvm.receive_within(Duration::from_secs(5)).unwrap(), (good, 1));
}

#[test]
fn t29_one_byte_buffers_do_not_stall_the_sender() {
    let link = TestLink::start();
    let (mut guest, mut netvm) = (Guest::new(MRG_RXBUF, 256), Guest::new(MRG_RXBUF, 1024));
    netvm.rx_buffer_len = 1;
    guest.connect(&link.guest_socket());
    netvm.connect(&link.netvm_socket());
    netvm.fill_rx();
    for _ in 0..100 {
        guest.send(&frame(NETVM, GUEST, 1000, 1));
    }
    assert_eq!(link.drops("rx-buffer-short"), 100);
}

#[test]
fn t18_header_over_twelve_one_byte_descriptors_is_understood() {
    let (_link, mut guest, mut netvm) = pair(MRG_RXBUF, 64);
    let sent = frame(NETVM, GUEST, 60, 4);
    let whole = guest.write_tx(0, &sent);
    for index in 0..12 {
        let addr = whole.addr + u64::from(index);
        guest.tx.set_desc(index, Desc { addr, len: 1, flags: NEXT, next: index + 1 });
    }
    guest.tx.set_desc(12, Desc { addr: whole.addr + 12, len: 60, flags: 0, next: 0 });
    guest.tx.put_avail(0);
    guest.tx.publish();
    guest.kick_tx();
    guest.wait_tx();
    assert_eq!(netvm.receive(), sent);
}

#[test]
fn indirect_table_is_followed() {
    let (_link, mut guest, mut netvm) = pair(MRG_RXBUF | INDIRECT_DESC, 64);
    let table = 0x8_0000;
    for round in 0..3 {
        let sent = frame(NETVM, GUEST, 700, round);
        let whole = guest.write_tx(5, &sent);
        guest.tx.set_desc_at(table, 0, Desc { len: 12, flags: NEXT, next: 2, ..whole });
        let body = Desc { addr: whole.addr + 12, len: 700, flags: 0, next: 0 };
        guest.tx.set_desc_at(table, 2, body);
        guest.tx.set_desc(9, Desc { addr: table, len: 48, flags: INDIRECT, next: 0 });
        guest.tx.put_avail(9);
        guest.tx.publish();
        guest.kick_tx();
        guest.wait_tx();
        assert_eq!(netvm.receive(), sent);
    }
}

#[test]
fn empty_descriptors_in_a_chain_are_skipped_wherever_they_point() {
    let (_link, mut guest, mut netvm) = pair(MRG_RXBUF, 64);
    let sent = frame(NETVM, GUEST, 60, 4);
    let whole = guest.write_tx(0, &sent);
    guest.tx.set_desc(0, Desc { addr: u64::MAX, len: 0, flags: NEXT, next: 1 });
    guest.tx.set_desc(1, Desc { flags: NEXT, next: 2, ..whole });
    guest.tx.set_desc(2, Desc { addr: 0xdead_0000, len: 0, flags: 0, next: 0 });
    guest.tx.put_avail(0);
    guest.tx.publish();
    guest.kick_tx();
    guest.wait_tx();
    assert_eq!(netvm.receive(), sent);
}

#[test]
fn calls_come_only_when_the_driver_wants_them() {
    let (_link, mut guest, mut netvm) = pair(MRG_RXBUF, 64);
    let good = frame(NETVM, GUEST, 60, 1);
    let calls = |netvm: &mut Guest| netvm.session().call[0].read().unwrap_or(0);
    calls(&mut netvm);
    guest.send(&good);
    netvm.receive();
    assert!(wait_for(|| calls(&mut netvm) > 0));
    netvm.rx.set_avail_flags(1);
    guest.send(&good);
    netvm.receive();
    guest.send(&good);
    netvm.receive();
    assert_eq!(calls(&mut netvm), 0, "VRING_AVAIL_F_NO_INTERRUPT is honoured");
}

#[test]
fn event_index_delays_the_call_until_it_is_reached() {
    let (_link, mut guest, mut netvm) = pair(MRG_RXBUF | EVENT_IDX, 64);
    let good = frame(NETVM, GUEST, 60, 1);
    netvm.session().call[0].read().unwrap_or(0);
    // Call when used entry 2, the third, is written.
    netvm.rx.set_used_event(2);
    for round in 0..4 {
        guest.send(&good);
        netvm.receive();
        let expected = round == 2;
        let called = if expected {
            wait_for(|| netvm.session().call[0].read().is_ok())
        } else {
            netvm.session().call[0].read().is_ok()
        };
        assert_eq!(called, expected, "{round}");
    }
}

#[test]
fn kicks_are_asked_for_when_idle() {
    let (_link, mut guest, _netvm) = pair(MRG_RXBUF | EVENT_IDX, 64);
    for round in 1..4 {
        guest.send(&frame(NETVM, GUEST, 60, 1));
        let wanted = wait_for(|| guest.tx.avail_event() == round);
        assert!(wanted, "the driver is to kick at the next chain");
    }
    let (_link, mut guest, netvm) = pair(MRG_RXBUF, 64);
    guest.send(&frame(NETVM, GUEST, 60, 1));
    assert!(wait_for(|| guest.tx.used_flags() == 0));
    assert_eq!(netvm.rx.used_flags(), 1, "kicks for receive buffers are not wanted");
}

#[test]
fn frames_posted_before_the_ring_runs_need_no_kick() {
    let link = TestLink::start();
    let mut netvm = Guest::new(MRG_RXBUF, 64);
    netvm.fill_rx();
    netvm.connect(&link.netvm_socket());
    let mut guest = Guest::new(MRG_RXBUF, 64);
    let sent = frame(NETVM, GUEST, 60, 1);
    guest.post(&sent);
    guest.connect(&link.guest_socket());
    assert_eq!(netvm.receive(), sent);
}

#[test]
fn config_space_has_each_ends_mac_and_the_mtu() {
    let (_link, mut guest, mut netvm) = pair(MRG_RXBUF, 64);
    for (end, mac) in [(&mut guest, GUEST), (&mut netvm, CARD)] {
        let frontend = &mut end.session().frontend;
        let flags = VhostUserConfigFlags::empty();
        let (_, config) = frontend.get_config(0, 12, flags, &[0; 12]).unwrap();
        assert_eq!(config[..6], mac.octets());
        assert_eq!(config[6..8], [1, 0], "link up, as this frontend cannot be told of changes");
        assert_eq!(config[10..12], 1500_u16.to_le_bytes());
        // A read of any size at any offset is answered, and a write is harmless.
        let (_, config) = frontend.get_config(4, 4, flags, &[0; 4]).unwrap();
        assert_eq!(config[..2], mac.octets()[4..]);
        frontend.set_config(0, VhostUserConfigFlags::WRITABLE, &[9; 6]).unwrap();
        let (_, config) = frontend.get_config(0, 6, flags, &[0; 6]).unwrap();
        assert_eq!(config, mac.octets());
        assert_eq!(frontend.get_queue_num().unwrap(), 2);
        assert_eq!(frontend.get_max_mem_slots().unwrap(), 509);
    }
}

#[test]
fn ring_stops_and_resumes_at_its_base() {
    let (_link, mut guest, mut netvm) = pair(MRG_RXBUF, 64);
    for round in 0..5_u8 {
        let sent = frame(NETVM, GUEST, 60, round);
        guest.send(&sent);
        assert_eq!(netvm.receive(), sent);
        let session = guest.session();
        let base = session.frontend.get_vring_base(1).unwrap();
        assert_eq!(base, u32::from(round) + 1);
        // Stopped: a frame posted now is not taken.
        let waiting = frame(NETVM, GUEST, 60, 100 + round);
        guest.post(&waiting);
        guest.kick_tx();
        assert!(netvm.receive_within(Duration::from_millis(20)).is_none());
        let session = guest.session();
        session.frontend.set_vring_kick(1, &session.kick[1]).unwrap();
        session.frontend.set_vring_call(1, &session.call[1]).unwrap();
        assert_eq!(netvm.receive(), waiting);
        guest.wait_tx();
        guest.session().frontend.get_vring_base(1).unwrap();
        let session = guest.session();
        session.frontend.set_vring_kick(1, &session.kick[1]).unwrap();
        guest.post(&sent);
        guest.kick_tx();
        assert_eq!(netvm.receive(), sent);
        // Back to one frame a round.
        netvm.fill_rx();
        guest.wait_tx();
        guest.session().frontend.get_vring_base(1).unwrap();
        guest.tx.reset();
        let session = guest.session();
        session.frontend.set_vring_base(1, 0).unwrap();
        session.frontend.set_vring_kick(1, &session.kick[1]).unwrap();
        for _ in 0..=round {
            guest.send(&sent);
            netvm.receive();
        }
    }
}

#[test]
fn t57_memory_changes_under_traffic() {
    let (link, mut guest, mut netvm) = pair(MRG_RXBUF | EVENT_IDX, 64);
    for round in 0..100_u8 {
        // Slot by slot, as a frontend with CONFIGURE_MEM_SLOTS does: away, and back again.
        let region = guest.region();
        guest.session().frontend.remove_mem_region(&region).unwrap();
        // The rings rest meanwhile: nothing is lost, nothing is touched.
        let sent = frame(NETVM, GUEST, 60, round);
        guest.post(&sent);
        guest.kick_tx();
        netvm.send(&frame(GUEST, NETVM, 60, 1));
        assert!(!link.report().guest.up);
        guest.session().frontend.add_mem_region(&region).unwrap();
        assert_eq!(netvm.receive(), sent);
        guest.wait_tx();
        // And all at once.
        guest.session().frontend.set_mem_table(&[region]).unwrap();
        let down = frame(GUEST, NETVM, 60, round);
        netvm.send(&down);
        assert_eq!(guest.receive(), down);
        guest.fill_rx();
        netvm.fill_rx();
    }
    let report = link.report();
    assert_eq!((report.guest.ring_faults, report.drops["peer-down"]), (0, 100));
}

#[test]
fn t54_regions_in_any_order_are_taken_and_overlapping_ones_are_not() {
    let link = TestLink::start();
    for (bases, is_good) in [([0x80_0000, 0], true), ([0, 0x7f_0000], false)] {
        let mut guest = Guest::new(MRG_RXBUF, 64);
        guest.connect(&link.guest_socket());
        let regions = bases.map(|base| {
            let mut region = guest.region();
            region.guest_phys_addr = base;
            region.userspace_addr += base;
            region
        });
        assert_eq!(guest.session().frontend.set_mem_table(&regions).is_ok(), is_good);
        if is_good {
            guest.send(&frame(NETVM, GUEST, 60, 1));
        }
        guest.disconnect();
        link.report_when(|report| !report.guest.connected);
    }
}
