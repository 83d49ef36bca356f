//! The memory of a hostile driver against whole turns of the packet path, both ways: nothing
//! panics, and neither end sees what it must not.
//!
//! Input: 1 byte of [`FEATURES`] and bit 0 for packed rings, 1 byte of ring size, 2 bytes of base,
//! then actions: see [`Action`].
#![no_main]

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use libfuzzer_sys::fuzz_target;
use vhost_net_backend::datapath::EndId;
use vhost_net_backend::datapath::filter::Rules;
use vhost_net_backend::datapath::offload::feature;
use vhost_net_backend::datapath::ring::RingLayout;
use vhost_net_backend::end::End;
use vhost_net_backend::mac::MacAddr;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

#[path = "../../vhost-net-backend/tests/common/direct.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod direct;

use direct::{Direct, end, setup};

const GUEST: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const NETVM: [u8; 6] = [0x52, 0x54, 0, 0, 0, 2];
const OWN_ADDRESS: [u8; 4] = [10, 0, 0, 2];

/// VIRTIO_F_VERSION_1.
const VERSION_1: u64 = 1 << 32;
/// What the bits of the first byte stand for, from bit 1 on: INDIRECT_DESC, EVENT_IDX, MRG_RXBUF,
/// and what the driver may claim of its frames.
const FEATURES: [u64; 4] = [1 << 28, 1 << 29, 1 << 15, feature::SENDER];

/// The guest's memory: two regions that touch, and a hole behind them.
const REGIONS: [(GuestAddress, usize); 2] =
    [(GuestAddress(0), 0x2000), (GuestAddress(0x2000), 0x1000)];
const END: u64 = 0x3000;
/// Where its rings are, apart from each other for up to 32 entries. An action may write to all of it.
const RECEIVE: u64 = 0;
const TRANSMIT: u64 = 0x800;

/// netvm's memory: its rings are good, its buffers one after the other.
const NETVM_LEN: usize = 0x3_0000;
const NETVM_RING: u16 = 64;
const NETVM_RECEIVE: u64 = 0;
const NETVM_TRANSMIT: u64 = 0x2000;
const NETVM_FRAME: u64 = 0x4000;
const BUFFERS: u64 = 0x1_0000;
const BUFFER_LEN: u32 = 2048;
/// netvm's memory is full of this, and the guest does not write it.
const SECRET: u8 = 0xd7;

struct Shared {
    guest: Arc<GuestMemoryMmap>,
    netvm: Arc<GuestMemoryMmap>,
    /// Made once, as its buffers are large.
    link: Option<Direct>,
}

static SHARED: LazyLock<Mutex<Shared>> = LazyLock::new(|| {
    let netvm = [(GuestAddress(0), NETVM_LEN)];
    Mutex::new(Shared {
        guest: Arc::new(GuestMemoryMmap::from_ranges(&REGIONS).expect("12 KiB can be mapped")),
        netvm: Arc::new(GuestMemoryMmap::from_ranges(&netvm).expect("192 KiB can be mapped")),
        link: None,
    })
});

/// What happens next, by its first byte; more bytes follow.
enum Action<'a> {
    /// The driver writes up to 64 bytes. Followed by the length (1 byte), the address (2, modulo
    /// the memory) and the bytes.
    Write(u64, &'a [u8]),
    /// The link carries what the guest sends.
    Up,
    /// netvm sends a frame of up to 1514 bytes (1 byte, times 6), and the link carries it.
    Down(usize),
    /// The link goes to sleep, and wakes up.
    Sleep,
    /// The guest's memory is set anew, as it was.
    Memory,
}

impl<'a> Action<'a> {
    fn next(data: &mut &'a [u8]) -> Option<Self> {
        let [kind, argument] = take(data)?;
        Some(match kind % 8 {
            0..4 => {
                let address = u64::from(u16::from_le_bytes(take(data)?)) % END;
                let (bytes, rest) = data.split_at(usize::from(argument % 65).min(data.len()));
                *data = rest;
                Self::Write(address, bytes)
            }
            4 => Self::Up,
            5 => Self::Down(usize::from(argument) * 6),
            6 => Self::Sleep,
            _ => Self::Memory,
        })
    }
}

