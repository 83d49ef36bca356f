//! A frame against the frame rules: nothing panics, and what passes obeys the rules that can be
//! said in a line.
//!
//! Input: 1 byte of which end it comes from (bit 0: netvm's), the frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vhost_net_backend::datapath::EndId;
use vhost_net_backend::datapath::filter::{Filter, Frame, Verdict};
use vhost_net_backend::mac::MacAddr;

const GUEST: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const NETVM: [u8; 6] = [0x52, 0x54, 0, 0, 0, 2];
const MTU: u16 = 1500;

fuzz_target!(|data: &[u8]| {
    let Some(([end], frame)) = data.split_first_chunk() else { return };
    let from = if end & 1 == 0 { EndId::Guest } else { EndId::Netvm };
    if !passes(from, frame) {
        return;
    }
    assert!((14..=14 + usize::from(MTU)).contains(&frame.len()));
    let (destination, source) = (&frame[..6], &frame[6..12]);
    let to_group = destination[0] & 1 != 0;
    match from {
        EndId::Guest => {
            assert_eq!(source, GUEST);
            assert!(to_group || destination == NETVM);
        }
        EndId::Netvm => {
            assert!(source != GUEST && source[0] & 1 == 0);
            assert!(to_group || destination == GUEST);
        }
    }
});

/// What is private of a frame at first.
const LEAD: usize = 128;

/// Whether a frame passes; asked with ever more of it, as the data path does.
fn passes(from: EndId, frame: &[u8]) -> bool {
    let mut filter = Filter::new(MacAddr::new(GUEST), MacAddr::new(NETVM), MTU);
    let mut private = frame.len().min(LEAD);
    loop {
        let bytes = &frame[..private];
        let seen = Frame { bytes, len: frame.len(), wire_len: frame.len() };
        match filter.check(from, &seen, 0) {
            Verdict::Pass(_) => return true,
            Verdict::Drop(_) => return false,
            Verdict::More(more) if more > private && more <= frame.len() => private = more,
            Verdict::More(more) => panic!("has {private} of {}, wants {more}", frame.len()),
        }
    }
}
