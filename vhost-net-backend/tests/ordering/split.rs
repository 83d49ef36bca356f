//! Split rings. Kicks and calls are one handshake: who offers entries moves an index and asks
//! whether to notify; who takes them says from where on it wants to know, and looks once more.

use loom::sync::Arc;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use loom::sync::atomic::{AtomicBool, AtomicU16};
use loom::thread;

use crate::{Form, crossed};

/// `avail.idx`, `avail_event` and the flags of the used ring (kicks), or `used.idx`, `used_event`
/// and the flags of the available ring (calls).
struct Shared {
    index: AtomicU16,
    event: AtomicU16,
    /// 1: no notifications.
    flags: AtomicU16,
    /// The eventfd.
    notified: AtomicBool,
}

/// How the taker says what it wants.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    EventIndex,
    Flags,
}

impl Shared {
    fn new(event: u16) -> Arc<Self> {
        Arc::new(Self {
            index: AtomicU16::new(0),
            event: AtomicU16::new(event),
            flags: AtomicU16::new(1),
            notified: AtomicBool::new(false),
        })
    }

    /// `SplitRing::publish` and `SplitRing::wants_call`, and what drivers do with `avail.idx`.
    fn offer(&self, form: Form, wish: Wish, new: u16) {
        self.index.store(new, Release);
        form.fence();
        let wanted = match wish {
            Wish::EventIndex => crossed(self.event.load(Relaxed), new, new.wrapping_sub(1)),
            Wish::Flags => self.flags.load(Relaxed) == 0,
        };
        if wanted {
            self.notified.store(true, Release);
        }
    }

    /// `SplitRing::enable_kicks`: returns the index, which is `seen` when it is time to sleep.
    fn arm(&self, form: Form, wish: Wish, seen: u16) -> u16 {
        match wish {
            Wish::EventIndex => self.event.store(seen, Relaxed),
            Wish::Flags => self.flags.store(0, Relaxed),
        }
        form.fence();
        self.index.load(Acquire)
    }

    /// `SplitRing::disable_kicks`.
    fn disarm(&self, wish: Wish, seen: u16) {
        match wish {
            Wish::EventIndex => self.event.store(seen.wrapping_sub(1), Relaxed),
            Wish::Flags => self.flags.store(1, Relaxed),
        }
    }
}

/// One side offers two entries, one after the other, while the other takes what there is, goes to
/// sleep, and polls again when it finds something on the way there.
fn nobody_sleeps_on_an_entry(form: Form, wish: Wish) {
    loom::model(move || {
        let shared = Shared::new(u16::MAX);
        let offered = Arc::clone(&shared);
        let other = thread::spawn(move || {
            offered.offer(form, wish, 1);
            offered.offer(form, wish, 2);
        });
        let mut seen = 0;
        loop {
            let index = shared.arm(form, wish, seen);
            if index == seen {
                break;
            }
            shared.disarm(wish, index);
            seen = index;
        }
        other.join().unwrap();
        let sleeps_well = seen == 2 || shared.notified.load(Acquire);
        assert!(sleeps_well, "asleep, with {seen} of 2 entries seen and no notification");
    });
}

#[test]
fn event_indices_let_nobody_sleep_on_an_entry() {
    nobody_sleeps_on_an_entry(Form::Right, Wish::EventIndex);
}

#[test]
fn flags_let_nobody_sleep_on_an_entry() {
    nobody_sleeps_on_an_entry(Form::Right, Wish::Flags);
}

#[test]
#[should_panic(expected = "asleep")]
fn event_indices_without_fences_do() {
    nobody_sleeps_on_an_entry(Form::Unfenced, Wish::EventIndex);
}

#[test]
#[should_panic(expected = "asleep")]
fn flags_without_fences_do() {
    nobody_sleeps_on_an_entry(Form::Unfenced, Wish::Flags);
}