fn take<const N: usize>(data: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = data.split_first_chunk()?;
    *data = rest;
    Some(*first)
}

fn layout(at: u64, size: u16) -> RingLayout {
    let (available, used) = if size > 32 { (0x400, 0x800) } else { (0x200, 0x400) };
    RingLayout { size, descriptors: at, available: at + available, used: at + used }
}

/// netvm's rings with all receive buffers available, and its secrets.
fn prepare_netvm(memory: &GuestMemoryMmap) {
    memory.write_slice(&[SECRET; NETVM_LEN], GuestAddress(0)).expect("it is mapped");
    memory.write_slice(&[0; NETVM_FRAME as usize], GuestAddress(0)).expect("it is mapped");
    let ring = layout(NETVM_RECEIVE, NETVM_RING);
    for index in 0..NETVM_RING {
        let buffer = BUFFERS + u64::from(index) * u64::from(BUFFER_LEN);
        let at = ring.descriptors + 16 * u64::from(index);
        let rest = u64::from(BUFFER_LEN) | 2 << 32;
        memory.write_obj([buffer, rest], GuestAddress(at)).expect("it is mapped");
        let entry = GuestAddress(ring.available + 4 + 2 * u64::from(index));
        memory.write_obj(index, entry).expect("it is mapped");
    }
    memory.write_obj(NETVM_RING, GuestAddress(ring.available + 2)).expect("it is mapped");
}

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let Some([bits, size, base_low, base_high]) = take(&mut data) else { return };
    let packed = bits & 1 != 0;
    let chosen = FEATURES.iter().enumerate().filter(|(bit, _)| bits >> (bit + 1) & 1 != 0);
    let features: u64 = chosen.map(|(_, feature)| feature).sum();
    let size = 1 << (size % 6);
    let base = u16::from_le_bytes([base_low, base_high]);

    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let Shared { guest, netvm, link } = &mut *shared;
    guest.write_slice(&[0; END as usize], GuestAddress(0)).expect("it is mapped");
    prepare_netvm(netvm);
    let rings = [RECEIVE, TRANSMIT].map(|at| layout(at, size));
    if !packed {
        // A split ring starts where the driver's memory says.
        for ring in rings {
            for area in [ring.available, ring.used] {
                guest.write_obj(base.to_le(), GuestAddress(area + 2)).expect("it is mapped");
            }
        }
    }
    let rings = rings.map(|layout| setup(layout, packed, base));
    let own = [NETVM_RECEIVE, NETVM_TRANSMIT].map(|at| setup(layout(at, NETVM_RING), false, 0));
    let rules = Rules {
        guest: MacAddr::new(GUEST),
        netvm: MacAddr::new(NETVM),
        mtu: 1500,
        addresses: vec![OWN_ADDRESS.into()],
        dynamic: false,
        lease: None,
    };
    let ends = [end(guest, VERSION_1 | features, rings), end(netvm, VERSION_1, own)];
    let link = match link {
        Some(link) => {
            link.restart(ends, &rules);
            link
        }
        None => link.insert(Direct::of(ends, &rules)),
    };
    let (mut seen, mut sent) = (0, 0);
    while let Some(action) = Action::next(&mut data) {
        match action {
            Action::Write(address, bytes) => {
                let len = bytes.len().min(usize::try_from(END - address).expect("it is small"));
                let bytes: Vec<u8> = bytes[..len]
                    .iter()
                    .map(|byte| if *byte == SECRET { 0 } else { *byte })
                    .collect();
                guest.write_slice(&bytes, GuestAddress(address)).expect("it is mapped");
            }
            Action::Up => {
                link.turn(EndId::Guest);
                seen = look(netvm, seen);
            }
            Action::Down(len) => {
                if sent < NETVM_RING {
                    offer(netvm, sent, len.clamp(34, 1514));
                    sent += 1;
                }
                link.turn(EndId::Netvm);
                let used = layout(NETVM_TRANSMIT, NETVM_RING).used + 2;
                let used: u16 = netvm.read_obj(GuestAddress(used)).expect("it is mapped");
                assert_eq!(used, sent, "netvm gets its buffers back, whatever the guest does");
                no_secret(guest);
            }
            Action::Sleep => {
                for end in &mut link.ends {
                    end.rearm();
                    end.settle();
                    end.disarm();
                }
            }
            Action::Memory => {
                if let End::VhostUser(end) = &mut link.ends[0] {
                    end.set_memory(guest);
                }
            }
        }
        if let End::VhostUser(end) = &mut link.ends[1] {
            assert_eq!(end.take_fault(), None, "netvm's rings are good");
        }
    }
});

