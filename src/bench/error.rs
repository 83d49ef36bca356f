//! Why nothing could be measured.

use std::io;
use std::path::PathBuf;

use netvm_bench::load::LoadError;
use netvm_bench::session::SessionError;

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// There is no link to measure.
    #[error(
        "netvm-link is neither beside this program nor in PATH; run `make build` or install it"
    )]
    NoLink,
    /// A link did not start.
    #[error("The link did not start ({0}); what it says is above")]
    LinkEnded(String),
    /// A link does not answer.
    #[error("The link does not answer its supervisor")]
    Report(#[source] io::Error),
    /// A card could not be connected.
    #[error("Cannot connect to the link")]
    Session(#[from] SessionError),
    /// Frames could not be sent through a link.
    #[error("Cannot drive the link")]
    Load(#[from] LoadError),
    /// This machine failed.
    #[error("Cannot {action}")]
    System {
        /// What could not be done.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The drawing cannot be written.
    #[error("Cannot write {}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl BenchError {
    /// For `map_err`: what could not be done.
    pub fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { action, source: source.into() }
    }
}
