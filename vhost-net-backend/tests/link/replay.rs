//! The message sequences of the VMMs, replayed byte for byte, and then a frame each way.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use crate::common::guest::{EVENT_IDX, Guest, INDIRECT_DESC, MRG_RXBUF, PROTOCOL, VERSION_1};
use crate::common::link::TestLink;
use crate::common::{GUEST, NETVM, frame};
use crate::raw::{
    ACK, ADD_MEM_REG, GET_CONFIG, GET_FEATURES, GET_MAX_MEM_SLOTS, GET_PROTOCOL_FEATURES,
    GET_QUEUE_NUM, GET_VRING_BASE, PLAIN, RawGuest, SET_BACKEND_REQ_FD, SET_FEATURES,
    SET_MEM_TABLE, SET_OWNER, SET_PROTOCOL_FEATURES, SET_VRING_ADDR, SET_VRING_BASE,
    SET_VRING_CALL, SET_VRING_ENABLE, SET_VRING_ERR, SET_VRING_KICK, SET_VRING_NUM, addresses,
    pair, region,
};

/// Protocol features.
const MQ: u64 = 1;
const REPLY_ACK: u64 = 8;
const BACKEND_REQ: u64 = 0x20;
const CONFIG: u64 = 0x200;
const MEM_SLOTS: u64 = 0x8000;

/// A link with netvm connected, and the guest about to be.
fn link_and_netvm() -> (TestLink, Guest) {
    let link = TestLink::start();
    let mut netvm = Guest::new(MRG_RXBUF | EVENT_IDX, 256);
    netvm.fill_rx();
    netvm.connect(&link.netvm_socket());
    (link, netvm)
}

fn frames_pass(guest: &mut RawGuest, netvm: &mut Guest) {
    for seed in 0..3 {
        let up = frame(NETVM, GUEST, 200, seed);
        guest.transmit(&up);
        assert_eq!(netvm.receive(), up);
        let down = frame(GUEST, NETVM, 300, seed);
        netvm.send(&down);
        assert_eq!(guest.guest.receive(), down);
    }
}

/// What QEMU says before the guest's driver is ready.
fn qemu_start(guest: &mut RawGuest) {
    let raw = &mut guest.raw;
    let offered = raw.ask(GET_FEATURES, PLAIN, &[], &[]);
    assert_eq!(offered & PROTOCOL, PROTOCOL);
    let protocol = raw.ask(GET_PROTOCOL_FEATURES, PLAIN, &[], &[]);
    let wanted = MQ | REPLY_ACK | BACKEND_REQ | MEM_SLOTS;
    assert_eq!(protocol & wanted, wanted);
    raw.send(SET_PROTOCOL_FEATURES, PLAIN, &wanted.to_ne_bytes(), &[]);
    assert!(raw.ask(GET_QUEUE_NUM, PLAIN, &[], &[]) >= 1);
    assert!(raw.ask(GET_MAX_MEM_SLOTS, PLAIN, &[], &[]) >= 8);
    let (channel, _kept) = UnixStream::pair().unwrap();
    assert_eq!(raw.ask(SET_BACKEND_REQ_FD, ACK, &[], &[channel.as_fd()]), 0);
    raw.send(SET_OWNER, PLAIN, &[], &[]);
    raw.ask(GET_FEATURES, PLAIN, &[], &[]);
    for index in 0..2 {
        guest.ring_fd(SET_VRING_CALL, PLAIN, index, &guest.call[index as usize]);
        guest.ring_fd(SET_VRING_ERR, PLAIN, index, &guest.call[index as usize]);
    }
}

/// What QEMU says when the driver is ready, after the early SET_VRING_ENABLE.
fn qemu_driver_ok(guest: &mut RawGuest) {
    let features = guest.guest.features;
    guest.raw.send(SET_FEATURES, PLAIN, &features.to_ne_bytes(), &[]);
    let file = guest.guest.file.try_clone().unwrap();
    assert_eq!(guest.raw.ask(ADD_MEM_REG, ACK, &region(0), &[file.as_fd()]), 0);
    for index in 0..2 {
        let size = guest.ring(index).layout.size;
        guest.raw.send(SET_VRING_NUM, PLAIN, &pair(index, size.into()), &[]);
        let base = guest.ring(index).used_idx();
        guest.raw.send(SET_VRING_BASE, PLAIN, &pair(index, base.into()), &[]);
        guest.raw.send(SET_VRING_ADDR, PLAIN, &addresses(index, guest.ring(index)), &[]);
        guest.ring_fd(SET_VRING_KICK, PLAIN, index, &guest.kick[index as usize]);
        guest.ring_fd(SET_VRING_CALL, PLAIN, index, &guest.call[index as usize]);
    }
}

