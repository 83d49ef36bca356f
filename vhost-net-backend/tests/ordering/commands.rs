//! Commands to a worker: a message in a channel, an eventfd that wakes it, and a flag that tells it,
//! while it is awake, to look for messages. The worker takes the wake-up back before it looks.

use loom::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use loom::sync::atomic::{AtomicBool, AtomicUsize};
use loom::sync::{Arc, Mutex};
use loom::thread;

/// In which order a session signals.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// As `WorkerHandle::wake` does.
    EventfdFirst,
    FlagFirst,
}

#[derive(Default)]
struct Channel {
    messages: Mutex<usize>,
    pending: AtomicBool,
    /// The eventfd's counter, which the kernel changes under a lock.
    wake: AtomicUsize,
}

impl Channel {
    fn send(&self, order: Order) {
        *self.messages.lock().unwrap() += 1;
        if order == Order::FlagFirst {
            self.pending.store(true, Release);
        }
        self.wake.fetch_add(1, AcqRel);
        if order == Order::EventfdFirst {
            self.pending.store(true, Release);
        }
    }

    /// A turn of `Worker::run`. Returns the messages it took, or `None` if it sleeps.
    fn turn(&self) -> Option<usize> {
        if self.pending.load(Acquire) {
            self.pending.store(false, Release);
            self.wake.swap(0, AcqRel);
            Some(std::mem::take(&mut *self.messages.lock().unwrap()))
        } else {
            // `epoll_wait` returns at once while the eventfd is readable.
            (self.wake.load(Acquire) > 0).then_some(0)
        }
    }
}

fn worker_carries_out_all_and_sleeps(order: Order) {
    loom::model(move || {
        let channel = Arc::new(Channel::default());
        // The first is why the worker takes back wake-ups while the second comes.
        channel.send(order);
        let other = Arc::clone(&channel);
        let session = thread::spawn(move || other.send(order));
        let mut done = channel.turn().unwrap_or(0) + channel.turn().unwrap_or(0);
        session.join().unwrap();
        // Whoever sleeps now sleeps for good.
        let mut turns = 0;
        while let Some(taken) = channel.turn() {
            done += taken;
            turns += 1;
            assert!(turns < 5, "the worker does not come to rest");
        }
        assert_eq!(done, 2, "asleep, and not all is done");
    });
}

#[test]
fn worker_carries_out_every_command_and_then_sleeps() {
    worker_carries_out_all_and_sleeps(Order::EventfdFirst);
}

/// It would look at the flag, take back a wake-up that comes only now, and be woken by it for ever.
#[test]
#[should_panic(expected = "does not come to rest")]
fn worker_told_before_it_is_woken_does_not_come_to_rest() {
    worker_carries_out_all_and_sleeps(Order::FlagFirst);
}
