//! The short way against the long one: whatever comes, both carry the same.

use proptest::collection::vec;
use proptest::prelude::*;
use vhost_net_backend::datapath::EndId;
use vhost_net_backend::datapath::drop_reason::DropReason;
use vhost_net_backend::datapath::rate::{Limit, Limits};

use crate::common::direct::Direct;
use crate::common::driver::{Driver, DriverRing};
use crate::common::guest::{EVENT_IDX, Guest, MRG_RXBUF};
use crate::common::packed::PackedRing;
use crate::common::{GUEST, NETVM, frame};

const RING: u16 = 64;

/// Something to do with a link.
#[derive(Clone, Debug)]
enum Step {
    /// A frame to send: its length, its seed, bytes to change, and whether the header lies apart.
    Post(usize, u8, Vec<(usize, u8)>, bool),
    /// Receive buffers to offer, of this length.
    Offer(u16, u32),
    /// A turn.
    Turn,
}

fn step() -> impl Strategy<Value = Step> {
    let seed = prop_oneof![8 => Just(1_u8), 1 => any::<u8>()];
    let change = prop_oneof![
        // Of the rules' bytes, and of any.
        (0..40_usize, any::<u8>()),
        (0..1500_usize, any::<u8>()),
    ];
    let changes = prop_oneof![6 => Just(Vec::new()), 1 => vec(change, 1..3)];
    let len = prop_oneof![4 => 34..200_usize, 1 => 200..1600_usize];
    let apart = prop_oneof![9 => Just(false), 1 => Just(true)];
    let room = prop_oneof![6 => Just(2048_u32), 1 => 60..2048_u32];
    prop_oneof![
        12 => (len, seed, changes, apart).prop_map(|(a, b, c, d)| Step::Post(a, b, c, d)),
        2 => (1..32_u16, room).prop_map(|(count, len)| Step::Offer(count, len)),
        1 => Just(Step::Turn),
    ]
}

/// What a receiver finds: chain, bytes written, and all its buffer holds.
type Received = Vec<(u32, u32, Vec<u8>)>;

/// Has a link do it, from one end to the other. Returns what came of it, and of what was sent what
/// came back.
fn run<R: Driver>(
    steps: &[Step],
    from: EndId,
    features: u64,
    limits: &Limits,
) -> (Received, Vec<(u32, u32)>, Vec<u64>) {
    let [mut guest, mut netvm] = [(); 2].map(|()| Guest::<R>::create(features, RING));
    let mut link = Direct::new(&guest, &netvm).limited(limits);
    let (source, target, addresses) = match from {
        EndId::Guest => (&mut guest, &mut netvm, (NETVM, GUEST)),
        EndId::Netvm => (&mut netvm, &mut guest, (GUEST, NETVM)),
    };
    let (mut received, mut returned) = (Vec::new(), Vec::new());
    for step in steps.iter().chain([&Step::Turn, &Step::Turn]) {
        match step {
            Step::Post(len, seed, changes, apart) => {
                if source.tx.in_flight() + 2 > RING {
                    continue;
                }
                let mut bytes = frame(addresses.0, addresses.1, *len, *seed);
                for (at, value) in changes {
                    if let Some(byte) = bytes.get_mut(*at) {
                        *byte ^= value;
                    }
                }
                if *apart { source.post_split(&bytes) } else { source.post(&bytes) }
            }
            Step::Offer(count, len) => {
                target.rx_buffer_len = *len;
                target.post_rx((*count).min(RING - target.rx.in_flight()));
            }
            Step::Turn => {
                link.turn(from);
                returned.extend(std::iter::from_fn(|| source.tx.pop_used()));
                while let Some((id, len)) = target.rx.pop_used() {
                    received.push((id, len, target.read_rx(id, 2048)));
                }
            }
        }
    }
    let drops = DropReason::ALL.iter().map(|reason| link.counters.drops(from, *reason));
    let (end, other) = (link.counters.end(from), link.counters.end(from.other()));
    let counted = [&end.frames_in, &end.bytes_in, &other.frames_out, &other.bytes_out];
    let counted =
        counted.into_iter().map(|counter| counter.load(std::sync::atomic::Ordering::Relaxed));
    (received, returned, counted.chain(drops).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn short_way_and_long_way_carry_the_same(
        steps in vec(step(), 1..120),
        from_guest in any::<bool>(),
        event_idx in any::<bool>(),
        mergeable in any::<bool>(),
    ) {
        let from = if from_guest { EndId::Guest } else { EndId::Netvm };
        let features = if event_idx { EVENT_IDX } else { 0 } | if mergeable { MRG_RXBUF } else { 0 };
        let short = Limits::default();
        // Any limit on data has every frame go the long way; this one is never reached.
        let long = Limits { frames: Some(Limit::frames(1 << 40)), ..short };
        prop_assert_eq!(
            run::<DriverRing>(&steps, from, features, &short),
            run::<DriverRing>(&steps, from, features, &long)
        );
        prop_assert_eq!(
            run::<PackedRing>(&steps, from, features, &short),
            run::<PackedRing>(&steps, from, features, &long)
        );
    }
}
