//! T1 to T7, T20, T35, T77: what a driver can say wrong about its ring. The two kinds of rings have
//! different words for it.

use std::time::Duration;

use vhost_net_backend::datapath::ring::RingLayout;

use crate::common::driver::{Desc, Driver, DriverRing, NEXT, WRITE};
use crate::common::guest::{Guest, MRG_RXBUF};
use crate::common::packed::{AVAIL, PackedRing, USED};
use crate::common::{GUEST, NETVM, frame, on_both};
use crate::oracle::{Ends, SIZE, offer, stops_the_ring as stops};

on_both! {
    t20_rings_that_overlap_hurt_only_their_owner,
}

mod split_ring {
    use super::*;

    fn stops_the_ring(act: impl FnOnce(&mut Guest<DriverRing>, Desc)) {
        stops::<DriverRing>(MRG_RXBUF, act);
    }

    fn offer_head(guest: &mut Guest, head: u16) {
        guest.tx.put_avail(head);
        guest.tx.publish();
    }

    #[test]
    fn t01_chain_that_loops_on_itself() {
        stops_the_ring(|guest, good| {
            guest.tx.set_desc(4, Desc { flags: NEXT, next: 4, ..good });
            offer_head(guest, 4);
        });
    }

    #[test]
    fn t02_loops_of_two_and_of_all_descriptors() {
        stops_the_ring(|guest, good| {
            guest.tx.set_desc(4, Desc { flags: NEXT, next: 5, ..good });
            guest.tx.set_desc(5, Desc { flags: NEXT, next: 4, ..good });
            offer_head(guest, 4);
        });
        stops_the_ring(|guest, good| {
            for index in 0..SIZE {
                guest.tx.set_desc(index, Desc { flags: NEXT, next: (index + 1) % SIZE, ..good });
            }
            offer_head(guest, 4);
        });
    }

    #[test]
    fn t03_next_outside_the_table_in_the_middle() {
        for next in [SIZE, 999, u16::MAX] {
            stops_the_ring(|guest, good| {
                guest.tx.set_desc(4, Desc { flags: NEXT, next, ..good });
                offer_head(guest, 4);
            });
        }
    }

    #[test]
    fn t04_head_outside_the_table() {
        for head in [SIZE, 5000, u16::MAX] {
            stops_the_ring(|guest, _| offer_head(guest, head));
        }
    }

    #[test]
    fn t05_same_head_twice_in_one_batch_is_delivered_once() {
        let mut ends = Ends::<DriverRing>::new(MRG_RXBUF, SIZE);
        let sent = frame(NETVM, GUEST, 60, 1);
        let desc = ends.guest.write_tx(4, &sent);
        ends.guest.tx.set_desc(4, desc);
        ends.guest.tx.put_avail(4);
        offer_head(&mut ends.guest, 4);
        ends.guest.kick_tx();
        assert_eq!(ends.netvm.receive(), sent, "the first was in order");
        assert_eq!(ends.guest.tx.used_idx(), 1);
        ends.transmit_ring_is_stopped();
    }

    #[test]
    fn t06_available_index_jumps() {
        for jump in [SIZE + 1, SIZE + 2, 0x8000, u16::MAX] {
            stops_the_ring(|guest, _| {
                guest.tx.store_avail_idx(guest.tx.avail_idx.wrapping_add(jump));
            });
        }
    }

    #[test]
    fn t06_available_index_wraps_at_65536() {
        let mut ends = Ends::<DriverRing>::new(MRG_RXBUF, SIZE);
        ends.guest.disconnect();
        // Until it has let go of the ring, the link would see the index jump.
        ends.link.report_when(|report| !report.guest.connected);
        ends.guest.tx.reset();
        ends.guest.tx.set_used_idx(0xfff8);
        (ends.guest.tx.avail_idx, ends.guest.tx.last_used) = (0xfff8, 0xfff8);
        ends.guest.tx.publish();
        ends.guest.connect(&ends.link.guest_socket());
        for _ in 0..SIZE {
            ends.up_works();
        }
        assert_eq!(ends.guest.tx.used_idx(), 8);
        ends.all_is_well();
    }

