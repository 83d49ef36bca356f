//! Several queue pairs: which ring a frame of which ring goes to, and that none is lost, repeated
//! or overtaken while pairs come and go.

use std::time::Duration;

use vhost::VhostBackend;
use vhost::vhost_user::VhostUserFrontend;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::common::driver::{Desc, DriverRing, WRITE};
use crate::common::guest::{Guest, MRG_RXBUF, ring_config, wait_for};
use crate::common::link::{Options, TestLink};
use crate::common::{GUEST, NETVM, frame};

const MQ: u64 = 1 << 22;
/// Rings and buffers of the second pair.
const RX_RING: u64 = 0x4_0000;
const TX_RING: u64 = 0x5_0000;
const TX_BUFFER: u64 = 0x60_0000;
const RX_BUFFERS: u64 = 0x62_0000;
const BUFFER_LEN: u64 = 2048;

/// A guest with two queue pairs. The first is the [`Guest`]'s own.
struct Pairs {
    guest: Guest,
    rx: DriverRing,
    tx: DriverRing,
    kick: EventFd,
}

impl Pairs {
    fn connect(socket: &std::path::Path) -> Self {
        let mut guest = Guest::new(MRG_RXBUF | MQ, 64);
        guest.connect(socket);
        guest.fill_rx();
        let [rx, tx] = [RX_RING, TX_RING].map(|base| DriverRing::new(&guest.memory, base, 64));
        let mut pairs = Self { guest, rx, tx, kick: EventFd::new(EFD_NONBLOCK).unwrap() };
        for number in 0..64 {
            pairs.post_rx(number);
        }
        pairs
    }

    fn post_rx(&mut self, number: u16) {
        let addr = RX_BUFFERS + BUFFER_LEN * u64::from(number);
        self.rx.set_desc(number, Desc { addr, len: BUFFER_LEN as u32, flags: WRITE, next: 0 });
        self.rx.put_avail(number);
        self.rx.publish();
    }

    /// Starts the second pair.
    fn start(&mut self) {
        let frontend = &mut self.guest.session.as_mut().unwrap().frontend;
        for (index, ring) in [(2, &self.rx), (3, &self.tx)] {
            frontend.set_vring_num(index, 64).unwrap();
            frontend.set_vring_addr(index, &ring_config(ring)).unwrap();
            frontend.set_vring_base(index, ring.used_idx()).unwrap();
            frontend.set_vring_kick(index, &self.kick).unwrap();
            frontend.set_vring_enable(index, true).unwrap();
        }
    }

    fn stop(&mut self) {
        for (index, ring) in [(2, &self.rx), (3, &self.tx)] {
            let base = self.guest.session.as_mut().unwrap().frontend.get_vring_base(index).unwrap();
            assert_eq!(base, u32::from(ring.used_idx()));
        }
    }

    /// Sends by the second pair.
    fn send(&mut self, frame: &[u8]) {
        self.post(frame);
        let done = wait_for(|| {
            while self.tx.pop_used().is_some() {}
            self.tx.last_used == self.tx.avail_idx
        });
        assert!(done, "the link did not take the frame");
    }

    fn post(&mut self, frame: &[u8]) {
        let number = self.tx.avail_idx % 64;
        let addr = TX_BUFFER + BUFFER_LEN * u64::from(number);
        self.guest.memory.write_slice(&[0; 12], GuestAddress(addr)).unwrap();
        self.guest.memory.write_slice(frame, GuestAddress(addr + 12)).unwrap();
        self.tx.set_desc(number, Desc { addr, len: 12 + frame.len() as u32, flags: 0, next: 0 });
        self.tx.put_avail(number);
        self.tx.publish();
        self.kick.write(1).unwrap();
    }

