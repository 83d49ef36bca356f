//! T52: rings at the end of the guest's memory, where that is the end of all addresses.

use std::sync::Arc;

use vhost_net_backend::datapath::memory::Memory;
use vhost_net_backend::datapath::ring::packed::PackedRing;
use vhost_net_backend::datapath::ring::split::SplitRing;
use vhost_net_backend::datapath::ring::{Direction, RingFault, RingLayout, RingUse};
use vm_memory::{GuestAddress, GuestMemoryMmap};

/// The last page of addresses but one.
const START: u64 = 0xffff_ffff_ffff_e000;
const USE: RingUse =
    RingUse { direction: Direction::ReadThenWrite, indirect: true, event_idx: true };

/// Whether a ring starts in a page at [`START`], or what is wrong with it.
fn start(packed: bool, size: u16, [descriptors, available, used]: [u64; 3]) -> Option<RingFault> {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(START), 0x1000)]).unwrap();
    let memory = Memory::new(&Arc::new(memory), None);
    let layout = RingLayout { size, descriptors, available, used };
    if packed {
        PackedRing::start(&memory, layout, USE, 0x8000).err()
    } else {
        SplitRing::start(&memory, layout, USE).err()
    }
}

#[test]
fn t52_ring_at_the_end_of_memory_does_not_start() {
    let areas = [START, START + 0x100, START + 0x200];
    for (packed, ends) in [(false, [16, 4, 4]), (true, [16, 0, 0])] {
        assert_eq!(start(packed, 8, areas), None);
        for (position, end) in ends.into_iter().enumerate() {
            let mut areas = areas;
            areas[position] = START + 0x1000 - end;
            for size in [8, 1024, 32768] {
                let fault = start(packed, size, areas);
                assert!(matches!(fault, Some(RingFault::Unmapped(_))), "{size} {fault:?}");
            }
        }
    }
}
