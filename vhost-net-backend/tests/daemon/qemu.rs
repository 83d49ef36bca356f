//! A real QEMU, whose boot firmware (iPXE) drives the virtio-net card with a real driver.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::guest::{EVENT_IDX, Guest, MRG_RXBUF};
use crate::common::{GUEST, NETVM};
use crate::daemon::{Daemon, UID};

const QEMU: &str = "/usr/bin/qemu-system-x86_64";
const ROM: &str = "/usr/lib/ipxe/qemu/pxe-virtio.rom";
/// How long QEMU may take, without KVM, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;

struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// QEMU with its card at `socket`, and nothing to boot but the network.
fn start(socket: &Path) -> Qemu {
    let child = Command::new(QEMU)
        .args(["-accel", "tcg", "-machine", "pc,memory-backend=mem", "-m", "64"])
        .args(["-object", "memory-backend-memfd,id=mem,size=64M,share=on"])
        .args(["-nodefaults", "-display", "none"])
        .args(["-L", "/usr/share/seabios", "-L", "/usr/share/qemu", "-L", "/usr/lib/ipxe/qemu"])
        .args(["-chardev", &format!("socket,id=c,path={},reconnect=1", socket.display())])
        .args(["-netdev", "vhost-user,id=n,chardev=c"])
        // QEMU 7.2 without KVM crashes at DRIVER_OK if its card has MSI-X.
        .args(["-device", &format!("virtio-net-pci,netdev=n,mac={GUEST},vectors=0,bootindex=1")])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    Qemu(child)
}

/// The DHCP message in a frame, if it is one: type and transaction.
fn dhcp(frame: &[u8]) -> Option<(u8, [u8; 4])> {
    // IPv4 without options, UDP, to port 67.
    let is_dhcp = frame.get(12..15)? == [8, 0, 0x45] && frame.get(36..38)? == [0, 67];
    let transaction = frame.get(46..50)?.try_into().ok()?;
    let options = frame.get(282..)?;
    let at = options.windows(3).position(|window| window[..2] == [53, 1])?;
    is_dhcp.then_some((options[at + 2], transaction))
}

/// A DHCPOFFER of 100.64.0.2.
fn offer(transaction: [u8; 4]) -> Vec<u8> {
    let mut bootp = vec![2, 1, 6, 0];
    bootp.extend(transaction);
    bootp.extend([0; 8]);
    bootp.extend([[100, 64, 0, 2], [100, 64, 0, 1], [0; 4]].concat());
    bootp.extend(GUEST.octets());
    bootp.resize(236, 0);
    bootp.extend([99, 130, 83, 99, 53, 1, OFFER, 54, 4, 100, 64, 0, 1]);
    bootp.extend([51, 4, 0, 0, 14, 16, 1, 4, 255, 255, 255, 0, 255]);
    bootp.resize(300, 0);
    let mut frame = [GUEST.octets(), NETVM.octets()].concat();
    frame.extend([8, 0, 0x45, 0]);
    frame.extend(328_u16.to_be_bytes());
    frame.extend([0, 1, 0, 0, 64, 17, 0, 0, 100, 64, 0, 1, 255, 255, 255, 255]);
    let sum: u32 =
        frame[14..34].chunks(2).map(|p| u32::from(u16::from_be_bytes([p[0], p[1]]))).sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    // UDP without a checksum.
    frame.extend([0, 67, 0, 68, 1, 52, 0, 0]);
    frame.extend(bootp);
    frame
}

/// Waits for a DHCP message of this type, answering every DISCOVER with an OFFER if told to.
fn wait_for_dhcp(netvm: &mut Guest, wanted: u8, answer: bool) {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let received = netvm.receive_within(Duration::from_millis(100));
        netvm.fill_rx();
        let Some((frame, _)) = received else { continue };
        assert_eq!(frame[6..12], GUEST.octets());
        let Some((kind, transaction)) = dhcp(&frame) else { continue };
        if answer && kind == DISCOVER {
            netvm.send(&offer(transaction));
        }
        if kind == wanted {
            return;
        }
    }
    panic!("QEMU's firmware sent no DHCP message of type {wanted}");
}

#[test]
fn qemu_exchanges_dhcp_and_survives_a_restart_of_the_link() {
    for needed in [QEMU, ROM] {
        if !Path::new(needed).exists() {
            println!("SKIP: {needed} is missing; install qemu-system-x86 and ipxe-qemu");
            return;
        }
    }
    let id = UID.to_string();
    let sandbox: &[&str] = if rustix::process::geteuid().is_root() {
        &["--sandbox", "required", "--uid", &id, "--gid", &id]
    } else {
        &["--sandbox", "available"]
    };
    let mut daemon = Daemon::start(sandbox);
    let mut netvm = Guest::new(MRG_RXBUF | EVENT_IDX, 256);
    netvm.fill_rx();
    netvm.connect(&daemon.netvm_socket());
    let _qemu = start(&daemon.guest_socket());
    wait_for_dhcp(&mut netvm, DISCOVER, false);
    let report = daemon.report();
    assert_eq!(report.guest.ring_faults, 0);
    assert_eq!(report.guest.last_error, None);
    // The link dies and is started anew; QEMU reconnects by itself, and its driver sees nothing of
    // it. A REQUEST follows an OFFER only: the driver receives through the new link, into buffers
    // it offered to the old one.
    daemon.restart(sandbox);
    netvm.disconnect();
    netvm.connect(&daemon.netvm_socket());
    wait_for_dhcp(&mut netvm, REQUEST, true);
    assert_eq!(daemon.report().guest.ring_faults, 0);
}
