//! Rings that are stopped and started, and memory that changes under them.

use std::time::Duration;

use vhost::VhostBackend;
use vhost::vhost_user::VhostUserFrontend;

use crate::common::driver::Driver;
use crate::common::guest::{EVENT_IDX, MRG_RXBUF};
use crate::common::{GUEST, NETVM, frame, on_both};
use crate::pair_of;

on_both! {
    ring_stops_and_resumes_at_its_base,
    t57_memory_changes_under_traffic,
}

fn ring_stops_and_resumes_at_its_base<R: Driver>() {
    let (_link, mut guest, mut netvm) = pair_of::<R>(MRG_RXBUF, 16);
    for round in 0..40_u8 {
        let sent = frame(NETVM, GUEST, 60, round);
        guest.send(&sent);
        assert_eq!(netvm.receive(), sent);
        // Sixteen bits of a split ring's base, twice those of a packed one's.
        let here = guest.tx.base();
        let base = guest.session().frontend.get_vring_base(1).unwrap();
        assert_eq!(base, here);
        // Stopped: a frame posted now is not taken.
        let waiting = frame(NETVM, GUEST, 60, 100 + round);
        guest.post(&waiting);
        guest.kick_tx();
        assert!(netvm.receive_within(Duration::from_millis(5)).is_none());
        // Started where it was, or as a VMM that restores a guest does, where that says it was.
        let session = guest.session();
        if round % 2 == 0 {
            session.set_base(1, base);
        }
        session.frontend.set_vring_kick(1, &session.kick[1]).unwrap();
        session.frontend.set_vring_call(1, &session.call[1]).unwrap();
        assert_eq!(netvm.receive(), waiting);
        guest.wait_tx();
        netvm.fill_rx();
        if round % 10 != 9 {
            continue;
        }
        // A driver that resets its card.
        guest.session().frontend.get_vring_base(1).unwrap();
        guest.tx.reset();
        let session = guest.session();
        session.set_base(1, R::START);
        session.frontend.set_vring_kick(1, &session.kick[1]).unwrap();
    }
}

fn t57_memory_changes_under_traffic<R: Driver>() {
    let (link, mut guest, mut netvm) = pair_of::<R>(MRG_RXBUF | EVENT_IDX, 64);
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
