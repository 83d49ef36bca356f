//! Rings as the vhost-user library sees them.
//!
//! The library keeps each ring's state in an object of a type of our choice. Ours passes
//! everything on to the library's own, and turns what it sees into commands for the packet worker:
//! a ring runs there while it is ready, enabled, and known in size and place.

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use vhost_user_backend::{VringMutex, VringStateGuard, VringStateMutGuard, VringT};
use virtio_queue::{Error as QueueError, QueueT};
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

use super::control_queue::ControlQueue;
use super::features::{RING_PACKED, control_queue, pairs};
use super::log_rules::LogChange;
use super::placement::Placement;
use crate::datapath::EndId;
use crate::datapath::command::{RingId, RingSetup};
use crate::datapath::counters::Counters;
use crate::datapath::notify::Notifier;
use crate::datapath::ring::RingLayout;

/// The guest memory of a session.
pub type SessionMemory = GuestMemoryAtomic<GuestMemoryMmap>;

/// What a ring needs to know that the library cannot tell it.
#[derive(Clone, Debug)]
pub struct RingContext {
    /// The end the session belongs to.
    pub end: EndId,
    /// Queue pairs the card can have.
    pub queue_pairs: usize,
    /// The packet workers.
    pub placement: Arc<Placement>,
    /// The features negotiated in the session.
    pub features: Arc<AtomicU64>,
    /// Counters of the link.
    pub counters: Arc<Counters>,
    /// The session's dirty log, while logging is on.
    pub log: Arc<Mutex<LogChange>>,
}

impl RingContext {
    /// Logs in `log` from now on. Once this returns, the log before it is not touched again.
    pub fn set_log(&self, log: LogChange) {
        self.placement.set_log(self.end, log.as_ref());
        *self.log.lock().unwrap_or_else(PoisonError::into_inner) = log;
    }
}

/// What a ring is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Frames, at a packet worker.
    Frames(RingId),
    /// Control commands.
    Control,
}

thread_local! {
    /// Context for the rings being made on this thread, and how many were made.
    static CONTEXT: RefCell<Option<(RingContext, usize)>> = const { RefCell::new(None) };
}

/// Runs `make`, which has the library construct its rings, with `context` for them. The library
/// constructs rings by `VringT::new`, which takes no argument for it.
pub fn with_context<T>(context: RingContext, make: impl FnOnce() -> T) -> T {
    CONTEXT.set(Some((context, 0)));
    let made = make();
    CONTEXT.set(None);
    made
}

impl fmt::Debug for LinkVring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The library's part has no Debug.
        let Self { index, state, .. } = self;
        f.debug_struct("LinkVring").field("index", index).field("state", state).finish()
    }
}

/// A ring: the library's own state and what the worker was told of it.
#[derive(Clone)]
pub struct LinkVring {
    inner: VringMutex<SessionMemory>,
    /// None for a ring made outside [`with_context`], which never runs.
    context: Option<RingContext>,
    /// Which ring it is, by its index in the device.
    index: usize,
    memory: SessionMemory,
    state: Arc<Mutex<RingState>>,
}

#[derive(Debug, Default)]
struct RingState {
    size: Option<u16>,
    /// Guest addresses of descriptor table, available ring and used ring.
    areas: Option<(u64, u64, u64)>,
    ready: bool,
    enabled: bool,
    kick: Option<OwnedFd>,
    call: Option<OwnedFd>,
    error: Option<OwnedFd>,
    /// Which ring it was set up as.
    role: Option<Role>,
    /// Serves it, if it is a control queue.
    control: Option<ControlQueue>,
}

impl RingState {
    /// What the worker needs to start the ring, if it may run.
    fn setup(&self, features: u64, base: u16) -> Option<io::Result<RingSetup>> {
        let (descriptors, available, used) = self.areas?;
        let layout = RingLayout { size: self.size?, descriptors, available, used };
        let kick = self.kick.as_ref()?;
        (self.ready && self.enabled).then(|| {
            Ok(RingSetup {
                layout,
                packed: features & RING_PACKED != 0,
                base,
                kick: kick.try_clone()?,
                call: notifier(self.call.as_ref())?,
                error: notifier(self.error.as_ref())?,
            })
        })
    }
}

