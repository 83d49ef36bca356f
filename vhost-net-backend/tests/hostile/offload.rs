//! T36 to T46: headers that lie about their frames, through a whole link. What a header may claim of
//! which frame is tested where it is decided, in `datapath::offload`.

use std::net::Ipv4Addr;
use std::time::Duration;

use etherparse::{SlicedPacket, TransportSlice};
use netvm_bench::frame::{Station, TCP_HEADERS, tcp_gso, udp};
use vhost_net_backend::datapath::offload::feature;
use vm_memory::{Bytes, GuestAddress};

use crate::common::driver::{Desc, Driver};
use crate::common::guest::{Guest, MRG_RXBUF, wait_for};
use crate::common::{GUEST, GUEST_ADDRESS, NETVM, frame, on_both};
use crate::oracle::{Ends, send_chain};

on_both! {
    t36_checksum_outside_the_frame,
    t37_checksum_over_what_the_frame_rules_have_judged,
    t38_types_that_do_not_exist_or_were_not_negotiated,
    t39_segments_of_sizes_that_cannot_be,
    t40_segmentation_without_a_checksum,
    t41_t44_t46_what_means_nothing_is_made_anew,
    t42_frames_that_are_not_what_the_header_says,
    t43_long_frame_that_is_not_to_be_segmented,
    t45_receiver_without_offloads_gets_finished_segments,
    t45_segments_without_a_buffer_are_each_dropped_and_counted,
    t45_segments_longer_than_the_buffers_are_each_dropped_and_counted,
}

/// Where the guest has its frame: it is longer than a transmit buffer.
const BUFFER: u64 = 0x30_0000;
const SENDER: Station = Station { mac: GUEST.octets(), ip: GUEST_ADDRESS };
const RECEIVER: Station = Station { mac: NETVM.octets(), ip: Ipv4Addr::new(100, 64, 0, 1) };
const TCPV4: u8 = 1;
const TCPV6: u8 = 4;
const UDP_L4: u8 = 5;
/// Where the transport header is, and a checksum in it.
const TRANSPORT: u16 = 34;
const UDP_CHECKSUM: u16 = 6;
const TCP_CHECKSUM: u16 = 16;

/// The fields of a virtio-net header that a driver writes.
#[derive(Clone, Copy)]
struct Header {
    flags: u8,
    gso_type: u8,
    hdr_len: u16,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
    num_buffers: u16,
}

impl Header {
    const fn checksum(start: u16, offset: u16) -> Self {
        Self {
            flags: 1,
            gso_type: 0,
            hdr_len: 0,
            gso_size: 0,
            csum_start: start,
            csum_offset: offset,
            num_buffers: 0,
        }
    }

    /// What is true of the frame of [`tcp_gso`].
    const fn tcp() -> Self {
        let checksum = Self::checksum(TRANSPORT, TCP_CHECKSUM);
        Self { gso_type: TCPV4, hdr_len: TCP_HEADERS as u16, gso_size: 1460, ..checksum }
    }

    fn bytes(self) -> Vec<u8> {
        let numbers =
            [self.hdr_len, self.gso_size, self.csum_start, self.csum_offset, self.num_buffers];
        [vec![self.flags, self.gso_type], numbers.map(u16::to_le_bytes).concat()].concat()
    }
}

/// The guest may claim anything but UDP segments; netvm has `features`.
fn ends<R: Driver>(features: u64) -> Ends<R> {
    let claims = feature::CSUM | feature::HOST_TSO4 | feature::HOST_TSO6;
    Ends::with(Guest::create(MRG_RXBUF | claims, 64), Guest::create(MRG_RXBUF | features, 64))
}

fn send<R: Driver>(guest: &mut Guest<R>, header: Header, frame: &[u8]) {
    let bytes = [header.bytes(), frame.to_vec()].concat();
    guest.memory.write_slice(&bytes, GuestAddress(BUFFER)).unwrap();
    let len = bytes.len() as u32;
    send_chain(guest, 9, &[Desc { addr: BUFFER, len, ..Desc::default() }]);
}

/// Each frame is dropped for its reason, and nothing of it arrives; neither does it stop anything.
fn all_are_dropped<R: Driver>(cases: Vec<(Header, Vec<u8>, &str)>) {
    let mut ends = ends::<R>(0);
    for (number, (header, frame, reason)) in cases.into_iter().enumerate() {
        let before = ends.link.drops(reason);
        send(&mut ends.guest, header, &frame);
        assert!(ends.netvm.receive_within(Duration::ZERO).is_none());
        assert_eq!(ends.link.drops(reason), before + 1, "{reason}, case {number}");
        ends.up_works();
    }
    ends.all_is_well();
}