#[test]
fn qemu_7_enables_rings_before_it_sets_features() {
    let (link, mut netvm) = link_and_netvm();
    let mut guest = Guest::new(MRG_RXBUF | EVENT_IDX | INDIRECT_DESC, 256);
    guest.fill_rx();
    let mut guest = RawGuest::connect(guest, &link.guest_socket());
    qemu_start(&mut guest);
    // Up to five times each, and without a wish for an acknowledgement.
    for _ in 0..5 {
        for index in 0..2 {
            guest.raw.send(SET_VRING_ENABLE, PLAIN, &pair(index, 1), &[]);
        }
    }
    qemu_driver_ok(&mut guest);
    frames_pass(&mut guest, &mut netvm);
    // The guest reboots: rings stop, and start again from zero.
    for index in 0..2 {
        guest.raw.send(SET_VRING_ENABLE, PLAIN, &pair(index, 0), &[]);
        guest.raw.send(GET_VRING_BASE, PLAIN, &pair(index, 0), &[]);
        let (_, body) = guest.raw.reply();
        let expected = pair(index, u32::from(guest.ring(index).used_idx()));
        assert_eq!(body, expected);
    }
    guest.guest.rx.reset();
    guest.guest.tx.reset();
    guest.guest.fill_rx();
    for index in 0..2 {
        guest.raw.send(SET_VRING_ENABLE, PLAIN, &pair(index, 1), &[]);
    }
    let file = guest.guest.file.try_clone().unwrap();
    let removed = crate::raw::REM_MEM_REG;
    assert_eq!(guest.raw.ask(removed, ACK, &region(0), &[file.as_fd()]), 0);
    qemu_driver_ok(&mut guest);
    frames_pass(&mut guest, &mut netvm);
}

#[test]
fn qemu_10_waits_for_the_acknowledgement_of_the_early_enable() {
    let (link, mut netvm) = link_and_netvm();
    let mut guest = Guest::new(MRG_RXBUF | EVENT_IDX | INDIRECT_DESC, 256);
    guest.fill_rx();
    let mut guest = RawGuest::connect(guest, &link.guest_socket());
    qemu_start(&mut guest);
    for index in 0..2 {
        assert_eq!(guest.raw.ask(SET_VRING_ENABLE, ACK, &pair(index, 1), &[]), 0);
    }
    qemu_driver_ok(&mut guest);
    frames_pass(&mut guest, &mut netvm);
}

#[test]
fn cloud_hypervisor_connects_and_reconnects_with_its_base_past_the_receive_buffers() {
    let (link, mut netvm) = link_and_netvm();
    let mut guest = Guest::new(MRG_RXBUF | EVENT_IDX | INDIRECT_DESC, 256);
    guest.fill_rx();
    let mut guest = RawGuest::connect(guest, &link.guest_socket());
    for round in 0..3 {
        let features = guest.guest.features;
        let raw = &mut guest.raw;
        raw.send(SET_OWNER, PLAIN, &[], &[]);
        raw.ask(GET_FEATURES, PLAIN, &[], &[]);
        raw.ask(GET_PROTOCOL_FEATURES, PLAIN, &[], &[]);
        let wanted = MQ | REPLY_ACK | CONFIG | MEM_SLOTS;
        raw.send(SET_PROTOCOL_FEATURES, PLAIN, &wanted.to_ne_bytes(), &[]);
        assert_eq!(raw.ask(GET_QUEUE_NUM, PLAIN, &[], &[]), 2);
        let request = [0_u32.to_ne_bytes(), 17_u32.to_ne_bytes(), [0; 4]].concat();
        raw.send(GET_CONFIG, PLAIN, &[request, vec![0; 17]].concat(), &[]);
        let (_, config) = raw.reply();
        assert_eq!(config[12..18], GUEST.octets());
        assert_eq!(config.len(), 12 + 17);
        // At DRIVER_OK, and everything acknowledged from here on.
        assert_eq!(raw.ask(SET_FEATURES, ACK, &features.to_ne_bytes(), &[]), 0);
        let file = guest.guest.file.try_clone().unwrap();
        assert_eq!(guest.raw.ask(SET_MEM_TABLE, ACK, &region(1), &[file.as_fd()]), 0);
        for index in 0..2 {
            let size = guest.ring(index).layout.size;
            let body = pair(index, size.into());
            assert_eq!(guest.raw.ask(SET_VRING_NUM, ACK, &body, &[]), 0);
        }
        for index in 0..2 {
            let body = addresses(index, guest.ring(index));
            assert_eq!(guest.raw.ask(SET_VRING_ADDR, ACK, &body, &[]), 0);
            // Not the used index: every buffer already offered would be skipped.
            let base = guest.ring(index).avail_idx;
            let body = pair(index, base.into());
            assert_eq!(guest.raw.ask(SET_VRING_BASE, ACK, &body, &[]), 0);
            guest.ring_fd(SET_VRING_CALL, ACK, index, &guest.call[index as usize]);
            assert_eq!(guest.raw.reply().1, [0; 8]);
            guest.ring_fd(SET_VRING_KICK, ACK, index, &guest.kick[index as usize]);
            assert_eq!(guest.raw.reply().1, [0; 8]);
        }
        for index in 0..2 {
            assert_eq!(guest.raw.ask(SET_VRING_ENABLE, ACK, &pair(index, 1), &[]), 0);
        }
        frames_pass(&mut guest, &mut netvm);
        let report = link.report();
        assert_eq!(report.guest.reconnects, round);
        // The old connection is gone before it connects anew.
        let RawGuest { guest: inner, raw, .. } = guest;
        drop(raw);
        guest = RawGuest::connect(inner, &link.guest_socket());
    }
}

