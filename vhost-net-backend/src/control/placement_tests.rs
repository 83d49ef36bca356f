use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use proptest::prelude::*;
use rustix::event::{EventfdFlags, eventfd};

use super::*;
use crate::datapath::ring::RingLayout;

/// What a worker was told: its number, the end, and the command in short.
type Told = (usize, EndId, What);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Start(RingId, u16),
    Stop(RingId),
    Other,
}

/// A worker that records what it is told and what it answers. It stops a ring at a thousand times
/// the ring's index, and one more at each stop.
struct Recorder {
    number: usize,
    told: Sender<(Told, u16)>,
    stops: std::sync::atomic::AtomicU16,
}

impl Commands for Recorder {
    fn request(&self, end: EndId, command: Command) -> u16 {
        let (what, answer) = match command {
            Command::Start(ring, setup) => (What::Start(ring, setup.base), 0),
            Command::Stop(ring) => {
                let count = self.stops.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                (What::Stop(ring), u16::try_from(ring.index()).unwrap() * 1000 + count + 1)
            }
            _ => (What::Other, 0),
        };
        self.told.send(((self.number, end, what), answer)).unwrap();
        answer
    }
}

fn placement(workers: usize) -> (Placement<Recorder>, Receiver<(Told, u16)>) {
    let (sender, receiver) = channel();
    let recorder = |number| Recorder { number, told: sender.clone(), stops: Default::default() };
    (Placement::new((0..workers).map(recorder).collect()), receiver)
}

fn fd() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC).unwrap()
}

fn setup(base: u16) -> RingSetup {
    let layout = RingLayout { size: 256, descriptors: 0, available: 0, used: 0 };
    RingSetup { layout, packed: true, base, kick: fd(), call: None, error: None }
}

fn ring(index: usize) -> RingId {
    RingId::from_index(index).unwrap()
}

fn start(placement: &Placement<Recorder>, end: EndId, index: usize) {
    placement.change(end, ring(index), |_| Some(setup(7)));
}

/// What was told since the last call.
fn told(receiver: &Receiver<(Told, u16)>) -> Vec<Told> {
    receiver.try_iter().map(|(told, _)| told).collect()
}

use EndId::{Guest, Netvm};
use What::{Start, Stop};

#[test]
fn one_pair_runs_at_worker_0_and_never_moves() {
    let (placement, receiver) = placement(1);
    for end in [Guest, Netvm] {
        start(&placement, end, 0);
        start(&placement, end, 1);
    }
    let expected = [(Guest, 0), (Guest, 1), (Netvm, 0), (Netvm, 1)]
        .map(|(end, index)| (0, end, Start(ring(index), 7)));
    assert_eq!(told(&receiver), expected);
    let mut base = None;
    placement.change(Guest, ring(1), |stopped| {
        base = stopped;
        None
    });
    assert_eq!(base, Some(1001));
    assert_eq!(told(&receiver), [(0, Guest, Stop(ring(1)))]);
}

#[test]
fn equal_pairs_spread_over_the_workers_from_where_they_were_left() {
    let (placement, receiver) = placement(2);
    for end in [Guest, Netvm] {
        for index in 0..4 {
            start(&placement, end, index);
        }
    }
    let all = told(&receiver);
    let (gathered, spread) = all.split_at(7);
    assert!(gathered.iter().all(|(worker, _, what)| *worker == 0 && matches!(what, Start(_, 7))));
    // The last ring starts at its home at once; the other three of its pair move there: who sends
    // stops first, who receives starts first.
    assert_eq!(
        spread,
        [
            (0, Guest, Stop(ring(3))),
            (0, Guest, Stop(ring(2))),
            (0, Netvm, Stop(ring(2))),
            (1, Guest, Start(ring(2), 2002)),
            (1, Netvm, Start(ring(2), 2003)),
            (1, Guest, Start(ring(3), 3001)),
            (1, Netvm, Start(ring(3), 7)),
        ]
    );
}

#[test]
fn rings_gather_when_an_end_goes_and_spread_when_it_is_back() {
    let (placement, receiver) = placement(2);
    let start_all = |end| (0..4).for_each(|index| start(&placement, end, index));
    start_all(Guest);
    start_all(Netvm);
    told(&receiver);
    placement.disconnect(Netvm);
    let moves = told(&receiver);
    let disconnects = [0, 1].map(|worker| (worker, Netvm, What::Other));
    assert_eq!(moves[..2], disconnects);
    assert_eq!(
        moves[2..],
        [
            (1, Guest, Stop(ring(3))),
            (1, Guest, Stop(ring(2))),
            (0, Guest, Start(ring(2), 2002)),
            (0, Guest, Start(ring(3), 3001)),
        ]
    );
    start_all(Netvm);
    let back = told(&receiver);
    assert!(back.contains(&(1, Netvm, Start(ring(3), 7))), "{back:?}");
    assert_eq!(where_they_run(&back, &[(Guest, 0), (Guest, 1)]), [None, None], "pair 0 stays");
}

#[test]
fn pairs_the_driver_does_not_use_rest_and_keep_their_base() {
    let (placement, receiver) = placement(2);
    (0..4).for_each(|index| start(&placement, Guest, index));
    told(&receiver);
    placement.set_active_pairs(Guest, 1);
    assert_eq!(told(&receiver), [(0, Guest, Stop(ring(3))), (0, Guest, Stop(ring(2)))]);
    // With one pair each, nothing moves.
    start(&placement, Netvm, 0);
    start(&placement, Netvm, 1);
    told(&receiver);
    // A ring that rests answers with its base though no worker has it.
    let mut base = None;
    placement.change(Guest, ring(3), |stopped| {
        base = stopped;
        Some(setup(stopped.unwrap()))
    });
    assert_eq!((base, told(&receiver)), (Some(3001), vec![]));
    placement.set_active_pairs(Guest, 2);
    let woken = told(&receiver);
    assert_eq!(woken, [(0, Guest, Start(ring(2), 2002)), (0, Guest, Start(ring(3), 3001))]);
}

