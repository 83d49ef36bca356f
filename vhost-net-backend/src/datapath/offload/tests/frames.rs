//! Frames as a driver with offloads sends them.

use proptest::prelude::*;
use zerocopy::little_endian::U16;

use crate::datapath::header::VirtioNetHeader;
use crate::datapath::offload::{
    GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, feature,
};

/// All that a sender can negotiate.
pub const ALL: u64 = feature::SENDER;

const TAG: [u8; 4] = [0x81, 0, 0, 5];

/// What a frame is made of. Its checksum field holds the sum of the pseudo header.
#[derive(Clone, Debug)]
pub struct Spec {
    pub tags: usize,
    pub v6: bool,
    pub udp: bool,
    /// Bytes of IPv4 options, a multiple of 4 up to 40.
    pub ip_options: usize,
    /// IPv6: length field of a hop-by-hop and of a destination options header.
    pub extensions: Vec<u8>,
    /// Bytes of TCP options, a multiple of 4 up to 40.
    pub tcp_options: usize,
    pub tcp_flags: u8,
    pub identification: u16,
    pub sequence: u32,
    pub payload: usize,
    pub seed: u8,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            tags: 0,
            v6: false,
            udp: false,
            ip_options: 0,
            extensions: Vec::new(),
            tcp_options: 0,
            tcp_flags: 0x18,
            identification: 7,
            sequence: 1000,
            payload: 5000,
            seed: 1,
        }
    }
}

impl Spec {
    pub fn tcp4(payload: usize) -> Self {
        Self { payload, ..Self::default() }
    }

    pub fn tcp6(payload: usize) -> Self {
        Self { payload, v6: true, ..Self::default() }
    }

    pub fn udp4(payload: usize) -> Self {
        Self { payload, udp: true, ..Self::default() }
    }

    pub fn udp6(payload: usize) -> Self {
        Self { payload, v6: true, udp: true, ..Self::default() }
    }

    pub fn network(&self) -> usize {
        14 + 4 * self.tags
    }

    pub fn transport(&self) -> usize {
        let extensions: usize = self.extensions.iter().map(|len| (usize::from(*len) + 1) * 8).sum();
        self.network() + if self.v6 { 40 + extensions } else { 20 + self.ip_options }
    }

    pub fn header_len(&self) -> usize {
        self.transport() + if self.udp { 8 } else { 20 + self.tcp_options }
    }

    pub const fn checksum_offset(&self) -> usize {
        if self.udp { 6 } else { 16 }
    }

    /// A true header: only the checksum is left to do.
    pub fn checksum_header(&self) -> VirtioNetHeader {
        VirtioNetHeader {
            flags: NEEDS_CSUM,
            gso_type: GSO_NONE,
            csum_start: U16::new(self.transport().try_into().unwrap()),
            csum_offset: U16::new(self.checksum_offset().try_into().unwrap()),
            ..VirtioNetHeader::default()
        }
    }

    /// A true header: the frame is to be segmented.
    pub fn gso_header(&self, size: u16) -> VirtioNetHeader {
        let ecn = if !self.udp && self.tcp_flags & 0x80 != 0 { GSO_ECN } else { 0 };
        VirtioNetHeader {
            gso_type: match (self.udp, self.v6) {
                (true, _) => GSO_UDP_L4,
                (false, false) => GSO_TCPV4,
                (false, true) => GSO_TCPV6,
            } | ecn,
            gso_size: U16::new(size),
            hdr_len: U16::new(self.header_len().try_into().unwrap()),
            ..self.checksum_header()
        }
    }

