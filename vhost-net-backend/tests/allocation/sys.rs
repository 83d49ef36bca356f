//! An allocator that counts what each thread asks of it.
#![expect(unsafe_code, reason = "GlobalAlloc is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize};

/// The system's allocator, with counts.
#[derive(Debug)]
pub struct Counting;

/// More threads than the tests ever start; those beyond are not counted.
const THREADS: usize = 512;

struct Thread {
    id: AtomicI32,
    calls: AtomicU64,
}

static COUNTS: [Thread; THREADS] =
    [const { Thread { id: AtomicI32::new(0), calls: AtomicU64::new(0) } }; THREADS];
static STARTED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    // Neither needs memory of the heap nor a destructor.
    static OWN: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// How often the thread `id` has asked for memory, or given some back.
pub fn calls_of(id: i32) -> Option<u64> {
    let thread = COUNTS.iter().find(|thread| thread.id.load(Acquire) == id)?;
    Some(thread.calls.load(Acquire))
}

fn count() {
    OWN.with(|own| {
        if own.get() == usize::MAX {
            own.set(STARTED.fetch_add(1, AcqRel));
            if let Some(thread) = COUNTS.get(own.get()) {
                let id = rustix::thread::gettid().as_raw_nonzero().get();
                thread.id.store(id, Release);
            }
        }
        if let Some(thread) = COUNTS.get(own.get()) {
            thread.calls.fetch_add(1, Relaxed);
        }
    });
}

// SAFETY: every method passes its arguments to the system's allocator unchanged and returns what
// that returns, so what holds for that holds for this. Counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's obligations are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above; the block came from the system's allocator.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count();
        // SAFETY: as above; the block came from the system's allocator.
        unsafe { System.dealloc(block, layout) }
    }
}
