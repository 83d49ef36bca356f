//! Packed rings: the flags of a descriptor offer it, and an event suppression area of two words says
//! what the other side wants. What is in a lap is not modelled: positions here do not wrap.

use loom::sync::Arc;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use loom::sync::atomic::{AtomicBool, AtomicU16};
use loom::thread;

use crate::{Form, crossed};

const ENABLE: u16 = 0;
const DISABLE: u16 = 1;
const DESC: u16 = 2;
/// An offset that no entry here reaches, and which is there while flags say that it means nothing.
const NEVER: u16 = 1000;

/// Two descriptors, and the event suppression area of who takes them.
struct Shared {
    descriptors: [AtomicBool; 2],
    offset: AtomicU16,
    flags: AtomicU16,
    /// The eventfd.
    notified: AtomicBool,
}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            descriptors: [AtomicBool::new(false), AtomicBool::new(false)],
            offset: AtomicU16::new(NEVER),
            flags: AtomicU16::new(DISABLE),
            notified: AtomicBool::new(false),
        })
    }

    /// `PackedRing::publish` and `PackedRing::wants_call`, and what drivers do.
    fn offer(&self, form: Form, slot: u16) {
        self.descriptors[usize::from(slot)].store(true, Release);
        form.fence();
        let wanted = match self.flags.load(Acquire) {
            DESC => crossed(self.offset.load(Relaxed), slot + 1, slot),
            flags => flags != DISABLE,
        };
        if wanted {
            self.notified.store(true, Release);
        }
    }

    /// `PackedRing::enable_kicks`: returns whether there is something to be taken after all.
    fn arm(&self, form: Form, wish: u16, slot: u16) -> bool {
        self.offset.store(if wish == DESC { slot } else { 0 }, Relaxed);
        self.flags.store(wish, Release);
        form.fence();
        self.is_available(slot)
    }

    /// `PackedRing::disable_kicks`.
    fn disarm(&self) {
        self.offset.store(0, Relaxed);
        self.flags.store(DISABLE, Release);
    }

    fn is_available(&self, slot: u16) -> bool {
        self.descriptors.get(usize::from(slot)).is_some_and(|flags| flags.load(Acquire))
    }
}

fn nobody_sleeps_on_a_descriptor(form: Form, wish: u16) {
    loom::model(move || {
        let shared = Shared::new();
        let offered = Arc::clone(&shared);
        let other = thread::spawn(move || {
            offered.offer(form, 0);
            offered.offer(form, 1);
        });
        let mut seen = 0;
        while shared.arm(form, wish, seen) {
            shared.disarm();
            seen += 1;
        }
        other.join().unwrap();
        let sleeps_well = seen == 2 || shared.notified.load(Acquire);
        assert!(sleeps_well, "asleep, with {seen} of 2 descriptors seen and no notification");
    });
}

#[test]
fn offsets_let_nobody_sleep_on_a_descriptor() {
    nobody_sleeps_on_a_descriptor(Form::Right, DESC);
}

#[test]
fn flags_let_nobody_sleep_on_a_descriptor() {
    nobody_sleeps_on_a_descriptor(Form::Right, ENABLE);
}

#[test]
#[should_panic(expected = "asleep")]
fn offsets_without_fences_do() {
    nobody_sleeps_on_a_descriptor(Form::Unfenced, DESC);
}

#[test]
#[should_panic(expected = "asleep")]
fn flags_without_fences_do() {
    nobody_sleeps_on_a_descriptor(Form::Unfenced, ENABLE);
}
