//! The dirty page log, with which a guest migrates away; T59 of the catalogue of hostile input.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::SealFlags;
use vhost::VhostBackend;
use vhost::{VhostUserDirtyLogRegion, VringConfigData};
use vhost_net_backend::datapath::log::DirtyLog;
use vhost_net_backend::datapath::memory::Memory;
use vhost_net_backend::datapath::ring::chain::Chains;
use vhost_net_backend::datapath::ring::packed::PackedRing;
use vhost_net_backend::datapath::ring::{Direction, Ring, RingLayout, RingUse};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::common::driver::{Driver, DriverRing};
use crate::common::guest::{Guest, LOG_ALL, MEMORY_LEN, MRG_RXBUF, memfd, ring_config, wait_for};
use crate::common::link::{Options, TestLink};
use crate::common::{GUEST, NETVM, frame};
use crate::pair as linked_pair;
use crate::raw::{
    ACK, ADD_MEM_REG, GET_FEATURES, PLAIN, Raw, SET_FEATURES, SET_LOG_BASE, SET_LOG_FD,
    SET_MEM_TABLE, SET_PROTOCOL_FEATURES, as_fd, region,
};
use crate::refusal::{negotiated, next_session_works, refused};

const PAGE: usize = 4096;
/// Bytes of a log with a bit for each page of a test's guest, and not one more.
pub const LOG_LEN: usize = MEMORY_LEN / PAGE / 8;

pub fn log_file(len: usize) -> File {
    memfd(len, SealFlags::SHRINK | SealFlags::GROW)
}

/// Pages marked in a log.
pub fn marked(log: &File) -> BTreeSet<usize> {
    let mut bytes = [0; LOG_LEN];
    log.read_exact_at(&mut bytes, 0).unwrap();
    (0..LOG_LEN * 8).filter(|page| bytes[page / 8] >> (page % 8) & 1 == 1).collect()
}

