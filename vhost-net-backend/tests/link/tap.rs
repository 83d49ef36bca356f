//! A TAP in place of netvm, in a network namespace of the test's own, with the kernel's network
//! stack behind it.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use vhost_net_backend::end::tap::{TapEnd, TapError, open};
use vhost_net_backend::mac::MacAddr;
use vhost_net_backend::report::EndKind;

use crate::common::guest::{Guest, MRG_RXBUF};
use crate::common::link::{Options, TestLink};
use crate::common::{GUEST, NETVM};

const HOST_IP: [u8; 4] = [100, 64, 0, 1];
const GUEST_IP: [u8; 4] = [100, 64, 0, 2];
const PORT: u16 = 4000;

/// Runs `test` on a thread of its own in a new network namespace, or says why not.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: making a network namespace and a TAP needs root");
        return;
    }
    if !std::path::Path::new("/dev/net/tun").exists() {
        println!("SKIP: /dev/net/tun does not exist; load the tun module");
        return;
    }
    let thread = std::thread::spawn(move || {
        use rustix::thread::{UnshareFlags, unshare_unsafe};
        #[expect(unsafe_code, reason = "unshare is unsafe for flags that are not used here")]
        // SAFETY: only UnshareFlags::FILES can take descriptors from other threads.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
        test();
    });
    thread.join().unwrap();
}

fn ip(arguments: &str) {
    let status = std::process::Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// A TAP with netvm's MAC, an address, and a neighbour entry for the guest.
fn tap() -> TapEnd {
    let tap = TapEnd::new(open("tap0").unwrap()).unwrap();
    ip(&format!("link set tap0 address {NETVM}"));
    ip("addr add 100.64.0.1/24 dev tap0");
    ip("link set tap0 up");
    ip(&format!("neigh add 100.64.0.2 lladdr {GUEST} dev tap0"));
    tap
}

/// A UDP datagram from the guest's address to the host's, in an Ethernet frame.
fn datagram(source: MacAddr, payload: &[u8]) -> Vec<u8> {
    let len = |more: usize| u16::try_from(payload.len() + more).unwrap().to_be_bytes();
    let mut header = vec![0x45, 0];
    header.extend(len(28));
    // Not fragmented, 64 hops, UDP, and the checksum to be.
    header.extend([0, 1, 0, 0, 64, 17, 0, 0]);
    header.extend(GUEST_IP);
    header.extend(HOST_IP);
    let sum: u32 =
        header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    header[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    let mut frame = [NETVM.octets(), source.octets()].concat();
    frame.extend([8, 0]);
    frame.extend(header);
    frame.extend([PORT.to_be_bytes(), PORT.to_be_bytes(), len(8), [0, 0]].concat());
    frame.extend(payload);
    frame
}

/// Waits for a frame that carries this payload; the kernel sends others of its own.
fn receive_payload(guest: &mut Guest, payload: &[u8]) -> Vec<u8> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        if let Some((frame, _)) = guest.receive_within(Duration::from_millis(100))
            && frame.ends_with(payload)
        {
            return frame;
        }
        guest.fill_rx();
    }
    panic!("the datagram does not arrive");
}

#[test]
fn guest_talks_to_the_hosts_stack_over_a_tap() {
    in_namespace(|| {
        let link = TestLink::with(Options { tap: Some(tap()), ..Options::default() });
        let host = UdpSocket::bind("100.64.0.1:4000").unwrap();
        host.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut guest = Guest::new(MRG_RXBUF, 256);
        guest.connect(&link.guest_socket());
        guest.fill_rx();
        for round in 0..20_u8 {
            let payload = vec![round; 40 + usize::from(round) * 50];
            guest.send(&datagram(GUEST, &payload));
            let mut received = [0; 2048];
            let len = host.recv(&mut received).unwrap();
            assert_eq!(&received[..len], payload);
            host.send_to(&payload, "100.64.0.2:4000").unwrap();
            let frame = receive_payload(&mut guest, &payload);
            assert_eq!(frame[..6], GUEST.octets());
            assert_eq!(frame[6..12], NETVM.octets());
            // The kernel completed the checksum, as no offload is offered to it.
            assert_ne!(frame[40..42], [0, 0]);
            guest.fill_rx();
        }
        // A foreign source does not reach the host.
        guest.send(&datagram(MacAddr::new([2, 2, 2, 2, 2, 2]), b"spoofed"));
        guest.send(&datagram(GUEST, b"genuine"));
        let mut received = [0; 64];
        let len = host.recv(&mut received).unwrap();
        assert_eq!(&received[..len], b"genuine");
        let report = link.report();
        assert_eq!(report.drops.get("source-not-guest"), Some(&1));
        assert_eq!((report.netvm.kind, report.netvm.connected), (EndKind::Tap, true));
        assert!(report.netvm.frames_in >= 20 && report.netvm.frames_out >= 21);
    });
}

#[test]
fn tap_that_is_deleted_is_reported_and_the_link_goes_on() {
    in_namespace(|| {
        let link = TestLink::with(Options { tap: Some(tap()), ..Options::default() });
        let mut guest = Guest::new(MRG_RXBUF, 64);
        guest.connect(&link.guest_socket());
        ip("link del tap0");
        link.report_when(|report| !report.netvm.connected);
        guest.send(&datagram(GUEST, b"lost"));
        assert_eq!(link.report().guest.drops.get("peer-down"), Some(&1));
    });
}

#[test]
fn names_and_descriptors_that_are_no_tap_are_refused() {
    for name in ["", "a-name-that-is-too-long", "a/b", "tap%d"] {
        assert!(matches!(open(name), Err(TapError::Name(_))), "{name}");
    }
    let file = std::fs::File::open("/dev/null").unwrap();
    assert!(matches!(TapEnd::new(file.into()), Err(TapError::Kind)));
}
