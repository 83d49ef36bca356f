//! When drivers are called, and when they are asked to kick.

use crate::common::driver::{Desc, Driver, INDIRECT, NEXT};
use crate::common::guest::{EVENT_IDX, Guest, INDIRECT_DESC, MRG_RXBUF, wait_for};
use crate::common::{GUEST, NETVM, frame, on_both};
use crate::pair_of;

on_both! {
    calls_come_only_when_the_driver_wants_them,
    event_index_delays_the_call_until_it_is_reached,
    kicks_are_asked_for_when_idle,
    indirect_table_is_followed,
}

fn calls_come_only_when_the_driver_wants_them<R: Driver>() {
    let (_link, mut guest, mut netvm) = pair_of::<R>(MRG_RXBUF, 64);
    let good = frame(NETVM, GUEST, 60, 1);
    let calls = |netvm: &mut Guest<R>| netvm.session().call[0].read().unwrap_or(0);
    calls(&mut netvm);
    guest.send(&good);
    netvm.receive();
    assert!(wait_for(|| calls(&mut netvm) > 0));
    netvm.rx.set_calls(false);
    for _ in 0..2 {
        guest.send(&good);
        netvm.receive();
    }
    assert_eq!(calls(&mut netvm), 0, "the driver's wish is honoured");
    netvm.rx.set_calls(true);
    guest.send(&good);
    netvm.receive();
    assert!(wait_for(|| calls(&mut netvm) > 0));
}

fn event_index_delays_the_call_until_it_is_reached<R: Driver>() {
    let (_link, mut guest, mut netvm) = pair_of::<R>(MRG_RXBUF | EVENT_IDX, 8);
    let good = frame(NETVM, GUEST, 60, 1);
    netvm.session().call[0].read().unwrap_or(0);
    // In the first lap, in the second, and at its end; 3 frames are from 1 to 3.
    for at in [3, 11, 16] {
        netvm.rx.call_after(at);
        while netvm.rx.offered() < at + 8 {
            let number = netvm.rx.offered() - 8 + 1;
            guest.send(&good);
            netvm.receive();
            netvm.fill_rx();
            let session = netvm.session();
            let called = if number == at {
                wait_for(|| session.call[0].read().is_ok())
            } else {
                session.call[0].read().is_ok()
            };
            assert_eq!(called, number == at, "{number}");
        }
    }
}

fn kicks_are_asked_for_when_idle<R: Driver>() {
    for features in [MRG_RXBUF | EVENT_IDX, MRG_RXBUF] {
        let (_link, mut guest, netvm) = pair_of::<R>(features, 64);
        let event_idx = features & EVENT_IDX != 0;
        for _ in 0..100 {
            guest.send(&frame(NETVM, GUEST, 60, 1));
            let wanted = wait_for(|| guest.tx.kick_is_wanted(event_idx));
            assert!(wanted, "the driver is to kick at the next chain");
        }
        assert!(!netvm.rx.kick_is_wanted(event_idx), "receive buffers need no kicks");
    }
}

fn indirect_table_is_followed<R: Driver>() {
    let (_link, mut guest, mut netvm) = pair_of::<R>(MRG_RXBUF | INDIRECT_DESC, 64);
    let table = 0x8_0000;
    for round in 0..100 {
        let sent = frame(NETVM, GUEST, 700, round);
        let whole = guest.write_tx(5, &sent);
        guest.tx.set_table(table, 0, Desc { len: 12, flags: NEXT, next: 1, ..whole });
        let body = Desc { addr: whole.addr + 12, len: 700, flags: 0, next: 0 };
        guest.tx.set_table(table, 1, body);
        guest.tx.offer(9, &[Desc { addr: table, len: 32, flags: INDIRECT, next: 0 }]);
        guest.tx.publish();
        guest.kick_tx();
        guest.wait_tx();
        assert_eq!(netvm.receive(), sent);
        netvm.fill_rx();
    }
}
