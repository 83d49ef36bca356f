//! T22, so many times: a frame that changes between wrong and right while it is judged, without
//! sessions and sleep between the tries, as fast as this machine goes.
//!
//! `NETVM_RACE_TRIES` is how many frames are judged of each length and on each kind of ring, 200000
//! if it is not set. For 10^8, which takes minutes:
//!
//! ```sh
//! NETVM_RACE_TRIES=100000000 cargo test --release -p vhost-net-backend --test hostile double_fetch
//! ```

use std::sync::Arc;
use std::time::Duration;

use vhost_net_backend::datapath::EndId;
use vhost_net_backend::datapath::drop_reason::DropReason;
use vm_memory::{Bytes, GuestAddress};

use crate::common::direct::Direct;
use crate::common::driver::{Desc, Driver};
use crate::common::guest::{Guest, MRG_RXBUF};
use crate::common::{GUEST, NETVM, frame, on_both};
use crate::race::{BUFFER, Processor, put_frame};

on_both! {
    t22_frame_that_changes_while_it_is_judged_again_and_again,
}

/// Frames judged when nobody asks for another number.
const TRIES: u64 = 200_000;
/// The place in a frame of the last byte of the source MAC, and of the source address.
const BYTES: [usize; 2] = [11, 29];

fn tries() -> u64 {
    std::env::var("NETVM_RACE_TRIES").map_or(TRIES, |tries| {
        tries.parse().unwrap_or_else(|error| panic!("NETVM_RACE_TRIES={tries}: {error}"))
    })
}

fn t22_frame_that_changes_while_it_is_judged_again_and_again<R: Driver>() {
    // All of it private to the link at once, or a part.
    for len in [60, 1400] {
        let guest = Guest::<R>::create(MRG_RXBUF, 64);
        let mut netvm = Guest::<R>::create(MRG_RXBUF, 64);
        netvm.fill_rx();
        let link = Direct::new(&guest, &netvm);
        let good = frame(NETVM, GUEST, len, 1);
        let desc = put_frame(&guest, BUFFER, &good);
        let memory = Arc::clone(&guest.memory);
        let own = good.clone();
        let processor = Processor::start(move |count| {
            // Wrong and right in turn, the one byte for a while and then the other.
            let byte = BYTES[(count >> 10 & 1) as usize];
            let wrong = if count & 1 == 0 { 0xff } else { 0 };
            let at = GuestAddress(BUFFER + 12 + byte as u64);
            memory.write_obj(own[byte] ^ wrong, at).unwrap();
        });
        judge(link, (guest, netvm), desc, &good);
        processor.stop();
    }
}

/// Has the link judge the frame at `desc`, of which `good` is the good form.
fn judge<R: Driver>(
    mut link: Direct,
    (mut guest, mut netvm): (Guest<R>, Guest<R>),
    desc: Desc,
    good: &[u8],
) {
    let (mut judged, mut passed) = (0, 0_u64);
    while judged < tries() {
        for id in 0..64 {
            guest.tx.offer(id, &[desc]);
        }
        guest.tx.publish();
        judged += link.turn(EndId::Guest).frames as u64;
        while guest.tx.pop_used().is_some() {}
        assert_eq!(guest.tx.in_flight(), 0, "every frame was judged");
        while let Some((frame, _)) = netvm.receive_within(Duration::ZERO) {
            assert!(frame[6..12] == GUEST.octets(), "the source is the guest: {frame:x?}");
            assert!(frame[26..30] == good[26..30], "so is the address: {frame:x?}");
            assert_eq!(frame.len(), good.len());
            passed += 1;
        }
        netvm.fill_rx();
    }
    let drops = |reason| link.counters.drops(EndId::Guest, reason);
    let dropped: u64 = DropReason::ALL.iter().map(|reason| drops(*reason)).sum();
    assert_eq!(passed + dropped, judged);
    let both = [passed, drops(DropReason::SourceNotGuest)];
    assert!(both.iter().all(|count| *count > 100), "a race has both ends: {both:?}");
}
