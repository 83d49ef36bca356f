//! Each rule: the frame that it drops, and the legal neighbour that passes.

mod arp;
mod dhcp;
mod ethernet;
mod frames;
mod ipv4;
mod ipv6;
mod neighbour;
mod properties;
mod reference;

use std::net::Ipv4Addr;

use self::frames::{GUEST, NETVM};
use super::{Class, Filter, Frame, Lease, Rules, Verdict, plain};
use crate::datapath::EndId;
use crate::datapath::drop_reason::DropReason;

const SECOND: u64 = 1_000_000_000;

/// The guest's static addresses.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 16);
const SECOND_ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 17);
const ADDRESS6: &str = "fd00:6e65:7476::10";
/// What netvm leases to the guest.
const LEASED: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 99);

fn rules() -> Rules {
    Rules {
        guest: GUEST,
        netvm: NETVM,
        mtu: 1500,
        addresses: vec![ADDRESS.into(), SECOND_ADDRESS.into(), ADDRESS6.parse().unwrap()],
        dynamic: false,
        lease: None,
    }
}

/// A guest with static addresses.
fn filter() -> Filter {
    Filter::new(&rules(), 0)
}

/// A guest whose IPv4 address is leased.
fn dynamic(lease: Option<Lease>) -> Filter {
    Filter::new(&Rules { addresses: Vec::new(), dynamic: true, lease, ..rules() }, 0)
}

/// The verdict on a frame; also asked for with a prefix that grows as the rules want.
fn verdict(filter: &Filter, from: EndId, bytes: &[u8], now: u64) -> Verdict {
    // A filter of its own, as the frame may change the guest's address.
    let piecewise = Filter { sources: filter.sources.detached(), ..filter.clone() };
    let verdict = filter.check(from, &Frame::whole(bytes), now);
    assert!(!matches!(verdict, Verdict::More(_)), "the whole frame is there");
    let mut seen = bytes.len().min(128);
    loop {
        let frame = Frame { bytes: &bytes[..seen], ..Frame::whole(bytes) };
        match piecewise.check(from, &frame, now) {
            Verdict::More(wanted) => {
                assert!(seen < wanted && wanted <= bytes.len(), "{seen} {wanted}");
                seen = wanted;
            }
            other => break assert_eq!(other, verdict),
        }
    }
    verdict
}

#[track_caller]
fn assert_dropped(bytes: &[u8], reason: DropReason) {
    assert_eq!(verdict(&filter(), EndId::Guest, bytes, 0), Verdict::Drop(reason), "{bytes:02x?}");
}

#[track_caller]
fn assert_passes(bytes: &[u8]) {
    let verdict = verdict(&filter(), EndId::Guest, bytes, 0);
    assert!(matches!(verdict, Verdict::Pass(_)), "{verdict:?} {bytes:02x?}");
}

#[track_caller]
fn class(from: EndId, bytes: &[u8]) -> Class {
    match verdict(&filter(), from, bytes, 0) {
        Verdict::Pass(class) => class,
        other => panic!("{other:?} {bytes:02x?}"),
    }
}