fn notifier(fd: Option<&OwnedFd>) -> io::Result<Option<Notifier>> {
    Ok(fd.map(OwnedFd::try_clone).transpose()?.map(Notifier::new))
}

impl LinkVring {
    /// What this ring is with the features negotiated; `None` for a ring that has no use.
    fn role(&self, context: &RingContext) -> Option<Role> {
        let features = context.features.load(Relaxed);
        if control_queue(features, context.queue_pairs) == Some(self.index) {
            return Some(Role::Control);
        }
        let is_in_use = self.index < 2 * pairs(features, context.queue_pairs);
        RingId::from_index(self.index).filter(|_| is_in_use).map(Role::Frames)
    }

    /// Changes the state, and has the ring start, stop or restart accordingly.
    fn change(&self, change: impl FnOnce(&mut RingState)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let Some(context) = &self.context else {
            return;
        };
        let role = self.role(context);
        if let Some(Role::Frames(before)) = state.role
            && role != state.role
        {
            context.placement.change(context.end, before, |base| {
                self.keep_base(base);
                None
            });
        }
        if let Some(control) = state.control.take() {
            self.keep_base(Some(control.stop()));
        }
        state.role = role;
        match role {
            Some(Role::Frames(ring)) => context.placement.change(context.end, ring, |base| {
                self.keep_base(base);
                self.setup(&state, context)
            }),
            Some(Role::Control) => state.control = self.serve(&state, context),
            None => {}
        }
    }

    /// Starts to serve a control queue, if it may run.
    fn serve(&self, state: &RingState, context: &RingContext) -> Option<ControlQueue> {
        let setup = self.setup(state, context)?;
        ControlQueue::start(setup, self.memory.clone(), context.clone())
            .inspect_err(|error| {
                let error: &dyn std::error::Error = error;
                tracing::warn!(end = context.end.name(), error, "control queue not served");
            })
            .ok()
    }

    /// Keeps where the ring was stopped, for GET_VRING_BASE and for its next start.
    fn keep_base(&self, base: Option<u16>) {
        if let Some(base) = base {
            self.inner.set_queue_next_avail(base);
        }
    }

    /// How the ring is to run, if it is.
    fn setup(&self, state: &RingState, context: &RingContext) -> Option<RingSetup> {
        let features = context.features.load(Relaxed);
        let setup = state.setup(features, self.inner.queue_next_avail())?;
        setup
            .inspect_err(|error| {
                let end = context.end.name();
                tracing::error!(end, %error, "cannot keep a ring's eventfds");
            })
            .ok()
    }

    /// Changes an eventfd the worker writes to; the ring goes on.
    fn change_notifier(
        &self,
        file: Option<File>,
        slot: impl FnOnce(&mut RingState) -> &mut Option<OwnedFd>,
        set: impl FnOnce(&Placement, EndId, RingId, Option<Notifier>),
    ) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let fd = file.map(OwnedFd::from);
        let copy = notifier(fd.as_ref());
        *slot(&mut state) = fd;
        let (Some(role), Some(context)) = (state.role, &self.context) else {
            return;
        };
        match (role, copy) {
            (Role::Frames(ring), Ok(notifier)) => {
                set(&context.placement, context.end, ring, notifier);
            }
            (Role::Control, Ok(_)) => {
                if let Some(control) = state.control.take() {
                    self.keep_base(Some(control.stop()));
                    state.control = self.serve(&state, context);
                }
            }
            (_, Err(error)) => {
                tracing::error!(end = context.end.name(), %error, "cannot keep an eventfd");
            }
        }
    }
}

impl<'a> VringStateGuard<'a, SessionMemory> for LinkVring {
    type G = <VringMutex<SessionMemory> as VringStateGuard<'a, SessionMemory>>::G;
}

impl<'a> VringStateMutGuard<'a, SessionMemory> for LinkVring {
    type G = <VringMutex<SessionMemory> as VringStateMutGuard<'a, SessionMemory>>::G;
}

impl VringT<SessionMemory> for LinkVring {
    fn new(memory: SessionMemory, max_queue_size: u16) -> Result<Self, QueueError> {
        let context = CONTEXT.with_borrow_mut(|slot| {
            let (context, made) = slot.as_mut()?;
            let index = std::mem::replace(made, *made + 1);
            Some((context.clone(), index))
        });
        let (context, index) = context.unzip();
        Ok(Self {
            inner: VringMutex::new(memory.clone(), max_queue_size)?,
            memory,
            context,
            index: index.unwrap_or_default(),
            state: Arc::default(),
        })
    }