#[test]
fn what_concerns_the_whole_end_goes_to_all_workers_and_the_announcement_to_one() {
    let (placement, receiver) = placement(3);
    let all = [0, 1, 2].map(|worker| (worker, Netvm, What::Other));
    placement.set_features(Netvm, 1);
    assert_eq!(told(&receiver), all);
    placement.set_memory(Netvm, &Arc::new(GuestMemoryMmap::new()));
    assert_eq!(told(&receiver), all);
    placement.set_log(Netvm, None);
    assert_eq!(told(&receiver), all);
    placement.announce(Netvm, MacAddr::new([2, 0, 0, 0, 0, 1]));
    assert_eq!(told(&receiver), all[..1]);
}

#[test]
fn eventfds_reach_the_worker_that_has_the_ring() {
    let (placement, receiver) = placement(2);
    let notifier = || Some(Notifier::new(fd()));
    placement.set_call(Guest, ring(2), notifier());
    assert_eq!(told(&receiver), [], "nobody has it yet");
    for end in [Guest, Netvm] {
        (0..4).for_each(|index| start(&placement, end, index));
    }
    told(&receiver);
    placement.set_call(Guest, ring(2), notifier());
    placement.set_error(Guest, ring(1), None);
    assert_eq!(told(&receiver), [(1, Guest, What::Other), (0, Guest, What::Other)]);
}

/// Where rings run after what was told; none if nothing was told of them.
fn where_they_run(told: &[Told], rings: &[(EndId, usize)]) -> Vec<Option<usize>> {
    let last = |(end, index): &(EndId, usize)| {
        told.iter().rev().find_map(|(worker, of, what)| match what {
            Start(started, _) if of == end && started.index() == *index => Some(*worker),
            _ => None,
        })
    };
    rings.iter().map(last).collect()
}

/// The pairs an end runs, as the rule has it; none while a pair runs by half.
fn pairs_of(rings: &[bool]) -> Option<Vec<bool>> {
    rings.chunks(2).map(|pair| (pair[0] == pair[1]).then_some(pair[0])).collect()
}

proptest! {
    /// Whatever happens in whatever order: no ring runs at two workers, none is stopped where it
    /// does not run, each resumes where it stopped, and each is where the rule has it.
    #[test]
    fn rings_run_at_one_worker_each_and_resume_where_they_stopped(
        steps in prop::collection::vec((any::<bool>(), 0..16_usize, 0..6_u8), 1..100),
    ) {
        let (placement, receiver) = placement(8);
        let mut runs: [[Option<usize>; 16]; 2] = Default::default();
        let mut bases: [[Option<u16>; 16]; 2] = Default::default();
        let mut active = [MAX_PAIRS; 2];
        for (is_guest, index, action) in steps {
            let end = if is_guest { Guest } else { Netvm };
            let id = end.index();
            let mut changed = None;
            match action {
                0 => {
                    active[id] = 1 + index / 2;
                    placement.set_active_pairs(end, active[id]);
                }
                1 => {
                    placement.change(end, ring(index), |_| None);
                    bases[id][index] = None;
                    changed = Some((id, index));
                }
                // Often both rings of a pair, so that pairs do run.
                _ => {
                    for index in if action > 2 { vec![index & !1, index | 1] } else { vec![index] } {
                        let kept = bases[id][index];
                        let expected = |stopped: Option<u16>| stopped.is_some() == kept.is_some();
                        placement.change(end, ring(index), |stopped| {
                            assert!(expected(stopped));
                            Some(setup(stopped.unwrap_or(7)))
                        });
                        bases[id][index] = Some(kept.unwrap_or(7));
                        follow(&receiver, &mut runs, &mut bases, None)?;
                    }
                }
            }
            follow(&receiver, &mut runs, &mut bases, changed)?;
            let wanted = [0, 1].map(|id| {
                let is_wanted = |index: usize| bases[id][index].is_some() && index / 2 < active[id];
                (0..16).map(is_wanted).collect::<Vec<bool>>()
            });
            let [guest, netvm] = wanted.each_ref().map(|rings| pairs_of(rings));
            let is_spread = guest.is_some() && guest == netvm;
            for id in [0, 1] {
                for index in 0..16 {
                    let home = if is_spread { index / 2 } else { 0 };
                    prop_assert_eq!(runs[id][index], wanted[id][index].then_some(home));
                }
            }
        }
    }
}

/// Follows what workers were told; `gone` is a ring that was taken down.
fn follow(
    receiver: &Receiver<(Told, u16)>,
    runs: &mut [[Option<usize>; 16]; 2],
    bases: &mut [[Option<u16>; 16]; 2],
    gone: Option<(usize, usize)>,
) -> Result<(), TestCaseError> {
    for ((worker, end, what), answer) in receiver.try_iter() {
        match what {
            Start(started, base) => {
                let (id, index) = (end.index(), started.index());
                prop_assert_eq!(runs[id][index].replace(worker), None);
                prop_assert_eq!(bases[id][index], Some(base));
            }
            Stop(stopped) => {
                let (id, index) = (end.index(), stopped.index());
                prop_assert_eq!(runs[id][index].take(), Some(worker));
                bases[id][index] = (gone != Some((id, index))).then_some(answer);
            }
            What::Other => {}
        }
    }
    Ok(())
}
