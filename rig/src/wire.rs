//! Reads the captures of the NIC's wire, and those that scenarios made.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, ErrorKind};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etherparse::{NetSlice, SlicedPacket};
use pcap_file::PcapError;
use pcap_file::pcap::PcapReader;

use crate::RigError;

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// One captured Ethernet frame of at least 14 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Time since the Unix epoch, by the clock of whoever captured.
    pub time: Duration,
    /// Destination address.
    pub destination: Mac,
    /// Source address.
    pub source: Mac,
    /// EtherType, or the length field of an 802.3 frame: 0x0800 is IPv4, 0x0806 ARP, 0x86dd IPv6.
    pub ether_type: u16,
    /// The frame from its destination address on, without the check sequence.
    pub bytes: Vec<u8>,
}

impl Frame {
    fn new(time: Duration, bytes: Vec<u8>) -> Option<Frame> {
        let mac = |at: usize| Some(Mac(bytes.get(at..at + 6)?.try_into().ok()?));
        let destination = mac(0)?;
        let source = mac(6)?;
        let ether_type = u16::from_be_bytes(bytes.get(12..14)?.try_into().ok()?);
        Some(Frame { time, destination, source, ether_type, bytes })
    }

    /// Source and destination of the IPv4 or IPv6 packet in the frame, if it holds one.
    #[must_use]
    pub fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        match SlicedPacket::from_ethernet(&self.bytes).ok()?.net? {
            NetSlice::Ipv4(ip) => {
                let header = ip.header();
                Some((header.source_addr().into(), header.destination_addr().into()))
            }
            NetSlice::Ipv6(ip) => {
                let header = ip.header();
                Some((header.source_addr().into(), header.destination_addr().into()))
            }
            _ => None,
        }
    }
}

/// The frames of a capture, in order.
///
/// A capture that ends in the middle of a record ends with the record before it: whoever wrote it
/// was killed. Records too short to be Ethernet frames are passed over.
///
/// # Errors
/// [`RigError::Io`] when the file cannot be opened, [`RigError::Capture`] when it is no capture.
pub fn frames(path: &Path) -> Result<Frames, RigError> {
    let file = File::open(path).map_err(RigError::io("open", path))?;
    let reader = PcapReader::new(BufReader::new(file))
        .map_err(|source| RigError::Capture { path: path.to_path_buf(), source })?;
    Ok(Frames { reader: Some(reader), path: path.to_path_buf() })
}

/// Iterator over the frames of a capture; see [`frames`].
#[derive(Debug)]
pub struct Frames {
    reader: Option<PcapReader<BufReader<File>>>,
    path: PathBuf,
}

impl Iterator for Frames {
    type Item = Result<Frame, RigError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.reader.as_mut()?.next_packet()? {
                Ok(packet) => {
                    let frame = Frame::new(packet.timestamp, packet.data.into_owned());
                    if let Some(frame) = frame {
                        return Some(Ok(frame));
                    }
                }
                Err(PcapError::IncompleteBuffer) => self.reader = None,
                Err(PcapError::IoError(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                    self.reader = None;
                }
                Err(source) => {
                    self.reader = None;
                    return Some(Err(RigError::Capture { path: self.path.clone(), source }));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use pcap_file::pcap::{PcapPacket, PcapWriter};

    use super::*;

    /// An ARP request's first bytes, then an IPv4 packet with UDP.
    fn capture(folder: &Path) -> PathBuf {
        let path = folder.join("a.pcap");
        let mut writer = PcapWriter::new(File::create(&path).unwrap()).unwrap();
        let mut arp = vec![0xff; 6];
        arp.extend_from_slice(&[2, 0, 0, 0, 0, 1, 0x08, 0x06]);
        let mut udp = Vec::new();
        etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
            .ipv4([10, 0, 2, 15], [10, 0, 2, 2], 64)
            .udp(68, 67)
            .write(&mut udp, b"x")
            .unwrap();
        for (second, frame) in (5_u64..).zip([&arp[..], &[1, 2, 3], &udp[..]]) {
            let length = u32::try_from(frame.len()).unwrap();
            let packet = PcapPacket::new(Duration::from_secs(second), length, frame);
            writer.write_packet(&packet).unwrap();
        }
        path
    }

    #[test]
    fn frames_short_record_is_passed_over_and_addresses_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let frames: Vec<Frame> =
            frames(&capture(folder.path())).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(frames.len(), 2);
        assert_eq!(frames[0].ether_type, 0x0806);
        assert_eq!(frames[0].source.to_string(), "02:00:00:00:00:01");
        assert_eq!(frames[0].addresses(), None);
        assert_eq!(frames[1].time, Duration::from_secs(7));
        let (from, to) = frames[1].addresses().unwrap();
        assert_eq!((from.to_string(), to.to_string()), ("10.0.2.15".into(), "10.0.2.2".into()));
    }

    #[test]
    fn frames_capture_cut_anywhere_ends_with_the_last_whole_record() {
        let folder = tempfile::tempdir().unwrap();
        let whole = fs::read(capture(folder.path())).unwrap();
        let cut = folder.path().join("cut.pcap");
        let mut counts = Vec::new();
        for length in 24..whole.len() {
            fs::write(&cut, &whole[..length]).unwrap();
            let read: Result<Vec<Frame>, _> = frames(&cut).unwrap().collect();
            counts.push(read.unwrap().len());
        }
        assert_eq!(counts.first(), Some(&0));
        assert_eq!(counts.last(), Some(&1));
        assert!(counts.is_sorted());
    }

    #[test]
    fn frames_something_else_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "this is not a capture at all, but long enough").unwrap();
        assert!(matches!(frames(&path), Err(RigError::Capture { .. })));
    }
}