fn t36_checksum_outside_the_frame<R: Driver>() {
    let frame = udp(SENDER, RECEIVER, 100);
    let places = [(0xffff, 6), (TRANSPORT, 0xffff), (0xffff, 0xffff), (100, 0), (99, 6), (93, 6)];
    all_are_dropped::<R>(
        places
            .map(|(start, offset)| {
                (Header::checksum(start, offset), frame.clone(), "checksum-place")
            })
            .to_vec(),
    );
}

fn t37_checksum_over_what_the_frame_rules_have_judged<R: Driver>() {
    let frame = udp(SENDER, RECEIVER, 100);
    // MAC addresses, ethertype, length, protocol, addresses, ports, UDP length.
    let places = [(0, 0), (0, 6), (6, 6), (14, 2), (14, 9), (14, 12), (14, 16), (34, 0), (34, 4)];
    all_are_dropped::<R>(
        places
            .map(|(start, offset)| {
                (Header::checksum(start, offset), frame.clone(), "checksum-place")
            })
            .to_vec(),
    );
}

fn t38_types_that_do_not_exist_or_were_not_negotiated<R: Driver>() {
    let (_, frame) = tcp_gso(SENDER, RECEIVER);
    let types = [
        (2, "gso-type"),
        (3, "gso-type"),
        (6, "gso-type"),
        (0x7f, "gso-type"),
        (0x80, "gso-type"),
        (0x85, "gso-type"),
        (0xff, "gso-type"),
        (UDP_L4, "header-offload"),
        (0x80 | TCPV4, "header-offload"),
        (0x80 | TCPV6, "header-offload"),
    ];
    all_are_dropped::<R>(
        types
            .map(|(gso_type, reason)| (Header { gso_type, ..Header::tcp() }, frame.clone(), reason))
            .to_vec(),
    );
}

fn t39_segments_of_sizes_that_cannot_be<R: Driver>() {
    let (_, frame) = tcp_gso(SENDER, RECEIVER);
    let sizes = [0, 1, 7, 0xffff, 0xfffe, 8];
    all_are_dropped::<R>(
        sizes
            .map(|gso_size| (Header { gso_size, ..Header::tcp() }, frame.clone(), "gso-size"))
            .to_vec(),
    );
}

fn t40_segmentation_without_a_checksum<R: Driver>() {
    let (_, frame) = tcp_gso(SENDER, RECEIVER);
    let cases = [0, 2, 0xfe].map(|flags| {
        let header = Header { flags, ..Header::tcp() };
        (header, frame.clone(), "gso-no-checksum")
    });
    all_are_dropped::<R>(cases.to_vec());
}

fn t42_frames_that_are_not_what_the_header_says<R: Driver>() {
    let (_, tcp) = tcp_gso(SENDER, RECEIVER);
    let with = |at: usize, value: u8| {
        let mut frame = tcp.clone();
        frame[at] = value;
        frame
    };
    let header = Header::tcp();
    let datagram = udp(SENDER, RECEIVER, 1400);
    let for_udp = Header { csum_offset: UDP_CHECKSUM, gso_size: 500, ..header };
    all_are_dropped::<R>(vec![
        (Header { gso_type: TCPV6, ..header }, tcp.clone(), "gso-mismatch"),
        (for_udp, datagram, "gso-mismatch"),
        // A TCP header longer than the frame, or shorter than it can be.
        (header, with(46, 0x40), "gso-mismatch"),
        // A fragment; version 6; no header of 20 bytes; a length beyond the frame's.
        (header, with(20, 0x20), "offload-fragment"),
        (header, with(14, 0x65), "offload-headers"),
        (header, with(14, 0x44), "offload-headers"),
        (header, with(16, 0xff), "offload-headers"),
        // Not IP.
        (header, with(13, 0x06), "offload-headers"),
    ]);
}

fn t43_long_frame_that_is_not_to_be_segmented<R: Driver>() {
    let (_, tcp) = tcp_gso(SENDER, RECEIVER);
    let long = frame(NETVM, GUEST, 65_535 + 18, 1);
    let whole = Header { gso_type: 0, gso_size: 0, ..Header::tcp() };
    let nothing = Header { flags: 0, ..whole };
    // Segments that do not fit the MTU are no better.
    let large = Header { gso_size: 1461, ..Header::tcp() };
    all_are_dropped::<R>(vec![
        (whole, tcp.clone(), "frame-long"),
        (nothing, tcp.clone(), "frame-long"),
        (large, tcp, "frame-long"),
        (nothing, long.clone(), "frame-long"),
        (nothing, [long, vec![0; 100]].concat(), "frame-long"),
    ]);
}

