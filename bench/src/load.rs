//! Frames as fast as a link takes them, driven by one thread that polls both ends.
//!
//! So many frames are under way at most as the receiver has buffers for, so a link that is fast enough loses none.

use std::io;
use std::time::{Duration, Instant};

use crate::header::NetHeader;
use crate::pair::QueuePair;
use crate::ring::DeviceFault;

/// Frames that are sent, and taken, at a time.
const BATCH: usize = 64;
/// When nothing has come for so long although the link has taken all, what is missing is lost.
const LOST_AFTER: Duration = Duration::from_millis(50);
/// When the link has taken nothing for so long, it has stopped.
const STALLED_AFTER: Duration = Duration::from_secs(3);

/// Why no load can be driven.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The link broke the rules of virtio.
    #[error("The link broke a ring")]
    Device(#[from] DeviceFault),
    /// An eventfd failed.
    #[error("Cannot notify the link")]
    Notify(#[from] io::Error),
    /// The link takes no frames any more.
    #[error("The link has taken no frame for {} s", STALLED_AFTER.as_secs())]
    Stalled,
    /// The link has signalled an error for a ring.
    #[error("The link has stopped a ring for a fault of the driver")]
    RingStopped,
    /// Frames came that were never sent.
    #[error("{0} frames arrived that are not those sent")]
    Corrupt(u64),
}

/// What is sent one way.
#[derive(Clone, Debug)]
pub struct Template {
    /// The virtio-net header.
    pub header: NetHeader,
    /// The frame.
    pub frame: Vec<u8>,
    /// Where its stamp is (see [`crate::frame`]).
    pub stamp_at: usize,
    /// Frames under way at most.
    pub window: usize,
}

/// What went one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Frames that arrived.
    pub frames: u64,
    /// Frames that did not.
    pub lost: u64,
}

#[derive(Debug)]
struct Way {
    template: Template,
    under_way: usize,
    count: Count,
    corrupt: u64,
    /// Frames that had arrived when progress was last looked for, and when there was some.
    progress: (u64, Instant),
}

/// Load on one link: frames from either end, or both, to the other.
#[derive(Debug)]
pub struct Load<'a> {
    ends: [&'a mut QueuePair; 2],
    /// What each end sends.
    ways: [Option<Way>; 2],
}

impl<'a> Load<'a> {
    /// Prepares to send these templates: that of the first end to the second, and the other way round.
    pub fn new(ends: [&'a mut QueuePair; 2], templates: [Option<Template>; 2]) -> Self {
        let mut ways = [None, None];
        let parts = ends.into_iter().zip(templates).zip(&mut ways);
        let ends = parts.map(|((end, template), way)| {
            end.disable_receive_calls();
            *way = template.map(|template| {
                end.fill(template.header, &template.frame, template.stamp_at);
                Way {
                    template,
                    under_way: 0,
                    count: Count::default(),
                    corrupt: 0,
                    progress: (0, Instant::now()),
                }
            });
            end
        });
        let ends: Vec<_> = ends.collect();
        let ends = ends.try_into().unwrap_or_else(|_| unreachable!("an array of two was mapped"));
        Self { ends, ways }
    }

    /// Takes what has come and, if `sending`, sends as much as may be under way. Returns the frames moved.
    #[inline]
    pub fn turn(&mut self, sending: bool) -> Result<usize, LoadError> {
        let mut moved = 0;
        for (index, way) in self.ways.iter_mut().enumerate() {
            let Some(way) = way else { continue };
            let stamp_at = way.template.stamp_at;
            let corrupt = &mut way.corrupt;
            let received = self.ends[1 - index].receive(BATCH, |frame| {
                *corrupt += u64::from(frame.number(stamp_at).is_none());
            })?;
            way.count.frames += received as u64;
            // Frames that were given up may come after all.
            way.under_way = way.under_way.saturating_sub(received);
            // The buffers must be back before there are frames for them.
            self.ends[1 - index].flush()?;
            let sender = &mut self.ends[index];
            sender.reap()?;
            let room = if sending { way.template.window - way.under_way } else { 0 };
            let sent = sender.send(room.min(BATCH));
            way.under_way += sent;
            sender.flush()?;
            moved += received + sent;
        }
        Ok(moved)
    }

    /// Looks whether frames still arrive: gives up those that were lost, and fails when the link has stopped.
    pub fn check(&mut self, now: Instant) -> Result<(), LoadError> {
        for (index, way) in self.ways.iter_mut().enumerate() {
            let Some(way) = way else { continue };
            if way.corrupt > 0 {
                return Err(LoadError::Corrupt(way.corrupt));
            }
            let (frames, since) = way.progress;
            let quiet = now.saturating_duration_since(since);
            if frames != way.count.frames || way.under_way == 0 {
                way.progress = (way.count.frames, now);
            } else if self.ends[index].unsent() == 0 && quiet > LOST_AFTER {
                way.count.lost += way.under_way as u64;
                way.under_way = 0;
                way.progress = (frames, now);
            } else if quiet > STALLED_AFTER {
                let broken = self.ends.iter().any(|end| end.is_broken());
                return Err(if broken { LoadError::RingStopped } else { LoadError::Stalled });
            }
        }
        Ok(())
    }

    /// What has gone from each end to the other so far.
    pub fn counts(&self) -> [Count; 2] {
        self.ways.each_ref().map(|way| way.as_ref().map(|way| way.count).unwrap_or_default())
    }

    /// Whether nothing is under way.
    fn is_empty(&self) -> bool {
        let empty = |way: &Option<Way>| way.as_ref().is_none_or(|way| way.under_way == 0);
        self.ways.iter().all(empty) && self.ends.iter().all(|end| end.unsent() == 0)
    }
}

/// Drives load on several links for so long, in turn.
pub fn drive(loads: &mut [Load<'_>], duration: Duration) -> Result<(), LoadError> {
    let end = Instant::now() + duration;
    // The clock costs as much as some frames do.
    let turns = 16_usize.div_ceil(loads.len().max(1));
    loop {
        let mut moved = 0;
        for _ in 0..turns {
            for load in loads.iter_mut() {
                moved += load.turn(true)?;
            }
        }
        if moved == 0 {
            // Where there is one CPU only, the link needs it.
            std::thread::yield_now();
        }
        let now = Instant::now();
        for load in loads.iter_mut() {
            load.check(now)?;
        }
        if now >= end {
            return Ok(());
        }
    }
}

/// Sends nothing more, and waits until what is under way has arrived or is lost.
pub fn finish(loads: &mut [Load<'_>]) -> Result<(), LoadError> {
    while !loads.iter().all(Load::is_empty) {
        for load in loads.iter_mut() {
            load.turn(false)?;
            load.check(Instant::now())?;
        }
        std::thread::yield_now();
    }
    Ok(())
}
