//! A link that went away comes back: the card waits for its end, and then for its successor.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use vmm_sys_util::timerfd::TimerFd;

use super::card::Card;

/// How often a successor is looked for.
const EVERY: Duration = Duration::from_millis(100);

/// Waits for a card's link.
pub struct Watch {
    card: Arc<Card>,
    timer: TimerFd,
    connection: Option<RawFd>,
}

impl Watch {
    /// For the event loop.
    pub fn new(card: Arc<Card>) -> Result<Self> {
        let timer = TimerFd::new().context("Cannot make a timer")?;
        Ok(Self { card, timer, connection: None })
    }

    fn wait_for_end(&mut self, ops: &mut EventOps) {
        self.connection = self.card.connection();
        if let Some(connection) = self.connection {
            let events = EventSet::HANG_UP | EventSet::READ_HANG_UP;
            // It was just opened, so nobody else waits for it.
            let _ = ops.add(Events::new_raw(connection, events));
        }
    }
}

impl MutEventSubscriber for Watch {
    fn init(&mut self, ops: &mut EventOps) {
        let _ = ops.add(Events::new(&self.timer, EventSet::IN));
        self.wait_for_end(ops);
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if Some(events.fd()) == self.connection {
            self.connection = None;
            let _ = ops.remove(events);
            eprintln!("minivmm: {:?} has lost its link", self.card);
            self.card.lost();
            let _ = self.timer.reset(EVERY, Some(EVERY));
            return;
        }
        let _ = self.timer.wait();
        match self.card.reconnect() {
            Ok(()) => {
                let _ = self.timer.clear();
                eprintln!("minivmm: {:?} has a link again", self.card);
                self.wait_for_end(ops);
            }
            // Not there yet, or not in order yet.
            Err(_) => self.card.lost(),
        }
    }
}