/// T41, T44, T46: `hdr_len`, flags that are the device's, `num_buffers`. A receiver that takes such
/// frames whole sees what is true.
fn t41_t44_t46_what_means_nothing_is_made_anew<R: Driver>() {
    let mut ends = ends::<R>(feature::GUEST_CSUM | feature::GUEST_TSO4);
    let (_, tcp) = tcp_gso(SENDER, RECEIVER);
    for (hdr_len, flags, num_buffers) in
        [(54, 1, 0), (0, 3, 1), (1, 5, 0xffff), (53, 0xff, 2), (0xffff, 1, 0)]
    {
        send(&mut ends.guest, Header { hdr_len, flags, num_buffers, ..Header::tcp() }, &tcp);
        let mut bytes = Vec::new();
        let arrived = wait_for(|| {
            while let Some((id, len)) = ends.netvm.rx.pop_used() {
                bytes.extend(ends.netvm.read_rx(id, len));
            }
            bytes.len() == 12 + tcp.len()
        });
        assert!(arrived, "{} of {}", bytes.len(), tcp.len());
        let num_buffers = (12 + tcp.len()).div_ceil(2048) as u16;
        assert_eq!(bytes[..12], Header { num_buffers, ..Header::tcp() }.bytes());
        assert_eq!(bytes[12..], tcp);
        ends.netvm.fill_rx();
    }
    ends.all_is_well();
}

fn t45_receiver_without_offloads_gets_finished_segments<R: Driver>() {
    let mut ends = ends::<R>(0);
    let (_, tcp) = tcp_gso(SENDER, RECEIVER);
    send(&mut ends.guest, Header::tcp(), &tcp);
    let mut payload = Vec::new();
    for _ in 0..(tcp.len() - TCP_HEADERS) / 1460 {
        let segment = ends.netvm.receive();
        assert_eq!(segment.len(), 1514);
        let packet = SlicedPacket::from_ethernet(&segment).unwrap();
        let Some(TransportSlice::Tcp(header)) = packet.transport else { panic!("{packet:?}") };
        let sum = header.calc_checksum_ipv4(SENDER.ip.octets(), RECEIVER.ip.octets());
        assert_eq!(header.checksum(), sum.unwrap());
        assert_eq!(header.sequence_number() as usize, payload.len());
        payload.extend_from_slice(header.payload());
    }
    assert_eq!(payload, tcp[TCP_HEADERS..]);
    // One checksum only.
    let good = udp(SENDER, RECEIVER, 100);
    send(&mut ends.guest, Header::checksum(TRANSPORT, UDP_CHECKSUM), &partial(&good));
    assert_eq!(ends.netvm.receive(), good);
    ends.netvm.fill_rx();
    ends.all_is_well();
}

/// Segments of the frame of [`tcp_gso`].
fn segments(tcp: &[u8]) -> usize {
    (tcp.len() - TCP_HEADERS).div_ceil(1460)
}

fn t45_segments_without_a_buffer_are_each_dropped_and_counted<R: Driver>() {
    let mut ends = ends::<R>(0);
    let (_, tcp) = tcp_gso(SENDER, RECEIVER);
    let made = 2 * segments(&tcp);
    // The second frame begins with buffers and ends without.
    send(&mut ends.guest, Header::tcp(), &tcp);
    send(&mut ends.guest, Header::tcp(), &tcp);
    assert!(made > 64 && made < 128, "{made}");
    let report = ends.link.report();
    assert_eq!((report.guest.frames_in, report.netvm.frames_out), (2, 64));
    assert_eq!(report.guest.drops["no-rx-buffer"], made as u64 - 64);
    assert_eq!(report.drops.len(), 1, "{report:?}");
    for number in 0..64 {
        let at = TCP_HEADERS + number % segments(&tcp) * 1460;
        assert_eq!(ends.netvm.receive()[TCP_HEADERS..], tcp[at..at + 1460], "{number}");
    }
    ends.netvm.fill_rx();
    ends.all_is_well();
}

fn t45_segments_longer_than_the_buffers_are_each_dropped_and_counted<R: Driver>() {
    let claims = feature::CSUM | feature::HOST_TSO4;
    let mut netvm = Guest::<R>::create(0, 64);
    netvm.rx_buffer_len = 1000;
    let mut ends = Ends::with(Guest::create(MRG_RXBUF | claims, 64), netvm);
    let (_, tcp) = tcp_gso(SENDER, RECEIVER);
    send(&mut ends.guest, Header::tcp(), &tcp);
    let report = ends.link.report();
    assert_eq!((report.guest.frames_in, report.netvm.frames_out), (1, 0));
    assert_eq!(report.guest.drops["rx-buffer-short"], segments(&tcp) as u64);
    assert_eq!(report.drops.len(), 1, "{report:?}");
    ends.all_is_well();
}

/// The UDP frame with the sum of its pseudo header alone in its checksum.
fn partial(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let pseudo = [&frame[26..34], &[0, 17], &frame[38..40]].concat();
    let words = pseudo.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum = words.sum::<u32>();
    let sum = ((sum & 0xffff) + (sum >> 16)) as u16;
    frame[40..42].copy_from_slice(&sum.to_be_bytes());
    frame
}
