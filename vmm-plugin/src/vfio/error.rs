//! What VFIO refused.

use std::io;

/// Why something about a VFIO device or address space did not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VfioError {
    /// An ioctl failed.
    #[error("{what} was refused by the kernel: {source}")]
    Refused {
        /// What was asked for, with the device and the value.
        what: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The device does not answer any more, or all of its registers read as ones.
    #[error("{device} is gone: it was unplugged, lost power, or hangs; see the kernel's log")]
    Gone {
        /// Which device.
        device: String,
    },
    /// Out of a region's, index's or mapping's bounds.
    #[error("{what} is out of bounds")]
    OutOfBounds {
        /// What was asked for, with the value and the bounds.
        what: String,
    },
}
