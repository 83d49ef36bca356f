//! The memory of a hostile driver against `datapath::ring`: nothing panics, what is taken lies in
//! that memory, and what breaks a rule stops the ring.
//!
//! Input: 1 byte of [`Setup`], 1 byte of ring size, 2 bytes of base (packed), then actions: see
//! [`Action`].
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use vhost_net_backend::datapath::memory::Memory;
use vhost_net_backend::datapath::ring::chain::Chains;
use vhost_net_backend::datapath::ring::packed::PackedRing;
use vhost_net_backend::datapath::ring::split::SplitRing;
use vhost_net_backend::datapath::ring::{Direction, Ring, RingFault, RingLayout, RingUse};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// Two regions that touch, and a hole behind them.
const REGIONS: [(GuestAddress, usize); 2] = [(GuestAddress(0), PAGE), (GuestAddress(0x1000), PAGE)];
const PAGE: usize = 0x1000;
const END: u64 = 2 * PAGE as u64;
/// Where the ring's areas are, apart from each other for rings of up to 32 entries. An action may
/// write to all of it.
const DESCRIPTORS: u64 = 0;
const AVAILABLE: u64 = 0x400;
const USED: u64 = 0x600;

static GUEST: LazyLock<Arc<GuestMemoryMmap>> = LazyLock::new(|| {
    Arc::new(GuestMemoryMmap::from_ranges(&REGIONS).expect("8 KiB can be mapped"))
});

/// The bits of the first byte.
struct Setup {
    packed: bool,
    usage: RingUse,
}

impl Setup {
    fn new(bits: u8) -> Self {
        let direction = if bits & 2 == 0 { Direction::Read } else { Direction::Write };
        let usage = RingUse { direction, indirect: bits & 4 != 0, event_idx: bits & 8 != 0 };
        Self { packed: bits & 1 != 0, usage }
    }
}

/// What happens next, by its first byte; more bytes follow.
enum Action<'a> {
    /// The driver writes up to 64 bytes. Followed by the length (1 byte), the address (2, modulo
    /// the memory) and the bytes.
    Write(u64, &'a [u8]),
    /// The device takes up to so many chains (1 byte).
    Take(usize),
    /// The device uses the oldest so many (1 byte), and shows it.
    Use(usize),
    /// The device forgets what it has not used.
    Rewind,
    /// The device wants kicks, or does not.
    Kicks(bool),
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
            4 => Self::Take(usize::from(argument % 64)),
            5 => Self::Use(usize::from(argument % 64)),
            6 => Self::Rewind,
            _ => Self::Kicks(argument & 1 != 0),
        })
    }
}

fn take<const N: usize>(data: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = data.split_first_chunk()?;
    *data = rest;
    Some(*first)
}

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let Some([bits, size, base_low, base_high]) = take(&mut data) else { return };
    let setup = Setup::new(bits);
    let layout = RingLayout {
        size: 1 << (size % 6),
        descriptors: DESCRIPTORS,
        available: AVAILABLE,
        used: USED,
    };
    GUEST.write_slice(&[0; END as usize], GuestAddress(0)).expect("it is all mapped");
    let memory = Memory::new(&GUEST, None);
    let base = u16::from_le_bytes([base_low, base_high]);
    if setup.packed {
        if let Ok(ring) = PackedRing::start(&memory, layout, setup.usage, base) {
            run(ring, &memory, layout.size, data);
        }
    } else {
        // A split ring starts where the driver's memory says.
        GUEST.write_obj(base.to_le(), GuestAddress(USED + 2)).expect("it is mapped");
        GUEST.write_obj(base.to_le(), GuestAddress(AVAILABLE + 2)).expect("it is mapped");
        let ring = SplitRing::start(&memory, layout, setup.usage).expect("nothing is available");
        run(ring, &memory, layout.size, data);
    }
});

/// Carries the actions out until a fault, after which nothing must be taken any more.
fn run(mut ring: impl Ring, memory: &Memory, size: u16, mut data: &[u8]) {
    let mut chains = Chains::with_capacity(size);
    while let Some(action) = Action::next(&mut data) {
        if let Err(fault) = act(&mut ring, memory, &mut chains, size, &action) {
            if let Action::Take(_) = action {
                let before = chains.len();
                let again = ring.take(memory, &mut chains, usize::from(size));
                assert_eq!(chains.len(), before, "{fault:?}, and then {again:?}");
            }
            return;
        }
    }
}

fn act(
    ring: &mut impl Ring,
    memory: &Memory,
    chains: &mut Chains,
    size: u16,
    action: &Action<'_>,
) -> Result<(), RingFault> {
    match *action {
        Action::Write(address, bytes) => {
            let len = bytes.len().min(usize::try_from(END - address).expect("it is small"));
            GUEST.write_slice(&bytes[..len], GuestAddress(address)).expect("it is mapped");
        }
        Action::Take(limit) => {
            let before = chains.len();
            let taken = ring.take(memory, chains, limit);
            assert!(chains.len() <= before + limit);
            assert!(taken.is_ok() || chains.len() == before);
            check(memory, chains, size);
            taken?;
        }
        Action::Use(count) => {
            let mut left = count.min(chains.len());
            while left > 0 {
                // A run of simple ones goes back in one go.
                let simple = chains.as_slice().iter().take(left);
                let simple = simple.take_while(|chain| chain.only_segment().is_some()).count();
                let run = chains.as_slice()[..simple].to_vec();
                ring.push_all_used(memory, &run, run.iter().map(|chain| chain.first().len_u32()))?;
                chains.advance(simple);
                left -= simple;
                if left > 0 {
                    let chain = *chains.get(0).expect("there are more");
                    let written = u32::try_from(chains.bytes(&chain)).unwrap_or(u32::MAX);
                    ring.push_used(memory, &chain, written)?;
                    chains.advance(1);
                    left -= 1;
                }
            }
            ring.publish(memory)?;
        }
        Action::Rewind => {
            ring.rewind();
            chains.clear();
        }
        Action::Kicks(true) => {
            ring.enable_kicks(memory)?;
        }
        Action::Kicks(false) => ring.disable_kicks(memory)?,
    }
    Ok(())
}

/// What was taken fits the ring and lies in the driver's memory.
fn check(memory: &Memory, chains: &Chains, size: u16) {
    assert!(chains.len() <= usize::from(size));
    let held = (0..).map_while(|index| chains.get(index));
    let mut slots = 0;
    for chain in held {
        slots += usize::from(chain.slots());
        let segments = chains.segments(chain);
        // A descriptor that goes over from one region to the next is two segments.
        assert!(segments.len() <= REGIONS.len() * usize::from(size));
        let mut bytes = 0;
        for segment in segments {
            assert!(!segment.is_empty());
            let address = memory.address(segment).expect("it is in a region");
            assert!(address + segment.len() as u64 <= END);
            let mut private = vec![0; segment.len()];
            memory.read(segment, 0, &mut private).expect("it is mapped");
            bytes += segment.len() as u64;
        }
        assert_eq!(bytes, chains.bytes(chain));
    }
    assert!(slots <= usize::from(size), "{slots} of {size} descriptors are taken");
}
