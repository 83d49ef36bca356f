//! T47 to T71 of the catalogue of hostile input: what the session gate refuses. After every
//! refusal the session is over, its descriptors are closed, and the next session works.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::SealFlags;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::common::guest::{Guest, MEMORY_LEN, MRG_RXBUF, memfd};
use crate::common::link::{Options, TestLink};
use crate::common::{GUEST, NETVM, frame};
use crate::raw::{
    ACK, ADD_MEM_REG, GET_CONFIG, GET_FEATURES, GET_QUEUE_NUM, GET_VRING_BASE, PLAIN, REM_MEM_REG,
    Raw, SET_BACKEND_REQ_FD, SET_FEATURES, SET_MEM_TABLE, SET_OWNER, SET_PROTOCOL_FEATURES,
    SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_CALL, SET_VRING_ENABLE, SET_VRING_ERR,
    SET_VRING_KICK, SET_VRING_NUM, as_fd, pair, region,
};
use crate::refusal::{negotiated, next_session_works, refused};

fn sealed() -> File {
    memfd(MEMORY_LEN, SealFlags::SHRINK)
}

#[test]
fn t47_headers_that_are_none() {
    let link = TestLink::start();
    let header =
        |code: u32, flags: u32, size: u32| [code, flags, size].map(u32::to_ne_bytes).concat();
    for bytes in [
        header(GET_FEATURES, 0, 0),
        header(GET_FEATURES, 2, 0),
        header(GET_FEATURES, 5, 0),
        header(GET_FEATURES, 0x11, 0),
        header(0, 1, 0),
        header(99, 1, 0),
        header(u32::MAX, 1, 0),
        header(SET_FEATURES, 1, 4097),
        header(SET_FEATURES, 1, u32::MAX),
    ] {
        refused(&link, "header is invalid", |raw| raw.send_bytes(&bytes, &[]));
    }
    next_session_works(&link);
}

#[test]
fn t47_bodies_of_the_wrong_size() {
    let link = TestLink::start();
    for (code, len) in [
        (GET_FEATURES, 8),
        (SET_FEATURES, 0),
        (SET_FEATURES, 7),
        (SET_FEATURES, 16),
        (SET_OWNER, 1),
        (SET_VRING_NUM, 4),
        (SET_VRING_ADDR, 39),
        (SET_VRING_ADDR, 48),
        (GET_CONFIG, 4),
        (SET_MEM_TABLE, 0),
        (ADD_MEM_REG, 8),
    ] {
        let name = "with a body of";
        refused(&link, name, |raw| raw.send(code, PLAIN, &vec![0; len], &[]));
    }
    // A size within that is not that of the rest.
    let body = [[0; 4], 4096_u32.to_ne_bytes(), [0; 4], [0; 4]].concat();
    refused(&link, "with a body of", |raw| raw.send(GET_CONFIG, PLAIN, &body, &[]));
    next_session_works(&link);
}

