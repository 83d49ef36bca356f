//! Logging to standard error, bounded: a hostile peer must not fill the host's journal.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::layer::{Context, Filter, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Lines a call site may write per [`WINDOW`].
pub const LINES: u32 = 10;
/// See [`LINES`].
pub const WINDOW: Duration = Duration::from_secs(5);

/// Lets [`LINES`] lines per [`WINDOW`] pass for each call site.
#[derive(Debug, Default)]
pub struct RateLimit {
    sites: Mutex<HashMap<Identifier, (Instant, u32)>>,
}

impl RateLimit {
    fn admit(&self, site: Identifier, now: Instant) -> bool {
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        let (start, lines) = sites.entry(site).or_insert((now, 0));
        if now.duration_since(*start) >= WINDOW {
            (*start, *lines) = (now, 0);
        }
        *lines = lines.saturating_add(1);
        *lines <= LINES
    }
}

impl<S: Subscriber> Filter<S> for RateLimit {
    fn enabled(&self, _metadata: &Metadata<'_>, _context: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &tracing::Event<'_>, _context: &Context<'_, S>) -> bool {
        self.admit(event.metadata().callsite(), Instant::now())
    }

    fn callsite_enabled(&self, _metadata: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }
}

/// Starts logging to standard error, at the level that the environment variable NETVM_LOG says
/// (default `info`).
pub fn init() {
    let level = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var("NETVM_LOG")
        .from_env_lossy();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        // When standard error is gone, saying so on standard error would be a panic.
        .log_internal_errors(false)
        .with_filter(RateLimit::default());
    tracing_subscriber::registry().with(level).with(lines).init();
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_flood_from_one_call_site_is_cut_and_others_are_heard() {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .with_filter(RateLimit::default());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            for _ in 0..100_000 {
                tracing::warn!("flood");
            }
            tracing::warn!("another");
        });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().filter(|line| line.contains("flood")).count(), LINES as usize);
        assert!(text.contains("another"));
    }

    #[test]
    fn a_call_site_is_heard_again_after_the_window() {
        let limit = RateLimit::default();
        let site =
            tracing::callsite!(name: "site", kind: tracing::metadata::Kind::EVENT, fields: message);
        let site = tracing::Callsite::metadata(site).callsite();
        let start = Instant::now();
        for _ in 0..LINES {
            assert!(limit.admit(site.clone(), start));
        }
        assert!(!limit.admit(site.clone(), start));
        assert!(limit.admit(site, start + WINDOW));
    }
}
