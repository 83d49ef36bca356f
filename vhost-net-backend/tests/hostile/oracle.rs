//! What must hold whatever a driver does.

use std::time::Duration;

use vm_memory::{Bytes, GuestAddress};

use crate::common::driver::{Desc, Driver};
use crate::common::guest::{Guest, MEMORY_LEN, wait_for};
use crate::common::link::TestLink;
use crate::common::{GUEST, NETVM, frame};

/// Descriptors of the rings of most tests.
pub const SIZE: u16 = 16;
/// Where tests put indirect tables.
pub const TABLE: u64 = 0x8_0000;
/// Memory from here on is filled with a pattern of its owner. The rings lie below.
const POISONED: u64 = 0xa_0000;
const GUESTS_POISON: u8 = 0xb9;
const NETVMS_POISON: u8 = 0xd7;
const PAGE: usize = 4096;

/// A link with both ends connected, and full receive rings.
pub struct Ends<R> {
    pub link: TestLink,
    pub guest: Guest<R>,
    pub netvm: Guest<R>,
}

impl<R: Driver> Ends<R> {
    pub fn new(features: u64, size: u16) -> Self {
        Self::with(Guest::create(features, size), Guest::create(features, size))
    }

    pub fn with(mut guest: Guest<R>, mut netvm: Guest<R>) -> Self {
        let link = TestLink::start();
        poison(&guest, GUESTS_POISON);
        poison(&netvm, NETVMS_POISON);
        guest.connect(&link.guest_socket());
        netvm.connect(&link.netvm_socket());
        guest.fill_rx();
        netvm.fill_rx();
        Self { link, guest, netvm }
    }

    /// A frame passes from the guest to netvm.
    pub fn up_works(&mut self) {
        let up = frame(NETVM, GUEST, 60, 1);
        self.guest.send(&up);
        assert_eq!(self.netvm.receive(), up);
        self.netvm.fill_rx();
    }

    /// A frame passes from netvm to the guest.
    pub fn down_works(&mut self) {
        let down = frame(GUEST, NETVM, 200, 2);
        self.netvm.send(&down);
        assert_eq!(self.guest.receive(), down);
        self.guest.fill_rx();
    }

    /// Nothing has happened but what the two ends saw.
    pub fn all_is_well(mut self) {
        let report = self.link.report();
        assert_eq!((report.guest.ring_faults, report.netvm.ring_faults), (0, 0), "{report:?}");
        assert!(report.guest.up && report.netvm.up);
        assert!(self.guest.session().error[1].read().is_err(), "no error is signalled");
        self.netvm.fill_rx();
        self.guest.fill_rx();
        self.up_works();
        self.down_works();
        self.nobody_sees_the_others_memory();
    }

    /// The guest's transmit ring has stopped, and nothing came of what it did; all else works.
    pub fn transmit_ring_is_stopped(mut self) {
        let report = self.link.report_when(|report| report.guest.ring_faults == 1);
        assert!(report.guest.connected && report.netvm.connected);
        assert!(report.guest.up && report.netvm.up, "both can still receive");
        self.error_is_signalled(1);
        assert!(self.netvm.receive_within(Duration::ZERO).is_none(), "nothing of it is delivered");
        // The other direction, and so the other end, is not affected.
        self.down_works();
        // The ring does nothing more, ...
        self.guest.kick_tx();
        assert!(self.netvm.receive_within(Duration::from_millis(5)).is_none());
        let report = self.link.report();
        assert_eq!((report.guest.ring_faults, report.netvm.ring_faults), (1, 0));
        self.heals();
    }

    /// The error eventfd of one of the guest's rings is signalled.
    pub fn error_is_signalled(&mut self, ring: usize) {
        let session = self.guest.session();
        assert!(wait_for(|| session.error[ring].read().is_ok()), "the error eventfd is signalled");
    }

    /// A new session of the guest starts anew.
    pub fn heals(mut self) {
        self.guest.disconnect();
        self.guest.tx.reset();
        self.guest.rx.reset();
        self.guest.connect(&self.link.guest_socket());
        self.guest.fill_rx();
        self.up_works();
        self.down_works();
        self.nobody_sees_the_others_memory();
    }

    pub fn nobody_sees_the_others_memory(&self) {
        assert!(!holds(&self.netvm, GUESTS_POISON), "netvm sees memory of the guest's");
        assert!(!holds(&self.guest, NETVMS_POISON), "the guest sees memory of netvm's");
    }
}

/// Fills a guest's memory with a pattern.
fn poison<R>(guest: &Guest<R>, pattern: u8) {
    let len = MEMORY_LEN - POISONED as usize;
    guest.memory.write_slice(&vec![pattern; len], GuestAddress(POISONED)).unwrap();
}

/// Whether eight aligned bytes of a guest's memory have this pattern.
fn holds<R>(guest: &Guest<R>, pattern: u8) -> bool {
    let mut page = [0; PAGE];
    (0..MEMORY_LEN / PAGE).any(|number| {
        guest.memory.read_slice(&mut page, GuestAddress((number * PAGE) as u64)).unwrap();
        // Nearly all pages are as their owner left them, all bytes equal.
        let is_plain = page[..PAGE - 1] == page[1..];
        let word = [pattern; 8];
        if is_plain { page[..8] == word } else { page.chunks_exact(8).any(|chunk| chunk == word) }
    })
}

/// Has the guest's transmit ring break a rule by `act`, which may use descriptors from 4 on and
/// has a good frame in descriptor 4's buffer.
pub fn stops_the_ring<R: Driver>(features: u64, act: impl FnOnce(&mut Guest<R>, Desc)) {
    let mut ends = Ends::new(features, SIZE);
    ends.up_works();
    let good = ends.guest.write_tx(4, &frame(NETVM, GUEST, 60, 66));
    act(&mut ends.guest, good);
    ends.guest.kick_tx();
    ends.transmit_ring_is_stopped();
}

/// Offers a chain, its flags as given, as number 4.
pub fn offer<R: Driver>(guest: &mut Guest<R>, chain: &[Desc]) {
    guest.tx.offer_raw(4, chain);
    guest.tx.publish();
}

/// Sends the chain `id` and waits until it comes back.
pub fn send_chain<R: Driver>(guest: &mut Guest<R>, id: u16, chain: &[Desc]) {
    guest.tx.offer(id, chain);
    guest.tx.publish();
    guest.kick_tx();
    guest.wait_tx();
}
