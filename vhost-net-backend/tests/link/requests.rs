//! T64 to T66 of the catalogue of hostile input: requests about the configuration space, the MTU,
//! announcements, and the channel on which the link asks its frontend.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::common::guest::{Guest, MRG_RXBUF};
use crate::common::link::{Options, TestLink};
use crate::common::{CARD, GUEST, NETVM, frame};
use crate::raw::{
    ACK, GET_CONFIG, NET_SET_MTU, PLAIN, Raw, SEND_RARP, SET_BACKEND_REQ_FD, SET_CONFIG,
    SET_PROTOCOL_FEATURES,
};
use crate::refusal::{negotiated, next_session_works, refused};

/// The body of GET_CONFIG or SET_CONFIG, whose bytes are all 9.
fn config(offset: u32, size: u32, bytes: usize) -> Vec<u8> {
    [[offset, size, 0].map(u32::to_ne_bytes).concat(), vec![9; bytes]].concat()
}

#[test]
fn t64_configuration_space_beyond_its_end() {
    let link = TestLink::start();
    for (offset, size) in [(u32::MAX, 1), (u32::MAX, 16), (256, 1), (250, 7), (0, 257), (0, 0)] {
        for code in [GET_CONFIG, SET_CONFIG] {
            refused(&link, "not in a configuration space", |raw| {
                raw.send(code, PLAIN, &config(offset, size, size as usize), &[]);
            });
        }
    }
    for size in [u32::MAX, 256, 1 << 31] {
        refused(&link, "with a body of", |raw| {
            raw.send(GET_CONFIG, PLAIN, &config(0, size, 4), &[]);
        });
    }
    next_session_works(&link);
}

#[test]
fn t64_writes_to_the_configuration_space_change_nothing() {
    let link = TestLink::start();
    let mut raw = negotiated(&link);
    raw.send(GET_CONFIG, PLAIN, &config(0, 256, 256), &[]);
    let before = raw.reply().1;
    assert_eq!(before[12..18], GUEST.octets());
    for (offset, size) in [(0, 6), (0, 256), (10, 2), (255, 1)] {
        let body = config(offset, size, size as usize);
        assert_eq!(raw.ask(SET_CONFIG, ACK, &body, &[]), 0);
    }
    raw.send(GET_CONFIG, PLAIN, &config(0, 256, 256), &[]);
    assert_eq!(raw.reply().1, before);
}

#[test]
fn t65_mtu_that_the_link_does_not_carry() {
    let link = TestLink::start();
    for mtu in [0, 67, 1501, 65535, 0x1_05dc, u64::MAX] {
        let reason = format!("MTU {mtu} is not from 68 to 1500");
        refused(&link, &reason, |raw| raw.send(NET_SET_MTU, PLAIN, &mtu.to_ne_bytes(), &[]));
    }
    let mut raw = negotiated(&link);
    for mtu in [68_u64, 1280, 1500] {
        assert_eq!(raw.ask(NET_SET_MTU, ACK, &mtu.to_ne_bytes(), &[]), 0);
    }
}

/// The body of SEND_RARP.
fn announced(octets: [u8; 6]) -> Vec<u8> {
    [octets.as_slice(), &[0, 0]].concat()
}

#[test]
fn t65_announcement_for_somebody_else() {
    let link = TestLink::start();
    let mut netvm = Guest::new(MRG_RXBUF, 64);
    netvm.fill_rx();
    netvm.connect(&link.netvm_socket());
    for octets in [NETVM.octets(), CARD.octets(), [0; 6], [0xff; 6], [2, 0, 0, 0, 0, 9]] {
        refused(&link, "An announcement for", |raw| {
            raw.send(SEND_RARP, PLAIN, &announced(octets), &[]);
        });
    }
    assert!(netvm.receive_within(Duration::from_millis(20)).is_none());
}