    #[test]
    fn t77_used_index_beyond_the_available_one_stops_the_ring_at_its_start() {
        let mut ends = Ends::<DriverRing>::new(MRG_RXBUF, SIZE);
        for used in [1, 0x8000, u16::MAX - 100] {
            ends.guest.disconnect();
            ends.link.report_when(|report| !report.guest.connected);
            let faults = ends.link.report().guest.ring_faults;
            ends.guest.tx.reset();
            ends.guest.tx.set_used_idx(used);
            ends.guest.connect(&ends.link.guest_socket());
            ends.link.report_when(|report| report.guest.ring_faults == faults + 1);
            ends.error_is_signalled(1);
        }
        ends.heals();
    }
}

mod packed_ring {
    use super::*;

    fn stops_the_ring(act: impl FnOnce(&mut Guest<PackedRing>, Desc)) {
        stops::<PackedRing>(MRG_RXBUF, act);
    }

    /// A packed ring's chains have no index to loop by; the only loop is all around the ring.
    #[test]
    fn t01_t02_chain_all_around_the_ring_without_an_end() {
        stops_the_ring(|guest, good| {
            offer(guest, &vec![Desc { flags: NEXT, ..good }; SIZE.into()]);
        });
    }

    /// What follows a descriptor with NEXT must be available before it.
    #[test]
    fn t03_chain_that_goes_on_in_what_is_not_available() {
        for count in [1, 2, SIZE - 1] {
            stops_the_ring(|guest, good| {
                offer(guest, &vec![Desc { flags: NEXT, ..good }; count.into()]);
            });
        }
    }

    /// A buffer's id means nothing to the device: it is given back as it came.
    #[test]
    fn t04_t05_ids_out_of_range_and_twice_are_given_back() {
        let mut ends = Ends::<PackedRing>::new(MRG_RXBUF, SIZE);
        let sent = frame(NETVM, GUEST, 60, 1);
        let good = ends.guest.write_tx(4, &sent);
        for id in [SIZE, 5000, u16::MAX, 7, 7] {
            ends.guest.tx.offer_raw(id, &[good]);
        }
        ends.guest.tx.publish();
        ends.guest.kick_tx();
        for _ in 0..5 {
            assert_eq!(ends.netvm.receive(), sent);
        }
        for id in [SIZE, 5000, u16::MAX, 7] {
            assert_eq!(ends.guest.tx.pop_used(), Some((id.into(), 0)));
        }
        let (slot, flags) = (4, AVAIL | USED);
        assert_eq!(ends.guest.tx.flags(slot) & flags, flags, "the second 7 is back too");
        ends.transmit_heals();
    }

    impl Ends<PackedRing> {
        fn transmit_heals(self) {
            assert_eq!(self.link.report().guest.ring_faults, 0);
            self.heals();
        }
    }

    /// All descriptors twice available: those of the next lap before those of this one came back.
    #[test]
    fn t06_t35_more_descriptors_than_the_ring_has() {
        let mut netvm = Guest::create(MRG_RXBUF, SIZE);
        netvm.rx_buffer_len = 90;
        let mut ends = Ends::<PackedRing>::with(netvm, Guest::create(MRG_RXBUF, SIZE));
        // The link takes all buffers and uses one.
        let first = frame(GUEST, NETVM, 60, 1);
        ends.netvm.send(&first);
        assert_eq!(ends.guest.receive(), first);
        for slot in 0..SIZE {
            ends.guest.rx.set_flags(slot, WRITE | USED);
        }
        // Of 17 buffers it finds one twice.
        ends.netvm.send(&frame(GUEST, NETVM, 1514, 1));
        ends.link.report_when(|report| report.guest.ring_faults == 1 && !report.guest.up);
        ends.error_is_signalled(0);
        ends.up_works();
        ends.guest.rx_buffer_len = 2048;
        ends.heals();
    }