#[test]
fn t48_half_a_message_then_silence_is_cut_off() {
    let link = TestLink::start();
    let start = Instant::now();
    let mut raw = negotiated(&link);
    raw.stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    raw.half(&[2, 0, 0, 0, 1]);
    // Meanwhile the other end is served.
    let mut netvm = Guest::new(MRG_RXBUF, 64);
    netvm.connect(&link.netvm_socket());
    assert!(raw.is_closed());
    assert!((4..18).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    let report = link.report_when(|report| !report.guest.connected);
    assert!(report.guest.last_error.unwrap().contains("neither finished"));
    netvm.disconnect();
    link.report_when(|report| !report.netvm.connected);
    next_session_works(&link);
}

#[test]
fn t49_descriptors_where_none_belong_and_too_many() {
    let link = TestLink::start();
    let file = sealed();
    let fds = |count| vec![file.as_fd(); count];
    for (code, body, count) in [
        (GET_FEATURES, vec![], 1),
        (SET_FEATURES, vec![0; 8], 1),
        (SET_OWNER, vec![], 32),
        (SET_VRING_NUM, pair(0, 256), 1),
        (SET_VRING_ENABLE, pair(0, 1), 2),
        (SET_VRING_KICK, vec![0; 8], 0),
        (SET_VRING_KICK, vec![0; 8], 2),
        (SET_VRING_CALL, 0x100_u64.to_ne_bytes().to_vec(), 1),
        (SET_MEM_TABLE, region(1), 0),
        (SET_MEM_TABLE, region(1), 2),
        (ADD_MEM_REG, region(0), 0),
        (ADD_MEM_REG, region(0), 2),
        (SET_BACKEND_REQ_FD, vec![], 0),
    ] {
        let reason = " descriptors";
        refused(&link, reason, |raw| raw.send(code, PLAIN, &body, &fds(count)));
    }
    for count in [33, 34, 35, 253] {
        let reason = "more than 32 descriptors";
        refused(&link, reason, |raw| raw.send(SET_OWNER, PLAIN, &[], &fds(count)));
    }
    next_session_works(&link);
}

#[test]
fn t49_descriptors_in_the_middle_of_a_message() {
    let link = TestLink::start();
    let file = sealed();
    // If the link is slow to read the first half, the descriptors seem to belong to it; that
    // message takes none.
    refused(&link, "escriptors", |raw| {
        raw.half(&[SET_OWNER as u8, 0, 0, 0]);
        std::thread::sleep(Duration::from_millis(50));
        raw.send_bytes(&[1, 0, 0, 0, 0, 0, 0, 0], &[file.as_fd()]);
    });
    next_session_works(&link);
}

#[test]
fn t50_ring_sizes_that_are_none() {
    let link = TestLink::start();
    for size in [0, 3, 100, 32769, 65536 + 8, u32::MAX] {
        let reason = format!("Ring size {size} is not a power of two");
        refused(&link, &reason, |raw| raw.send(SET_VRING_NUM, PLAIN, &pair(0, size), &[]));
    }
    let mut raw = negotiated(&link);
    for size in [1, 2, 256, 1024, 32768] {
        assert_eq!(raw.ask(SET_VRING_NUM, ACK, &pair(1, size), &[]), 0);
    }
}

#[test]
fn t51_rings_that_do_not_exist() {
    let link = TestLink::start();
    let eventfd = as_fd(&EventFd::new(EFD_NONBLOCK).unwrap());
    for index in [2, 3, 255, 0xffff, 0x1_0000, u32::MAX] {
        for code in [SET_VRING_NUM, SET_VRING_BASE, GET_VRING_BASE, SET_VRING_ENABLE] {
            refused(&link, "; there are 2", |raw| raw.send(code, PLAIN, &pair(index, 1), &[]));
        }
        let mut body = pair(index, 0);
        body.extend([0; 32]);
        refused(&link, "; there are 2", |raw| raw.send(SET_VRING_ADDR, PLAIN, &body, &[]));
        // Here the index has eight bits, and one beside it has a meaning.
        let body = u64::from(index).to_ne_bytes();
        for code in [SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR] {
            refused(&link, "; there are 2", |raw| {
                raw.send(code, PLAIN, &body, &[eventfd.as_fd()]);
            });
        }
    }
    next_session_works(&link);
}

#[test]
fn t51_rings_of_several_pairs_end_with_the_control_queue() {
    let link = TestLink::with(Options { queue_pairs: 4, ..Options::default() });
    let mut raw = negotiated(&link);
    assert_eq!(raw.ask(GET_QUEUE_NUM, PLAIN, &[], &[]), 9);
    for index in 0..9 {
        assert_eq!(raw.ask(SET_VRING_NUM, ACK, &pair(index, 256), &[]), 0);
        assert_eq!(raw.ask(SET_VRING_BASE, ACK, &pair(index, 5), &[]), 0);
        raw.send(GET_VRING_BASE, PLAIN, &pair(index, 0), &[]);
        assert_eq!(raw.reply().1, pair(index, 5));
    }
    drop(raw);
    link.report_when(|report| !report.guest.connected);
    for index in [9, 10, 16, 17, 255, 0x1_0008, u32::MAX] {
        refused(&link, "; there are 9", |raw| {
            raw.send(SET_VRING_NUM, PLAIN, &pair(index, 256), &[]);
        });
    }
    next_session_works(&link);
}

#[test]
fn several_pairs_are_offered_with_their_control_queue_and_shown() {
    for (queue_pairs, is_offered) in [(1, false), (2, true), (8, true)] {
        let link = TestLink::with(Options { queue_pairs, ..Options::default() });
        let mut raw = negotiated(&link);
        let features = raw.ask(GET_FEATURES, PLAIN, &[], &[]);
        // CTRL_VQ, CTRL_RX, CTRL_VLAN, CTRL_RX_EXTRA, MQ; never GUEST_ANNOUNCE or CTRL_MAC_ADDR.
        assert_eq!(features >> 17 & 0x7f, if is_offered { 0b010_1111 } else { 0 });
        raw.send(
            GET_CONFIG,
            PLAIN,
            &[[8, 2, 0].map(u32::to_ne_bytes).concat(), vec![0; 2]].concat(),
            &[],
        );
        assert_eq!(raw.reply().1[12..], (queue_pairs as u16).to_le_bytes());
    }
}

#[test]
fn t53_ring_base_above_16_bits() {
    let link = TestLink::start();
    for base in [0x1_0000, u32::MAX] {
        let reason = format!("Ring base {base} is above 65535");
        refused(&link, &reason, |raw| raw.send(SET_VRING_BASE, PLAIN, &pair(0, base), &[]));
    }
}

#[test]
fn t52_ring_addresses_outside_memory() {
    let link = TestLink::start();
    let file = sealed();
    for address in [0_u64, 0x1000, u64::MAX - 15] {
        refused(&link, "", |raw| {
            assert_eq!(raw.ask(SET_MEM_TABLE, ACK, &region(1), &[file.as_fd()]), 0);
            let mut body = pair(0, 0);
            body.extend([address; 3].map(u64::to_ne_bytes).concat());
            body.extend([0; 8]);
            raw.send(SET_VRING_ADDR, PLAIN, &body, &[]);
        });
    }
    next_session_works(&link);
}

#[test]
fn t52_ring_addresses_that_are_none() {
    let link = TestLink::start();
    for ([descriptors, used, available], flags, reason) in [
        ([8, 0, 0], 0, "is not 16-byte aligned"),
        ([0, 2, 0], 0, "is not 4-byte aligned"),
        ([0, 0, 1], 0, "is not 2-byte aligned"),
        ([0, 0, 0], 2, "with flags 0x2"),
        ([0, 0, 0], u32::MAX, "with flags 0xffffffff"),
    ] {
        let numbers = [descriptors, used, available, 0].map(|at: u64| (at + 0x1000).to_ne_bytes());
        let body = [pair(0, flags), numbers.concat()].concat();
        refused(&link, reason, |raw| raw.send(SET_VRING_ADDR, PLAIN, &body, &[]));
    }
    next_session_works(&link);
}

/// The body of SET_MEM_TABLE with one region of these numbers.
fn table(guest: u64, size: u64, user: u64, offset: u64) -> Vec<u8> {
    [1, guest, size, user, offset].map(u64::to_ne_bytes).concat()
}

#[test]
fn t54_t55_t56_memory_that_must_not_be_mapped() {
    let link = TestLink::start();
    let file = OwnedFd::from(sealed());
    let unsealed = OwnedFd::from(memfd(MEMORY_LEN, SealFlags::GROW));
    let zero = OwnedFd::from(File::open("/dev/zero").unwrap());
    let directory = OwnedFd::from(File::open("/").unwrap());
    let (pipe, _writer) = rustix::pipe::pipe().unwrap();
    let len = MEMORY_LEN as u64;
    for (fd, (guest, size, user, offset), reason) in [
        (&file, (0, 0, 0, 0), "is empty"),
        (&file, (u64::MAX - 4095, 4097, 0, 0), "wraps"),
        (&file, (0, 4097, u64::MAX - 4095, 0), "wraps"),
        (&file, (0, 4097, 0, u64::MAX - 4095), "wraps"),
        (&file, (0, len + 1, 0, 0), "ends at byte"),
        (&file, (0, len, 0, 4096), "ends at byte"),
        (&file, (0, 1 << 47, 0, 0), "ends at byte"),
        (&unsealed, (0, len, 0, 0), "lacks F_SEAL_SHRINK"),
        (&zero, (0, len, 0, 0), "not a memfd or a regular file"),
        (&directory, (0, len, 0, 0), "not a memfd or a regular file"),
        (&pipe, (0, len, 0, 0), "not a memfd or a regular file"),
    ] {
        let body = table(guest, size, user, offset);
        refused(&link, reason, |raw| raw.send(SET_MEM_TABLE, PLAIN, &body, &[fd.as_fd()]));
        // The same by the other way in, which has padding in front.
        refused(&link, reason, |raw| raw.send(ADD_MEM_REG, PLAIN, &body, &[fd.as_fd()]));
    }
    next_session_works(&link);
}

#[test]
fn t55_unsealed_memory_is_taken_where_that_is_allowed_but_not_short_memory() {
    let link = TestLink::with(Options { unsealed: true, ..Options::default() });
    let unsealed = memfd(MEMORY_LEN, SealFlags::GROW);
    let mut raw = negotiated(&link);
    assert_eq!(raw.ask(SET_MEM_TABLE, ACK, &region(1), &[unsealed.as_fd()]), 0);
    drop(raw);
    let body = table(0, MEMORY_LEN as u64 + 1, 0, 0);
    link.report_when(|report| !report.guest.connected);
    refused(&link, "ends at byte", |raw| {
        raw.send(SET_MEM_TABLE, PLAIN, &body, &[unsealed.as_fd()]);
    });
}

#[test]
fn t58_regions_are_counted() {
    let link = TestLink::start();
    let file = sealed();
    let mut raw = negotiated(&link);
    let add = |at: u64| table(at * 4096, 4096, 0x10_0000_0000 + at * 4096, 0);
    for at in 0..509 {
        assert_eq!(raw.ask(ADD_MEM_REG, ACK, &add(at), &[file.as_fd()]), 0);
    }
    raw.send(ADD_MEM_REG, ACK, &add(509), &[file.as_fd()]);
    assert!(raw.is_closed());
    let report = link.report_when(|report| !report.guest.connected);
    assert!(report.guest.last_error.unwrap().contains("More than 509"));
    next_session_works(&link);
}

#[test]
fn t58_regions_that_are_not_there_cannot_be_removed() {
    let link = TestLink::start();
    let file = sealed();
    let user = 0x10_0000_0000;
    for (guest, size, user) in [(0x1000, 4096, user), (0, 8192, user), (0, 4096, user + 4096)] {
        refused(&link, "There is no memory region", |raw| {
            let added = table(0, 4096, 0x10_0000_0000, 0);
            assert_eq!(raw.ask(ADD_MEM_REG, ACK, &added, &[file.as_fd()]), 0);
            raw.send(REM_MEM_REG, PLAIN, &table(guest, size, user, 0), &[]);
        });
    }
    next_session_works(&link);
}

#[test]
fn t61_t62_event_descriptors_that_are_none() {
    let link = TestLink::start();
    let file = OwnedFd::from(sealed());
    let (pipe, writer) = rustix::pipe::pipe().unwrap();
    let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    let socket = OwnedFd::from(socket);
    for code in [SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR] {
        for fd in [&file, &pipe, &writer, &socket] {
            refused(&link, "not an eventfd", |raw| raw.send(code, PLAIN, &[0; 8], &[fd.as_fd()]));
        }
    }
    next_session_works(&link);
}

#[test]
fn t62_full_call_eventfd_does_not_block_the_link() {
    let link = TestLink::start();
    let (mut guest, mut netvm) = (Guest::new(MRG_RXBUF, 64), Guest::new(MRG_RXBUF, 64));
    netvm.fill_rx();
    guest.fill_rx();
    guest.connect(&link.guest_socket());
    netvm.connect(&link.netvm_socket());
    // An eventfd at its largest value, which the frontend makes blocking after it handed it over.
    let full = EventFd::new(0).unwrap();
    full.write(u64::MAX - 1).unwrap();
    for index in 0..2 {
        guest.session().frontend_call(index, &full);
    }
    let fd = as_fd(&full);
    let flags = rustix::fs::fcntl_getfl(&fd).unwrap();
    assert!(flags.contains(rustix::fs::OFlags::NONBLOCK), "the link made it non-blocking");
    rustix::fs::fcntl_setfl(&fd, flags - rustix::fs::OFlags::NONBLOCK).unwrap();
    for round in 0..10 {
        let up = frame(NETVM, GUEST, 60, round);
        guest.send(&up);
        assert_eq!(netvm.receive(), up);
        let down = frame(GUEST, NETVM, 60, round);
        netvm.send(&down);
        assert_eq!(guest.receive(), down);
    }
}

#[test]
fn t63_features_that_were_not_offered() {
    let link = TestLink::start();
    for features in [1_u64 << 22, 1 << 36, u64::MAX] {
        refused(&link, "", |raw| raw.send(SET_FEATURES, PLAIN, &features.to_ne_bytes(), &[]));
    }
    for features in [1_u64 << 8, 1 << 12, 1 << 63, u64::MAX] {
        let reason = "were not offered";
        refused(&link, reason, |raw| {
            raw.send(SET_PROTOCOL_FEATURES, PLAIN, &features.to_ne_bytes(), &[]);
        });
    }
    next_session_works(&link);
}

#[test]
fn t63_orders_that_make_no_sense_harm_nobody() {
    let link = TestLink::start();
    let eventfd = as_fd(&EventFd::new(EFD_NONBLOCK).unwrap());
    let mut raw = negotiated(&link);
    // Kick before addresses, enable before size, base of a ring that never ran.
    raw.send(SET_VRING_KICK, PLAIN, &[0; 8], &[eventfd.as_fd()]);
    assert_eq!(raw.ask(SET_VRING_ENABLE, ACK, &pair(0, 1), &[]), 0);
    assert_eq!(raw.ask(SET_VRING_BASE, ACK, &pair(1, 77), &[]), 0);
    raw.send(GET_VRING_BASE, PLAIN, &pair(1, 0), &[]);
    assert_eq!(raw.reply().1, pair(1, 77));
    assert!(!link.report().guest.up);
    drop(raw);
    link.report_when(|report| !report.guest.connected);
    next_session_works(&link);
}

#[test]
fn t67_requests_that_are_not_offered() {
    let link = TestLink::start();
    // IOTLB_MSG, SET_VRING_ENDIAN, crypto,
    // postcopy, inflight, GPU, RESET_DEVICE, VRING_KICK, status, shared objects, device state.
    for code in [22, 23, 26, 28, 31, 32, 33, 34, 35, 39, 40, 41, 42, 43, 44] {
        refused(&link, "is not supported", |raw| raw.send(code, PLAIN, &[0; 8], &[]));
    }
    next_session_works(&link);
}

#[test]
fn t69_second_frontend_is_refused_while_the_first_is_live() {
    let link = TestLink::start();
    let (mut guest, mut netvm) = (Guest::new(MRG_RXBUF, 64), Guest::new(MRG_RXBUF, 64));
    netvm.fill_rx();
    guest.connect(&link.guest_socket());
    netvm.connect(&link.netvm_socket());
    for number in 1..=20 {
        let mut second = Raw::connect(&link.guest_socket());
        assert!(second.is_closed());
        assert_eq!(link.report().guest.refused, number);
    }
    let sent = frame(NETVM, GUEST, 60, 1);
    guest.send(&sent);
    assert_eq!(netvm.receive(), sent);
    assert_eq!(link.report().guest.reconnects, 0);
}

#[test]
fn t69_frontend_of_another_user_is_refused() {
    let other = rustix::process::geteuid().as_raw() + 1;
    let link = TestLink::with(Options { guest_uid: Some(other), ..Options::default() });
    let mut raw = Raw::connect(&link.guest_socket());
    assert!(raw.is_closed());
    let report = link.report();
    assert_eq!((report.guest.refused, report.guest.connected), (1, false));
}

#[test]
fn t70_disconnect_at_every_byte_of_a_handshake() {
    let link = TestLink::start();
    let messages: Vec<Vec<u8>> = [
        (SET_OWNER, vec![]),
        (SET_PROTOCOL_FEATURES, 0x8209_u64.to_ne_bytes().to_vec()),
        (SET_VRING_ENABLE, pair(0, 1)),
        (SET_FEATURES, 0x1_4000_0000_u64.to_ne_bytes().to_vec()),
        (SET_VRING_NUM, pair(0, 256)),
        (SET_VRING_BASE, pair(0, 0)),
        (SET_VRING_ENABLE, pair(1, 1)),
    ]
    .into_iter()
    .map(|(code, body)| {
        let header = [code, PLAIN, body.len() as u32].map(u32::to_ne_bytes).concat();
        [header, body].concat()
    })
    .collect();
    let bytes = messages.concat();
    for len in 0..bytes.len() {
        let mut raw = Raw::connect(&link.guest_socket());
        raw.half(&bytes[..len]);
        drop(raw);
        link.report_when(|report| !report.guest.connected && report.guest.reconnects == len as u64);
    }
    next_session_works(&link);
}
