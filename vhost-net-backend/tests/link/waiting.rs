//! Frames that wait for receive buffers, and what is noticed on the way to sleep.

use vhost_net_backend::datapath::EndId;
use vhost_net_backend::datapath::rate::{Limit, Limits};
use vhost_net_backend::end::End;

use crate::common::direct::Direct;
use crate::common::guest::{EVENT_IDX, Guest, MRG_RXBUF, wait_for};
use crate::common::link::{Options, TestLink};
use crate::common::{GUEST, NETVM, frame};

#[test]
fn frame_that_waits_for_its_second_buffer_is_charged_once() {
    // Enough for one frame, and next to nothing more for the rest of the day.
    let long = frame(NETVM, GUEST, 1514, 1);
    let bytes = Some(Limit { per_second: 1, burst: 1514 });
    let limits = Limits { bytes, ..Limits::default() };
    let link = TestLink::with(Options { limits, ..Options::default() });
    let (mut guest, mut netvm) = (Guest::new(MRG_RXBUF, 64), Guest::new(MRG_RXBUF, 64));
    netvm.rx_buffer_len = 1000;
    guest.connect(&link.guest_socket());
    netvm.connect(&link.netvm_socket());
    netvm.post_rx(1);
    // It is looked at again and again, until it has waited long enough.
    guest.send(&long);
    assert!(wait_for(|| link.drops("no-rx-buffer") == 1), "{:?}", link.report());
    netvm.post_rx(1);
    guest.send(&long);
    assert_eq!(netvm.receive(), long);
    guest.send(&long);
    assert!(wait_for(|| link.drops("rate-bytes") == 1), "{:?}", link.report());
}

#[test]
fn fault_found_on_the_way_to_sleep_keeps_the_worker_awake() {
    for features in [MRG_RXBUF, MRG_RXBUF | EVENT_IDX] {
        let (guest, netvm) = (Guest::new(features, 64), Guest::new(features, 64));
        let mut link = Direct::new(&guest, &netvm);
        assert_eq!(link.turn(EndId::Guest).frames, 0);
        let [end, _] = &mut link.ends;
        assert!(!end.rearm(), "nothing is there");
        end.disarm();
        guest.tx.store_avail_idx(1000);
        assert!(end.rearm(), "a fault is there to be reported");
        end.disarm();
        end.settle();
        let End::VhostUser(end) = end else { panic!("it has rings") };
        let (ring, fault) = end.take_fault().expect("the ring stopped");
        assert_eq!(ring.to_string(), "transmit 0");
        assert!(fault.to_string().contains("1000"), "{fault}");
    }
}