    /// What looks like a descriptor of another lap is not there, and is once it is.
    #[test]
    fn t35_descriptors_of_the_wrong_lap_are_not_there() {
        let mut ends = Ends::<PackedRing>::new(MRG_RXBUF, SIZE);
        let sent = frame(NETVM, GUEST, 60, 1);
        let desc = ends.guest.write_tx(0, &sent);
        ends.guest.tx.set_desc(0, Desc { next: 9, ..desc });
        for flags in [0, USED, AVAIL | USED, NEXT, NEXT | USED] {
            ends.guest.tx.set_flags(0, flags);
            ends.guest.kick_tx();
            assert!(ends.netvm.receive_within(Duration::from_millis(2)).is_none());
        }
        ends.down_works();
        ends.guest.tx.offer(9, &[desc]);
        ends.guest.tx.publish();
        ends.guest.kick_tx();
        assert_eq!(ends.netvm.receive(), sent);
        ends.guest.wait_tx();
        ends.all_is_well();
    }

    /// Packed descriptors in a split ring: flags of laps mean nothing there.
    #[test]
    fn t35_packed_ring_though_split_was_negotiated() {
        let mut ends = Ends::<DriverRing>::new(MRG_RXBUF, SIZE);
        let good = ends.guest.write_tx(4, &frame(NETVM, GUEST, 60, 66));
        for index in 0..SIZE {
            ends.guest.tx.set_desc(index, Desc { flags: 4, next: AVAIL, ..good });
        }
        ends.guest.kick_tx();
        assert!(ends.netvm.receive_within(Duration::from_millis(5)).is_none());
        ends.down_works();
        // Once offered, such a chain is taken at its word: bits 7 and 15 mean nothing.
        for flags in [AVAIL, USED, AVAIL | USED] {
            ends.guest.tx.offer_raw(4, &[Desc { flags, ..good }]);
            ends.guest.tx.publish();
            ends.guest.kick_tx();
            ends.guest.wait_tx();
            assert_eq!(ends.netvm.receive(), frame(NETVM, GUEST, 60, 66));
        }
        ends.all_is_well();
    }
}

fn t20_rings_that_overlap_hurt_only_their_owner<R: Driver + Movable>() {
    for which in 0..6 {
        let mut ends = Ends::<R>::new(MRG_RXBUF, SIZE);
        ends.guest.disconnect();
        ends.link.report_when(|report| !report.guest.connected);
        ends.guest.tx.reset();
        let (rx, tx) = (ends.guest.rx.layout(), ends.guest.tx.layout());
        let layout = match which {
            // The used ring is the descriptor table, the available ring, the ring of the other
            // direction, or a buffer.
            0 => RingLayout { used: tx.descriptors, ..tx },
            1 => RingLayout { used: tx.available & !3, ..tx },
            2 => RingLayout { used: rx.descriptors, ..tx },
            3 => RingLayout { used: 0x10_0000, ..tx },
            // All are one, or the whole ring is that of the other direction.
            4 => RingLayout { available: tx.descriptors, used: tx.descriptors, ..tx },
            _ => RingLayout { size: tx.size, ..rx },
        };
        ends.guest.tx.set_layout(layout);
        ends.guest.connect(&ends.link.guest_socket());
        for id in 0..SIZE {
            let desc = ends.guest.write_tx(id, &frame(NETVM, GUEST, 60, 1));
            ends.guest.tx.offer_raw(id, &[desc]);
            ends.guest.tx.publish();
            ends.guest.kick_tx();
        }
        // The guest's own receive ring may be broken by it, but not netvm's rings.
        for _ in 0..4 {
            ends.netvm.send(&frame(GUEST, NETVM, 60, 2));
        }
        let report = ends.link.report();
        assert!(report.netvm.up && report.netvm.ring_faults == 0, "{report:?}");
        assert!(report.guest.ring_faults <= 2);
        ends.nobody_sees_the_others_memory();
        ends.guest.disconnect();
        ends.guest.tx.set_layout(tx);
        while ends.netvm.receive_within(Duration::ZERO).is_some() {}
        ends.netvm.fill_rx();
        ends.heals();
    }
}

/// A ring whose areas can be moved.
trait Movable {
    fn set_layout(&mut self, layout: RingLayout);
}

impl Movable for DriverRing {
    fn set_layout(&mut self, layout: RingLayout) {
        self.layout = layout;
    }
}

impl Movable for PackedRing {
    fn set_layout(&mut self, layout: RingLayout) {
        self.layout = layout;
    }
}