#[test]
fn t65_requests_need_their_features() {
    let link = TestLink::start();
    for (code, body) in
        [(NET_SET_MTU, 1500_u64.to_ne_bytes().to_vec()), (SEND_RARP, announced(GUEST.octets()))]
    {
        refused(&link, "without the feature it needs", |raw| {
            raw.send(SET_PROTOCOL_FEATURES, PLAIN, &0x8209_u64.to_ne_bytes(), &[]);
            raw.send(code, PLAIN, &body, &[]);
        });
    }
}

#[test]
fn guest_that_moved_here_is_announced_to_the_other_end() {
    let link = TestLink::start();
    let mut netvm = Guest::new(MRG_RXBUF, 64);
    netvm.connect(&link.netvm_socket());
    let mut raw = negotiated(&link);
    let own = announced(GUEST.octets());
    // Lost like any frame while the other end takes none.
    assert_eq!(raw.ask(SEND_RARP, ACK, &own, &[]), 0);
    assert_eq!(link.drops("no-rx-buffer"), 1);
    netvm.fill_rx();
    for _ in 0..3 {
        // QEMU does not ask for an acknowledgement.
        raw.send(SEND_RARP, PLAIN, &own, &[]);
        let frame = netvm.receive();
        assert_eq!(frame.len(), 60);
        assert_eq!(frame[..6], [0xff; 6]);
        assert_eq!(frame[6..12], GUEST.octets());
        assert_eq!(frame[12..14], [0x80, 0x35]);
        assert_eq!(frame[22..28], GUEST.octets());
    }
    let report = link.report();
    assert_eq!((report.netvm.frames_out, report.guest.frames_in), (3, 0));
}

#[test]
fn t66_each_new_channel_closes_the_one_before() {
    let link = TestLink::start();
    let mut raw = with_channel(&link);
    let mut last = None;
    for _ in 0..1000 {
        let (channel, kept) = UnixStream::pair().unwrap();
        assert_eq!(raw.ask(SET_BACKEND_REQ_FD, ACK, &[], &[channel.as_fd()]), 0);
        drop(channel);
        if let Some(mut before) = last.replace(kept) {
            assert_closed(&mut before);
        }
    }
    drop(raw);
    link.report_when(|report| !report.guest.connected);
    // The session takes its channel with it.
    assert_closed(&mut last.unwrap());
}

#[test]
fn t66_channel_whose_peer_never_reads_blocks_nobody() {
    let link = TestLink::with(Options::default());
    let mut raw = with_channel(&link);
    let (mut channel, _kept) = UnixStream::pair().unwrap();
    assert_eq!(raw.ask(SET_BACKEND_REQ_FD, ACK, &[], &[channel.as_fd()]), 0);
    // Full from the start.
    channel.set_nonblocking(true).unwrap();
    let full = loop {
        if let Err(error) = channel.write(&[0; 4096]) {
            break error.kind();
        }
    };
    assert_eq!(full, ErrorKind::WouldBlock);
    // And blocking, which the frontend can make it at any time: the flags are shared.
    channel.set_nonblocking(false).unwrap();
    for round in 0..20 {
        let mut netvm = Guest::new(MRG_RXBUF, 64);
        netvm.fill_rx();
        netvm.connect(&link.netvm_socket());
        link.report_when(|report| report.netvm.up);
        netvm.send(&frame(GUEST, NETVM, 60, round));
        netvm.disconnect();
        link.report_when(|report| !report.netvm.connected);
    }
    assert_eq!(raw.ask(NET_SET_MTU, ACK, &1500_u64.to_ne_bytes(), &[]), 0);
}

/// As [`negotiated`], with a channel for requests of the link.
fn with_channel(link: &TestLink) -> Raw {
    let raw = negotiated(link);
    let features = 0x20_u64 | 0x8 | 0x10;
    raw.send(SET_PROTOCOL_FEATURES, PLAIN, &features.to_ne_bytes(), &[]);
    raw
}

/// The link has closed a channel; at most it has told of changes before.
fn assert_closed(channel: &mut UnixStream) {
    channel.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut told = Vec::new();
    assert_eq!(channel.read_to_end(&mut told).unwrap() % 12, 0);
}
