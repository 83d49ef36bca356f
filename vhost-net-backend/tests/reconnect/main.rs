//! Reconnects of either frontend, in any order. A process of its own, as it counts the
//! descriptors and threads of the process; so its tests are one.
#![expect(clippy::unwrap_used, reason = "an error fails the test")]

#[path = "../common/mod.rs"]
mod common;

use common::guest::{EVENT_IDX, Guest, INDIRECT_DESC, MRG_RXBUF, wait_for};
use common::link::TestLink;
use common::{GUEST, NETVM, frame};

/// Open descriptors and threads of this process.
fn usage() -> (usize, usize) {
    let count = |directory| std::fs::read_dir(directory).unwrap().count();
    (count("/proc/self/fd"), count("/proc/self/task"))
}

fn connect_and_wait(link: &TestLink, guest: &mut Guest, is_guest: bool) {
    let socket = if is_guest { link.guest_socket() } else { link.netvm_socket() };
    guest.connect(&socket);
    link.report_when(|report| if is_guest { report.guest.up } else { report.netvm.up });
}

fn disconnect_and_wait(link: &TestLink, guest: &mut Guest, is_guest: bool) {
    guest.disconnect();
    link.report_when(
        |report| {
            !if is_guest { report.guest.connected } else { report.netvm.connected }
        },
    );
}

#[test]
fn reconnects_in_any_order_leak_nothing_and_disturb_nobody() {
    let features = MRG_RXBUF | EVENT_IDX | INDIRECT_DESC;
    let link = TestLink::start();
    let (mut guest, mut netvm) = (Guest::new(features, 64), Guest::new(features, 64));
    let idle = usage();
    let mut random = 0x9e37_79b9_u32;
    let mut connected = None;
    for round in 0..300_u32 {
        // The one that is away comes back, or one or both leave and come back; sometimes the
        // frontend is back before the link has seen it leave.
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        let choice = random >> 7;
        for is_guest in [choice & 1 == 0, choice & 1 == 1] {
            let end = if is_guest { &mut guest } else { &mut netvm };
            if choice & 2 == 0 || end.session.is_none() {
                if choice & 4 == 0 && end.session.is_some() {
                    disconnect_and_wait(&link, end, is_guest);
                }
                end.session = None;
                connect_and_wait(&link, end, is_guest);
            }
        }
        guest.fill_rx();
        netvm.fill_rx();
        let seed = round.to_le_bytes()[0];
        let up = frame(NETVM, GUEST, 100, seed);
        guest.send(&up);
        assert_eq!(netvm.receive(), up, "round {round}");
        let down = frame(GUEST, NETVM, 900, seed);
        netvm.send(&down);
        assert_eq!(guest.receive(), down, "round {round}");
        let now = usage();
        assert_eq!(*connected.get_or_insert(now), now, "round {round}");
    }
    assert!(link.report().guest.reconnects > 100, "{:?}", link.report());
    assert_eq!(link.report().drops.len(), 0, "{:?}", link.report());
    assert_eq!(link.report().guest.last_error, None);
    disconnect_and_wait(&link, &mut guest, true);
    disconnect_and_wait(&link, &mut netvm, false);
    assert!(wait_for(|| usage() == idle), "{:?} was {idle:?}", usage());
    drop(link);
    let worker_gone = wait_for(|| usage().1 < idle.1);
    assert!(worker_gone, "the worker and the main loop end with the link");
}
