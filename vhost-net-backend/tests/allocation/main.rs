//! The packet worker asks for no memory while frames flow, whatever it has to do with them. Counted
//! on the worker's own thread, in a link in this process, from the first frame after a short start.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a wrong number or an error fails the test"
)]

#[path = "../common/mod.rs"]
mod common;
mod sys;

use vm_memory::{Bytes, GuestAddress};

use common::driver::{Desc, Driver, DriverRing};
use common::guest::{EVENT_IDX, Guest, INDIRECT_DESC, MRG_RXBUF, wait_for};
use common::link::TestLink;
use common::packed::PackedRing;
use common::{CARD, GUEST, NETVM, frame};

#[global_allocator]
static ALLOCATOR: sys::Counting = sys::Counting;

/// Offloads of a driver that sends (virtio 1.2, 5.1.3).
const CSUM: u64 = 1;
const HOST_TSO4: u64 = 1 << 11;
/// `flags` and `gso_type` of a virtio-net header.
const NEEDS_CSUM: u8 = 1;
const GSO_TCPV4: u8 = 1;

/// Where frames lie that are longer than a driver's usual buffer.
const LONG_BUFFER: u64 = 0x30_0000;
const RING: u16 = 256;
/// Frames between two waits.
const BATCH: u16 = 64;

/// The calls that worker threads of this process have made so far.
fn worker_calls() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let mut workers = 0;
    let calls = tasks.map(|task| {
        let task = task.unwrap();
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if !name.starts_with("worker-") {
            return 0;
        }
        workers += 1;
        sys::calls_of(task.file_name().to_str().unwrap().parse().unwrap()).unwrap_or(0)
    });
    let calls = calls.sum();
    assert_eq!(workers, 1, "one link at a time");
    calls
}

/// A header of 10 bytes with these fields, and a TCP segment of `payload` bytes.
fn tcp(payload: usize, gso_size: u16) -> (Vec<u8>, Vec<u8>) {
    let mut header = vec![NEEDS_CSUM, if gso_size > 0 { GSO_TCPV4 } else { 0 }];
    // Length of the headers, size of a segment, where the checksum starts and is.
    for field in [if gso_size > 0 { 54 } else { 0 }, gso_size, 34, 16_u16] {
        header.extend_from_slice(&field.to_le_bytes());
    }
    let mut bytes = frame(NETVM, GUEST, 54 + payload, 1);
    bytes[23] = 6;
    // The protocol changed from 253 to 6, and the sum with it (RFC 1624).
    let sum = u16::from_be_bytes([bytes[24], bytes[25]]);
    let (sum, carry) = sum.overflowing_add(253 - 6);
    bytes[24..26].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
    bytes[34..54].copy_from_slice(&[
        0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0,
    ]);
    // The sum of the pseudo header is where the checksum will be.
    let length = (20 + payload) as u32;
    let words =
        bytes[26..34].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum = words.sum::<u32>() + 6 + length;
    let sum = (sum & 0xffff) + (sum >> 16);
    bytes[50..52].copy_from_slice(&((sum & 0xffff) + (sum >> 16)).to_be_bytes()[2..]);
    (header, bytes)
}

/// Puts a frame with this header into the transmit ring, in one descriptor.
fn post<R: Driver>(guest: &mut Guest<R>, header: &[u8], frame: &[u8]) {
    guest.memory.write_slice(header, GuestAddress(LONG_BUFFER)).unwrap();
    guest.memory.write_slice(frame, GuestAddress(LONG_BUFFER + 12)).unwrap();
    let desc = Desc { addr: LONG_BUFFER, len: 12 + frame.len() as u32, ..Desc::default() };
    let id = guest.tx.offered() % RING;
    guest.tx.offer(id, &[desc]);
    guest.tx.publish();
}

/// What is sent, and what becomes of it.
struct Case {
    name: &'static str,
    /// Features of the sender, beyond those of the receiver.
    features: u64,
    header: Vec<u8>,
    frame: Vec<u8>,
    /// Bytes in a buffer of the receiver.
    buffer: u32,
    /// Frames and buffers that the receiver gets for each frame sent.
    frames: u64,
    buffers: u16,
}

fn cases() -> Vec<Case> {
    let none = || vec![0; 10];
    let case = |name, features, (header, frame), buffer, frames, buffers| Case {
        name,
        features,
        header,
        frame,
        buffer,
        frames,
        buffers,
    };
    vec![
        case("plain", 0, (none(), frame(NETVM, GUEST, 64, 1)), 2048, 1, 1),
        case("in several buffers", 0, (none(), frame(NETVM, GUEST, 1514, 1)), 600, 1, 3),
        case("checksum in software", CSUM, tcp(1000, 0), 2048, 1, 1),
        case("segments in software", CSUM | HOST_TSO4, tcp(2500, 1000), 2048, 3, 3),
        case("dropped", 0, (none(), frame(NETVM, CARD, 64, 1)), 2048, 0, 0),
    ]
}

#[test]
fn worker_asks_for_no_memory_while_frames_flow() {
    for common in [MRG_RXBUF, MRG_RXBUF | EVENT_IDX | INDIRECT_DESC] {
        for case in cases() {
            check::<DriverRing>(common, &case);
            check::<PackedRing>(common, &case);
        }
    }
}

fn check<R: Driver>(common: u64, case: &Case) {
    let Case { name, features, header, frame, buffer, frames, buffers } = case;
    let link = TestLink::start();
    let (mut guest, mut netvm) =
        (Guest::<R>::create(common | features, RING), Guest::<R>::create(common, RING));
    netvm.rx_buffer_len = *buffer;
    guest.connect(&link.guest_socket());
    netvm.connect(&link.netvm_socket());
    let mut round = || {
        netvm.fill_rx();
        for _ in 0..BATCH {
            post(&mut guest, header, frame);
        }
        guest.kick_tx();
        guest.wait_tx();
        let mut left = BATCH * buffers;
        let arrived = wait_for(|| {
            while left > 0 && netvm.rx.pop_used().is_some() {
                left -= 1;
            }
            left == 0
        });
        assert!(arrived, "{name}: {:?}", link.report());
    };
    for _ in 0..3 {
        round();
    }
    let before = worker_calls();
    assert!(before > 0, "the worker was set up with memory of its own");
    const ROUNDS: u64 = 50;
    for _ in 0..ROUNDS {
        round();
        // Now and then it goes to sleep.
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
    assert_eq!(worker_calls() - before, 0, "{name}");
    let sent = (ROUNDS + 3) * u64::from(BATCH);
    let report = link.report();
    assert_eq!((report.guest.frames_in, report.netvm.frames_out), (sent, sent * frames), "{name}");
}