    pub fn frame(&self) -> Vec<u8> {
        let mut frame = vec![0x52, 0x54, 0, 0, 0, 2, 0x52, 0x54, 0, 0, 0, 1];
        for _ in 0..self.tags {
            frame.extend(TAG);
        }
        let transport_len = self.header_len() - self.transport() + self.payload;
        let protocol = if self.udp { 17 } else { 6 };
        let addresses = if self.v6 {
            self.push_ipv6(&mut frame, transport_len, protocol)
        } else {
            self.push_ipv4(&mut frame, transport_len, protocol)
        };
        let pseudo =
            [&addresses[..], &[0, protocol], &u16::try_from(transport_len).unwrap().to_be_bytes()]
                .concat();
        let partial = slow_sum(&pseudo).to_be_bytes();
        frame.extend([0x13, 0x88, 0x1f, 0x90]);
        if self.udp {
            frame.extend(u16::try_from(transport_len).unwrap().to_be_bytes());
            frame.extend(partial);
        } else {
            frame.extend(self.sequence.to_be_bytes());
            frame.extend([1, 2, 3, 4, u8::try_from(5 + self.tcp_options / 4).unwrap() << 4]);
            frame.extend([self.tcp_flags, 0x10, 0]);
            frame.extend(partial);
            frame.extend([0, 0]);
            frame.resize(frame.len() + self.tcp_options, 1);
        }
        let mut state = u32::from(self.seed);
        frame.extend((0..self.payload).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        }));
        frame
    }

    fn push_ipv4(&self, frame: &mut Vec<u8>, transport_len: usize, protocol: u8) -> Vec<u8> {
        let header_len = 20 + self.ip_options;
        let addresses = [10, 0, 0, 2, 10, 0, 0, 1];
        frame.extend([8, 0, 0x40 | u8::try_from(header_len / 4).unwrap(), 0]);
        frame.extend(u16::try_from(header_len + transport_len).unwrap().to_be_bytes());
        frame.extend(self.identification.to_be_bytes());
        frame.extend([0x40, 0, 64, protocol, 0, 0]);
        frame.extend(addresses);
        frame.resize(frame.len() + self.ip_options, 1);
        addresses.to_vec()
    }

    fn push_ipv6(&self, frame: &mut Vec<u8>, transport_len: usize, protocol: u8) -> Vec<u8> {
        let extensions = self.transport() - self.network() - 40;
        let mut addresses = [0xfd_u8; 32];
        (addresses[15], addresses[31]) = (2, 1);
        // Hop-by-hop options and destination options, in the order that RFC 8200 wants.
        let kinds: Vec<u8> = [0, 60].into_iter().take(self.extensions.len()).collect();
        let mut next = kinds.iter().copied().chain([protocol]);
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(u16::try_from(extensions + transport_len).unwrap().to_be_bytes());
        frame.extend([next.next().unwrap(), 64]);
        frame.extend(addresses);
        for len in &self.extensions {
            frame.extend([next.next().unwrap(), *len]);
            // Options of one byte, Pad1.
            frame.resize(frame.len() + (usize::from(*len) + 1) * 8 - 2, 0);
        }
        addresses.to_vec()
    }
}

/// The sum of RFC 1071, word by word.
pub fn slow_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for word in bytes.chunks(2) {
        sum += u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum.try_into().unwrap()
}

/// Any frame that a driver could send, of up to `payload` bytes of data.
pub fn any_spec(payload: usize) -> impl Strategy<Value = Spec> {
    let network = (0..=2_usize, any::<bool>(), 0..=10_usize, prop::collection::vec(0..3_u8, 0..=2));
    let transport = (any::<bool>(), 0..=10_usize, any::<u8>(), any::<u16>(), any::<u32>());
    (network, transport, 0..=payload, any::<u8>()).prop_map(
        |(network, transport, payload, seed)| {
            let (tags, v6, ip_options, extensions) = network;
            let (udp, tcp_options, tcp_flags, identification, sequence) = transport;
            Spec {
                tags,
                v6,
                udp,
                ip_options: 4 * ip_options,
                extensions,
                tcp_options: 4 * tcp_options,
                tcp_flags,
                identification,
                sequence,
                payload,
                seed,
            }
        },
    )
}
