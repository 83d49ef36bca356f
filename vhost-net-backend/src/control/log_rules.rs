//! When writes to a guest's memory are logged, and in what.
//!
//! A frontend gives the log first and then turns logging on (VHOST_F_LOG_ALL), or the other way
//! round when it starts a device in the middle of a migration. While both are there, the log has a
//! bit for every page of the guest's memory: a page written and not marked would be lost on the
//! way to the other host.

use std::fs::File;
use std::sync::Arc;

use zerocopy::native_endian::U64;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::message::Message;
use super::refusal::Refusal;
use super::region::Region;
use crate::datapath::log::DirtyLog;

/// The body of SET_LOG_BASE.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct LogPlace {
    size: U64,
    offset: U64,
}

/// What the worker is to do: log in this, or not at all.
pub type LogChange = Option<Arc<DirtyLog>>;

/// State of logging in one session.
#[derive(Debug, Default)]
pub struct LogRules {
    log: Option<Arc<DirtyLog>>,
    on: bool,
}

impl LogRules {
    /// SET_LOG_BASE. Returns what the worker is to do, if that changed.
    pub fn set_base(
        &mut self,
        message: Message,
        unsealed: bool,
        regions: &[Region],
    ) -> Result<Option<LogChange>, Refusal> {
        let request = message.request;
        let size = || Refusal::Size { request, len: message.body.len() };
        let place = LogPlace::read_from_bytes(&message.body).map_err(|_| size())?;
        let file = message.fds.into_iter().next();
        let file = File::from(file.ok_or(Refusal::Fds { request, count: 0 })?);
        let log = DirtyLog::map(file, place.offset.get(), place.size.get(), unsealed)?;
        check(&log, regions)?;
        let log = Arc::new(log);
        self.log = Some(Arc::clone(&log));
        Ok(self.on.then_some(Some(log)))
    }

    /// SET_FEATURES, with or without VHOST_F_LOG_ALL. When logging ends, the log is forgotten: its
    /// frontend is done with it, and does not keep it as long as the memory grows. Returns what
    /// the worker is to do, if that changed.
    pub fn set_on(&mut self, on: bool, regions: &[Region]) -> Result<Option<LogChange>, Refusal> {
        let was_on = std::mem::replace(&mut self.on, on);
        match (was_on, on) {
            (false, true) => {
                self.check_covers(regions)?;
                Ok(self.log.clone().map(Some))
            }
            (true, false) => {
                self.log = None;
                Ok(Some(None))
            }
            (true, true) | (false, false) => Ok(None),
        }
    }

    /// Checks memory that is about to be used.
    pub fn check_covers(&self, regions: &[Region]) -> Result<(), Refusal> {
        match &self.log {
            Some(log) if self.on => check(log, regions),
            Some(_) | None => Ok(()),
        }
    }
}

fn check(log: &DirtyLog, regions: &[Region]) -> Result<(), Refusal> {
    let is_outside = |region: &&Region| !log.covers(region.guest_address.get(), region.size.get());
    match regions.iter().find(is_outside) {
        Some(region) => Err(Refusal::LogShort(region.guest_address.get())),
        None => Ok(()),
    }
}