    fn get_ref(&self) -> <Self as VringStateGuard<'_, SessionMemory>>::G {
        self.inner.get_ref()
    }

    fn get_mut(&self) -> <Self as VringStateMutGuard<'_, SessionMemory>>::G {
        self.inner.get_mut()
    }

    fn add_used(&self, desc_index: u16, len: u32) -> Result<(), QueueError> {
        self.inner.add_used(desc_index, len)
    }

    fn signal_used_queue(&self) -> io::Result<()> {
        self.inner.signal_used_queue()
    }

    fn enable_notification(&self) -> Result<bool, QueueError> {
        self.inner.enable_notification()
    }

    fn disable_notification(&self) -> Result<(), QueueError> {
        self.inner.disable_notification()
    }

    fn needs_notification(&self) -> Result<bool, QueueError> {
        self.inner.needs_notification()
    }

    fn set_enabled(&self, enabled: bool) {
        self.inner.set_enabled(enabled);
        self.change(|state| state.enabled = enabled);
    }

    fn set_queue_info(
        &self,
        desc_table: u64,
        avail_ring: u64,
        used_ring: u64,
    ) -> Result<(), QueueError> {
        self.inner.set_queue_info(desc_table, avail_ring, used_ring)?;
        self.change(|state| state.areas = Some((desc_table, avail_ring, used_ring)));
        Ok(())
    }

    fn queue_next_avail(&self) -> u16 {
        self.inner.queue_next_avail()
    }

    fn set_queue_next_avail(&self, base: u16) {
        // Kept for GET_VRING_BASE of a ring that never ran, and for a packed ring that starts. A
        // split ring starts at the guest's used index.
        self.inner.set_queue_next_avail(base);
    }

    fn set_queue_next_used(&self, index: u16) {
        self.inner.set_queue_next_used(index);
    }

    fn queue_used_idx(&self) -> Result<u16, QueueError> {
        self.inner.queue_used_idx()
    }

    fn set_queue_size(&self, size: u16) {
        self.inner.set_queue_size(size);
        self.change(|state| state.size = Some(size));
    }

    fn set_queue_event_idx(&self, enabled: bool) {
        self.inner.set_queue_event_idx(enabled);
    }

    fn set_queue_ready(&self, ready: bool) {
        self.inner.set_queue_ready(ready);
        self.change(|state| state.ready = ready);
    }

    fn set_kick(&self, file: Option<File>) {
        let copy = file.as_ref().map(File::try_clone).transpose().unwrap_or_default();
        self.inner.set_kick(file);
        self.change(|state| state.kick = copy.map(OwnedFd::from));
    }

    fn read_kick(&self) -> io::Result<bool> {
        Ok(self.inner.get_ref().get_queue().ready())
    }

    fn set_call(&self, file: Option<File>) {
        self.change_notifier(file, |state| &mut state.call, Placement::set_call);
    }

    fn set_err(&self, file: Option<File>) {
        self.change_notifier(file, |state| &mut state.error, Placement::set_error);
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    fn ready() -> RingState {
        RingState {
            size: Some(256),
            areas: Some((0x1000, 0x2000, 0x3000)),
            ready: true,
            enabled: true,
            kick: Some(eventfd(0, EventfdFlags::CLOEXEC).unwrap()),
            ..RingState::default()
        }
    }

    #[test]
    fn setup_says_which_form_the_ring_has_and_where_it_resumes() {
        let setup = ready().setup(RING_PACKED, 0x8011).unwrap().unwrap();
        assert_eq!((setup.packed, setup.base), (true, 0x8011));
        assert_eq!(setup.layout.available, 0x2000);
        let setup = ready().setup(0, 17).unwrap().unwrap();
        assert!(!setup.packed);
    }

    #[test]
    fn t63_ring_runs_only_when_all_is_there() {
        let take: [fn(&mut RingState); 5] = [
            |state| state.size = None,
            |state| state.areas = None,
            |state| state.ready = false,
            |state| state.enabled = false,
            |state| state.kick = None,
        ];
        for take in take {
            let mut state = ready();
            take(&mut state);
            assert!(state.setup(0, 0).is_none());
        }
    }
}