#[test]
fn crosvm_reads_its_config_live_and_is_told_of_the_link() {
    let link = TestLink::start();
    let mut guest = Guest::new(EVENT_IDX, 256);
    guest.fill_rx();
    let mut guest = RawGuest::connect(guest, &link.guest_socket());
    let raw = &mut guest.raw;
    raw.send(SET_OWNER, PLAIN, &[], &[]);
    raw.ask(GET_FEATURES, PLAIN, &[], &[]);
    raw.ask(GET_PROTOCOL_FEATURES, PLAIN, &[], &[]);
    let wanted = MQ | CONFIG | BACKEND_REQ | REPLY_ACK;
    raw.send(SET_PROTOCOL_FEATURES, PLAIN, &wanted.to_ne_bytes(), &[]);
    let (channel, mut kept) = UnixStream::pair().unwrap();
    raw.send(SET_BACKEND_REQ_FD, PLAIN, &[], &[channel.as_fd()]);
    drop(channel);
    assert_eq!(raw.ask(GET_QUEUE_NUM, PLAIN, &[], &[]), 2);
    let mac: Vec<u8> = (0..6).flat_map(|at| config(raw, at, 1)).collect();
    assert_eq!(mac, GUEST.octets());
    assert_eq!(config(raw, 6, 2), [0, 0], "netvm is not there yet");
    let features = VERSION_1 | PROTOCOL | EVENT_IDX;
    guest.guest.features = features;
    guest.raw.send(SET_FEATURES, PLAIN, &features.to_ne_bytes(), &[]);
    let file = guest.guest.file.try_clone().unwrap();
    guest.raw.send(SET_MEM_TABLE, PLAIN, &region(1), &[file.as_fd()]);
    for index in 0..2 {
        let size = guest.ring(index).layout.size;
        guest.raw.send(SET_VRING_NUM, PLAIN, &pair(index, size.into()), &[]);
        guest.raw.send(SET_VRING_ADDR, PLAIN, &addresses(index, guest.ring(index)), &[]);
        guest.raw.send(SET_VRING_BASE, PLAIN, &pair(index, 0), &[]);
        guest.ring_fd(SET_VRING_CALL, PLAIN, index, &guest.call[index as usize]);
        guest.ring_fd(SET_VRING_KICK, PLAIN, index, &guest.kick[index as usize]);
        guest.raw.send(SET_VRING_ENABLE, PLAIN, &pair(index, 1), &[]);
    }
    let mut netvm = Guest::new(MRG_RXBUF, 256);
    netvm.fill_rx();
    netvm.connect(&link.netvm_socket());
    frames_pass(&mut guest, &mut netvm);
    // Told that the configuration changed; the link is up now.
    config_changed(&mut kept);
    assert_eq!(config(&mut guest.raw, 6, 2), [1, 0]);
    netvm.disconnect();
    link.report_when(|report| !report.netvm.up);
    config_changed(&mut kept);
    assert_eq!(config(&mut guest.raw, 6, 2), [0, 0]);
}

/// GET_CONFIG as crosvm sends it, for any piece.
fn config(raw: &mut crate::raw::Raw, offset: u32, size: u32) -> Vec<u8> {
    let request = [offset, size, 0].map(u32::to_ne_bytes).concat();
    raw.send(GET_CONFIG, PLAIN, &[request, vec![0; size as usize]].concat(), &[]);
    raw.reply().1.split_off(12)
}

/// At least one VHOST_USER_BACKEND_CONFIG_CHANGE_MSG has come.
fn config_changed(channel: &mut UnixStream) {
    use std::io::Read;
    channel.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    let mut message = [0; 12];
    channel.read_exact(&mut message).unwrap();
    assert_eq!(message, *[2_u32, 1, 0].map(u32::to_ne_bytes).concat());
}