/// netvm puts a frame into its transmit ring.
fn offer(netvm: &GuestMemoryMmap, number: u16, len: usize) {
    let mut bytes = vec![0; 12 + len];
    let frame = &mut bytes[12..];
    frame[..6].copy_from_slice(&GUEST);
    frame[6..12].copy_from_slice(&NETVM);
    frame[12..15].copy_from_slice(&[8, 0, 0x45]);
    let ip_len = u16::try_from(len - 14).expect("it is at most 1500").to_be_bytes();
    frame[16..18].copy_from_slice(&ip_len);
    frame[22..24].copy_from_slice(&[64, 253]);
    frame[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    netvm.write_slice(&bytes, GuestAddress(NETVM_FRAME)).expect("it is mapped");
    // What lies behind it is nobody's business.
    let rest = NETVM_FRAME + bytes.len() as u64;
    netvm.write_slice(&[SECRET; 64], GuestAddress(rest)).expect("it is mapped");
    let ring = layout(NETVM_TRANSMIT, NETVM_RING);
    let desc = [NETVM_FRAME, bytes.len() as u64];
    let at = ring.descriptors + 16 * u64::from(number);
    netvm.write_obj(desc, GuestAddress(at)).expect("it is mapped");
    let entry = ring.available + 4 + 2 * u64::from(number);
    netvm.write_obj(number, GuestAddress(entry)).expect("it is mapped");
    netvm.write_obj(number + 1, GuestAddress(ring.available + 2)).expect("it is mapped");
}

/// Looks at what netvm received since `seen`: finished frames of the guest's, and nothing else is
/// written.
fn look(netvm: &GuestMemoryMmap, seen: u16) -> u16 {
    let ring = layout(NETVM_RECEIVE, NETVM_RING);
    let used: u16 = netvm.read_obj(GuestAddress(ring.used + 2)).expect("it is mapped");
    assert!(used <= NETVM_RING);
    for index in seen..used {
        let entry = GuestAddress(ring.used + 4 + 8 * u64::from(index));
        let [id, len]: [u32; 2] = netvm.read_obj(entry).expect("it is mapped");
        assert_eq!(id, u32::from(index), "in order");
        let mut buffer = [0; BUFFER_LEN as usize];
        let at = BUFFERS + u64::from(index) * u64::from(BUFFER_LEN);
        netvm.read_slice(&mut buffer, GuestAddress(at)).expect("it is mapped");
        let (written, rest) = buffer.split_at(len as usize);
        let (header, frame) = written.split_at(12);
        assert_eq!(header, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], "netvm takes no offloads");
        assert!((60..=1514).contains(&frame.len()));
        assert_eq!(frame[6..12], GUEST);
        assert!(frame[0] & 1 != 0 || frame[..6] == NETVM);
        assert!(rest.iter().all(|byte| *byte == SECRET), "written behind the frame");
    }
    used
}

fn no_secret(guest: &GuestMemoryMmap) {
    let mut memory = [0; END as usize];
    guest.read_slice(&mut memory, GuestAddress(0)).expect("it is mapped");
    let has_secret = memory.chunks_exact(8).any(|chunk| chunk == [SECRET; 8]);
    assert!(!has_secret, "the guest sees netvm's memory");
}