    /// What came by the second pair.
    fn try_receive(&mut self) -> Option<Vec<u8>> {
        let (id, len) = self.rx.pop_used()?;
        let mut bytes = vec![0; len as usize];
        let addr = RX_BUFFERS + BUFFER_LEN * u64::from(id);
        self.guest.memory.read_slice(&mut bytes, GuestAddress(addr)).unwrap();
        self.post_rx(id as u16);
        Some(bytes.split_off(12))
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut frame = None;
        wait_for(|| {
            frame = frame.take().or_else(|| self.try_receive());
            frame.is_some()
        });
        frame.expect("a frame arrives by the second pair")
    }
}

fn link() -> TestLink {
    TestLink::with(Options { queue_pairs: 2, ..Options::default() })
}

#[test]
fn frames_of_a_pair_go_to_the_same_pair_of_the_other_end() {
    let link = link();
    let mut guest = Pairs::connect(&link.guest_socket());
    let mut netvm = Pairs::connect(&link.netvm_socket());
    guest.start();
    netvm.start();
    for seed in 0..200 {
        let [first, second] = [0, 1].map(|pair| frame(NETVM, GUEST, 60 + pair, seed));
        guest.guest.send(&first);
        guest.send(&second);
        assert_eq!(netvm.guest.receive(), first);
        assert_eq!(netvm.receive(), second);
        let down = frame(GUEST, NETVM, 100, seed);
        netvm.send(&down);
        assert_eq!(guest.receive(), down);
        netvm.guest.fill_rx();
    }
    let report = link.report();
    assert!(report.drops.is_empty(), "{report:?}");
    assert_eq!((report.guest.frames_in, report.guest.frames_out), (400, 200));
}

#[test]
fn end_with_one_pair_and_end_with_two_reach_each_other() {
    let link = link();
    let mut guest = Pairs::connect(&link.guest_socket());
    let mut netvm = Guest::new(MRG_RXBUF, 64);
    netvm.connect(&link.netvm_socket());
    netvm.fill_rx();
    guest.start();
    for seed in 0..30 {
        // Both pairs to the one.
        let up = frame(NETVM, GUEST, 60, seed);
        guest.send(&up);
        assert_eq!(netvm.receive(), up);
        guest.guest.send(&up);
        assert_eq!(netvm.receive(), up);
        // The one to the first.
        let down = frame(GUEST, NETVM, 100, seed);
        netvm.send(&down);
        assert_eq!(guest.guest.receive(), down);
        netvm.fill_rx();
    }
    assert!(guest.try_receive().is_none());
    assert!(link.report().drops.is_empty());
}

#[test]
fn pair_that_comes_and_goes_loses_and_repeats_nothing() {
    let link = link();
    let mut guest = Pairs::connect(&link.guest_socket());
    let mut netvm = Pairs::connect(&link.netvm_socket());
    guest.start();
    for round in 0..40 {
        // Together the rings spread over two workers, apart they gather at one.
        netvm.start();
        let numbered = |number: u8| {
            let mut frame = frame(NETVM, GUEST, 80, round);
            frame[20] = number;
            frame
        };
        for number in 0..20 {
            guest.post(&numbered(number));
            if number == 10 {
                netvm.stop();
            }
        }
        // Those of before came by the second pair, the others by the first, each in order.
        let mut received = Vec::new();
        wait_for(|| {
            while let Some(frame) = netvm.try_receive() {
                received.push(frame);
            }
            while let Some((frame, _)) = netvm.guest.receive_within(Duration::ZERO) {
                received.push(frame);
            }
            received.len() == 20
        });
        received.sort_by_key(|frame| frame[20]);
        assert!(received.iter().zip(0..20).all(|(frame, number)| *frame == numbered(number)));
        assert_eq!(received.len(), 20, "round {round}");
        while guest.tx.pop_used().is_some() {}
        netvm.guest.fill_rx();
    }
    let report = link.report();
    assert!(report.drops.is_empty(), "{report:?}");
    assert_eq!((report.guest.ring_faults, report.netvm.ring_faults), (0, 0));
}