fn memory(guest: &Guest) -> Vec<u8> {
    let mut bytes = vec![0; MEMORY_LEN];
    guest.file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Pages in which two states of a memory differ.
fn changed(before: &[u8], after: &[u8]) -> BTreeSet<usize> {
    let pages = before.chunks(PAGE).zip(after.chunks(PAGE)).enumerate();
    pages.filter(|(_, (before, after))| before != after).map(|(page, _)| page).collect()
}

pub fn set_log_base<R: Driver>(guest: &mut Guest<R>, log: &File) {
    let region = VhostUserDirtyLogRegion {
        mmap_size: LOG_LEN as u64,
        mmap_offset: 0,
        mmap_handle: log.as_raw_fd(),
    };
    guest.session().frontend.set_log_base(0, Some(region)).unwrap();
}

/// Turns logging on or off, with what cloud-hypervisor says for it.
fn set_logging(guest: &mut Guest, on: bool) {
    let features = guest.features | if on { LOG_ALL } else { 0 };
    let logged = |ring: &DriverRing| VringConfigData {
        flags: u32::from(on),
        log_addr: on.then_some(ring.layout.used),
        ..ring_config(ring)
    };
    let configs = [logged(&guest.rx), logged(&guest.tx)];
    let frontend = &guest.session().frontend;
    frontend.set_features(features).unwrap();
    for (index, config) in configs.iter().enumerate() {
        frontend.set_vring_addr(index, config).unwrap();
    }
}

/// Frames both ways; returns the pages of the guest's memory that the link changed.
fn traffic(guest: &mut Guest, netvm: &mut Guest, seed: u8) -> BTreeSet<usize> {
    // All that the driver writes is written before the first look at the memory, by a link that
    // sleeps, and so does not see it.
    assert!(wait_for(|| guest.tx.used_flags() == 0));
    // It asked for kicks, but looks once more before it sleeps.
    std::thread::sleep(Duration::from_millis(20));
    for number in 0..8 {
        guest.post(&frame(NETVM, GUEST, 100 + number, seed));
    }
    let before = memory(guest);
    guest.kick_tx();
    for number in 0..8 {
        assert_eq!(netvm.receive(), frame(NETVM, GUEST, 100 + number, seed));
        let down = frame(GUEST, NETVM, 1500, seed.wrapping_add(number as u8 + 1));
        netvm.send(&down);
        assert_eq!(guest.receive(), down);
    }
    guest.wait_tx();
    // Asking for kicks is the last thing the link writes.
    assert!(wait_for(|| guest.tx.used_flags() == 0));
    let changed = changed(&before, &memory(guest));
    guest.fill_rx();
    netvm.fill_rx();
    changed
}

#[test]
fn logged_memory_holds_every_page_written_and_none_when_off() {
    let (_link, mut guest, mut netvm) = linked_pair(MRG_RXBUF, 64);
    let log = log_file(LOG_LEN);
    set_log_base(&mut guest, &log);
    traffic(&mut guest, &mut netvm, 1);
    assert_eq!(marked(&log), BTreeSet::new(), "the log is there, but logging is not on");

    set_logging(&mut guest, true);
    let written = traffic(&mut guest, &mut netvm, 100);
    let used_rings = [&guest.rx, &guest.tx].map(|ring| ring.layout.used as usize / PAGE);
    assert!(used_rings.iter().all(|page| written.contains(page)));
    assert!(written.len() >= 2 + 8 * 1500 / PAGE, "{written:?}");
    let marks = marked(&log);
    assert!(marks.is_superset(&written), "{:?} unmarked", written.difference(&marks));
    // Nothing else: 64 receive buffers of 2048 bytes, and the rings.
    let rings_and_buffers =
        |page: &usize| used_rings.contains(page) || (0x400..0x420).contains(page);
    assert!(marks.iter().all(rings_and_buffers), "{marks:?}");

    set_logging(&mut guest, false);
    log.write_all_at(&[0; LOG_LEN], 0).unwrap();
    assert!(!traffic(&mut guest, &mut netvm, 50).is_empty());
    assert_eq!(marked(&log), BTreeSet::new(), "logging is off");
}

#[test]
fn logging_that_is_on_begins_with_the_log() {
    let (_link, mut guest, mut netvm) = linked_pair(MRG_RXBUF, 64);
    set_logging(&mut guest, true);
    traffic(&mut guest, &mut netvm, 1);
    let log = log_file(LOG_LEN);
    set_log_base(&mut guest, &log);
    let written = traffic(&mut guest, &mut netvm, 100);
    assert!(marked(&log).is_superset(&written));
}

#[test]
fn log_of_one_end_has_nothing_of_the_other() {
    let (link, mut guest, mut netvm) = linked_pair(MRG_RXBUF, 64);
    let log = log_file(LOG_LEN);
    set_log_base(&mut netvm, &log);
    set_logging(&mut netvm, true);
    // netvm reads its transmit ring, so only the used rings and its receive buffers are written.
    let before = memory(&netvm);
    guest.send(&frame(NETVM, GUEST, 100, 1));
    netvm.receive();
    let written = changed(&before, &memory(&netvm));
    assert!(!written.is_empty());
    assert!(marked(&log).is_superset(&written));
    netvm.disconnect();
    link.report_when(|report| !report.netvm.connected);
    guest.send(&frame(NETVM, GUEST, 100, 2));
    let marks = marked(&log);
    guest.send(&frame(NETVM, GUEST, 100, 3));
    assert_eq!(marked(&log), marks, "with the session the log is gone");
}

#[test]
fn t59_log_replaced_under_traffic_is_not_touched_again() {
    let (link, mut guest, mut netvm) = linked_pair(MRG_RXBUF, 64);
    let mut log = log_file(LOG_LEN);
    set_log_base(&mut guest, &log);
    set_logging(&mut guest, true);
    for round in 0..50_u8 {
        let before = memory(&guest);
        for number in 0..8 {
            netvm.post(&frame(GUEST, NETVM, 1500, round.wrapping_add(number)));
        }
        netvm.kick_tx();
        let next = log_file(LOG_LEN);
        set_log_base(&mut guest, &next);
        let first = marked(&log);
        netvm.wait_tx();
        for _ in 0..8 {
            guest.receive();
        }
        assert_eq!(marked(&log), first, "the old log is as it was when the new one was taken");
        let written = changed(&before, &memory(&guest));
        let marks: BTreeSet<_> = first.union(&marked(&next)).copied().collect();
        assert!(marks.is_superset(&written), "no page falls between two logs");
        guest.fill_rx();
        log = next;
    }
    assert_eq!(link.report().guest.ring_faults, 0);
}

/// The body of SET_LOG_BASE.
fn place(size: u64, offset: u64) -> Vec<u8> {
    [size, offset].map(u64::to_ne_bytes).concat()
}

#[test]
fn t59_logs_that_are_none() {
    let link = TestLink::start();
    let log = OwnedFd::from(log_file(LOG_LEN));
    let unsealed = OwnedFd::from(memfd(LOG_LEN, SealFlags::GROW));
    let zero = OwnedFd::from(File::open("/dev/zero").unwrap());
    let (pipe, _writer) = rustix::pipe::pipe().unwrap();
    let len = LOG_LEN as u64;
    for (fd, (size, offset), reason) in [
        (&log, (0, 0), "is empty"),
        (&log, (u64::MAX, 4096), "overflow"),
        (&log, (len, u64::MAX), "overflow"),
        (&log, (len + 1, 0), "ends at byte"),
        (&log, (len, 4096), "ends at byte"),
        (&log, (1 << 62, 0), "ends at byte"),
        (&log, (1, 1), "cannot be mapped"),
        (&unsealed, (len, 0), "lacks F_SEAL_SHRINK"),
        (&zero, (len, 0), "not a memfd or a regular file"),
        (&pipe, (len, 0), "not a memfd or a regular file"),
    ] {
        refused(&link, reason, |raw| {
            raw.send(SET_LOG_BASE, PLAIN, &place(size, offset), &[fd.as_fd()]);
        });
    }
    for (body, count, reason) in [
        (place(len, 0), 0, "with 0 descriptors"),
        (place(len, 0), 2, "with 2 descriptors"),
        (vec![0; 8], 1, "with a body of 8 bytes"),
    ] {
        refused(&link, reason, |raw| {
            raw.send(SET_LOG_BASE, PLAIN, &body, &vec![log.as_fd(); count]);
        });
    }
    next_session_works(&link);
}

#[test]
fn t59_log_made_shorter_cannot_be_where_seals_are_required() {
    let link = TestLink::with(Options { unsealed: true, ..Options::default() });
    let log = memfd(LOG_LEN, SealFlags::GROW);
    let mut raw = negotiated(&link);
    raw.send(SET_LOG_BASE, PLAIN, &place(LOG_LEN as u64, 0), &[log.as_fd()]);
    assert_eq!(raw.reply(), (SET_LOG_BASE, place(LOG_LEN as u64, 0)));
    // Such a frontend is trusted with the link's life, and only where the operator said so; a
    // sealed one has no way to do this.
    assert!(log_file(LOG_LEN).set_len(0).is_err());
}

#[test]
fn t59_log_needs_its_feature() {
    let link = TestLink::start();
    let log = log_file(LOG_LEN);
    refused(&link, "without the feature it needs", |raw| {
        raw.send(SET_PROTOCOL_FEATURES, PLAIN, &0x8209_u64.to_ne_bytes(), &[]);
        raw.send(SET_LOG_BASE, PLAIN, &place(LOG_LEN as u64, 0), &[log.as_fd()]);
    });
    next_session_works(&link);
}

/// SET_FEATURES with everything offered, and so with LOG_ALL.
fn turn_on(raw: &mut Raw) {
    let features = raw.ask(GET_FEATURES, PLAIN, &[], &[]);
    assert_eq!(features & LOG_ALL, LOG_ALL);
    raw.send(SET_FEATURES, PLAIN, &features.to_ne_bytes(), &[]);
}

#[test]
fn t59_log_shorter_than_the_guests_memory() {
    let link = TestLink::start();
    let file = memfd(MEMORY_LEN, SealFlags::SHRINK);
    let log = log_file(LOG_LEN);
    let reason = "has no bits for the memory region";
    let short = place(LOG_LEN as u64 - 1, 0);
    let exact = place(LOG_LEN as u64, 0);
    let give = |raw: &mut Raw, body: &[u8]| {
        raw.send(SET_LOG_BASE, PLAIN, body, &[log.as_fd()]);
        assert_eq!(raw.reply().1, body);
    };
    // The memory is there before the log.
    refused(&link, reason, |raw| {
        assert_eq!(raw.ask(SET_MEM_TABLE, ACK, &region(1), &[file.as_fd()]), 0);
        raw.send(SET_LOG_BASE, PLAIN, &short, &[log.as_fd()]);
    });
    // The log is there before the memory, and then logging begins.
    refused(&link, reason, |raw| {
        give(raw, &short);
        assert_eq!(raw.ask(SET_MEM_TABLE, ACK, &region(1), &[file.as_fd()]), 0);
        turn_on(raw);
    });
    // Memory is added while logging is on.
    let more = [0_u64, MEMORY_LEN as u64, 4096, 0x1000_0000, 0].map(u64::to_ne_bytes).concat();
    for (code, body) in [
        (ADD_MEM_REG, &more),
        (SET_MEM_TABLE, &{
            let mut table = more.clone();
            table[0] = 1;
            table
        }),
    ] {
        refused(&link, reason, |raw| {
            assert_eq!(raw.ask(SET_MEM_TABLE, ACK, &region(1), &[file.as_fd()]), 0);
            give(raw, &exact);
            turn_on(raw);
            raw.send(code, PLAIN, body, &[file.as_fd()]);
        });
    }
    // Without logging, a log that is left over does not stand in the way of more memory.
    let mut raw = negotiated(&link);
    assert_eq!(raw.ask(SET_MEM_TABLE, ACK, &region(1), &[file.as_fd()]), 0);
    give(&mut raw, &exact);
    turn_on(&mut raw);
    let off = raw.ask(GET_FEATURES, PLAIN, &[], &[]) & !LOG_ALL;
    assert_eq!(raw.ask(SET_FEATURES, ACK, &off.to_ne_bytes(), &[]), 0);
    assert_eq!(raw.ask(ADD_MEM_REG, ACK, &more, &[file.as_fd()]), 0);
    drop(raw);
    link.report_when(|report| !report.guest.connected);
    next_session_works(&link);
}

#[test]
fn t59_log_eventfd_is_taken_and_must_be_one() {
    let link = TestLink::start();
    let file = log_file(LOG_LEN);
    refused(&link, "not an eventfd", |raw| {
        raw.send(SET_LOG_FD, PLAIN, &[], &[file.as_fd()]);
    });
    let mut raw = negotiated(&link);
    let eventfd = as_fd(&EventFd::new(EFD_NONBLOCK).unwrap());
    assert_eq!(raw.ask(SET_LOG_FD, ACK, &[], &[eventfd.as_fd()]), 0);
}

#[test]
fn page_of_a_packed_ring_is_marked_when_it_is_written_and_not_before() {
    let guest = Guest::new(0, 16);
    let file = log_file(LOG_LEN);
    let log = DirtyLog::map(file.try_clone().unwrap(), 0, LOG_LEN as u64, false).unwrap();
    let memory = Memory::new(&guest.memory, Some(Arc::new(log)));
    // One available buffer of 64 bytes, with id 7, in a page of its own.
    let layout = RingLayout { size: 4, descriptors: 0x3000, available: 0x4000, used: 0x4010 };
    let rest = 64_u64 | 7 << 32 | (1 << 7 | 2) << 48;
    guest.memory.write_obj(0x10_0000_u64, GuestAddress(0x3000)).unwrap();
    guest.memory.write_obj(rest, GuestAddress(0x3008)).unwrap();
    let usage = RingUse { direction: Direction::Write, indirect: false, event_idx: false };
    let mut ring = PackedRing::start(&memory, layout, usage, 0x8000).unwrap();
    let mut chains = Chains::default();
    ring.take(&memory, &mut chains, 1).unwrap();
    ring.push_used(&memory, chains.get(0).unwrap(), 64).unwrap();
    let held: u64 = guest.memory.read_obj(GuestAddress(0x3008)).unwrap();
    assert_eq!((held, marked(&file)), (rest, BTreeSet::new()), "the first is held back");
    ring.publish(&memory).unwrap();
    let used: u64 = guest.memory.read_obj(GuestAddress(0x3008)).unwrap();
    assert_eq!(used >> 48, 1 << 7 | 1 << 15 | 2);
    assert_eq!(marked(&file), BTreeSet::from([3]));
}
