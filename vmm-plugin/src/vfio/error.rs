//! What VFIO refused.

use std::io;
use std::path::PathBuf;

use crate::vmm::SeamError;

/// Why something about a VFIO device or address space did not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VfioError {
    /// A file of the VFIO interface cannot be opened.
    #[error("{} cannot be opened: {source}; {advice}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What to do about it.
        advice: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A group has a device that somebody else drives.
    #[error(
        "IOMMU group {group} is not viable: a device of it is still bound to a host driver; bind \
         all of /sys/kernel/iommu_groups/{group}/devices to VFIO, or unbind them"
    )]
    NotViable {
        /// The group's number.
        group: u32,
    },
    /// The IOMMU does not confine a device enough.
    #[error(
        "{what} is not permitted, and the kernel's log says why: the IOMMU does not remap \
         interrupts, so that a guest could send the host any (switch that on in the firmware's \
         setup or, for a guest that you trust, write Y to \
         /sys/module/{module}/parameters/allow_unsafe_interrupts), or the firmware has reserved \
         memory for the device, which cannot leave the host then"
    )]
    NotPermitted {
        /// What was asked for, with the device or group.
        what: String,
        /// The kernel's module that refused.
        module: &'static str,
    },
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
    /// Not something that this crate can work with.
    #[error("{what} is not supported: {why}")]
    Unsupported {
        /// Which file, device or version.
        what: String,
        /// What is missing, and what to do.
        why: &'static str,
    },
    /// The hypervisor could not be told.
    #[error("{what} could not be announced to the hypervisor: {source}")]
    Hypervisor {
        /// Which group or device.
        what: String,
        /// The hypervisor's reason.
        source: SeamError,
    },
}

impl VfioError {
    /// The kernel's `module` did not let `what` use the IOMMU.
    pub(crate) fn not_used(what: String, module: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::PermissionDenied => Self::NotPermitted { what, module },
            _ => Self::Refused { what, source },
        }
    }

    /// The kernel refused `what`, because of `source`.
    pub(crate) fn refused(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Refused { what, source }
    }
}
