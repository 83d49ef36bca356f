//! Why guest memory is not where devices could find it.

use crate::vfio::VfioError;

/// Why guest memory could not be mapped for DMA.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DmaError {
    /// The address space says nothing about itself.
    #[error("what the IOMMU can map is not known: {0}")]
    Limits(#[source] VfioError),
    /// A region is not in this process.
    #[error("guest memory at {iova:#x} is not mapped in this process")]
    NotHere {
        /// Its guest physical address.
        iova: u64,
    },
    /// A region beyond the last address.
    #[error("guest memory at {iova:#x} with {size:#x} bytes is beyond the last address")]
    Wraps {
        /// Its guest physical address.
        iova: u64,
        /// Its length.
        size: u64,
    },
    /// Not whole pages.
    #[error(
        "guest memory at {first:#x} with {size:#x} bytes (here at {address:#x}) does not consist \
         of the IOMMU's pages of {granule:#x} bytes: align the guest's memory to them"
    )]
    Unaligned {
        /// Its guest physical address.
        first: u64,
        /// Its length.
        size: u64,
        /// Where it is in this process.
        address: u64,
        /// Smallest page of the IOMMU.
        granule: u64,
    },
    /// In a range that the IOMMU keeps.
    #[error(
        "guest memory {first:#x}..={last:#x} reaches into addresses that are reserved for \
         interrupts or firmware (/sys/kernel/iommu_groups/*/reserved_regions); usable are \
         {usable:#x?}: leave a hole there in the guest's memory"
    )]
    Reserved {
        /// Its first address.
        first: u64,
        /// Its last address.
        last: u64,
        /// What can be used, first and last address each.
        usable: Vec<(u64, u64)>,
    },
    /// More mappings than the kernel has.
    #[error(
        "guest memory needs {needed} DMA mappings, and the kernel has {left} left: use fewer, \
         larger regions, or raise dma_entry_limit of vfio_iommu_type1"
    )]
    TooMany {
        /// How many are needed.
        needed: usize,
        /// How many there are.
        left: u32,
    },
    /// More memory than this process may lock.
    #[error(
        "devices need {needed} bytes of guest memory locked, and this process may lock {limit} \
         of which {locked} are: raise RLIMIT_MEMLOCK to {} (LimitMEMLOCK= of systemd, ulimit -l \
         in KiB), or give it CAP_IPC_LOCK", needed.saturating_add(*locked)
    )]
    Memlock {
        /// Bytes that are to be locked.
        needed: u64,
        /// Bytes that may be locked.
        limit: u64,
        /// Bytes that are locked already.
        locked: u64,
    },
    /// The kernel refuses a mapping.
    #[error("guest memory {first:#x}..={last:#x} cannot be mapped for DMA: {source}")]
    Map {
        /// Its first address.
        first: u64,
        /// Its last address.
        last: u64,
        /// The kernel's reason.
        source: VfioError,
    },
    /// The kernel keeps a mapping.
    #[error("guest memory {first:#x}..={last:#x} stays mapped for DMA: {source}")]
    Unmap {
        /// Its first address.
        first: u64,
        /// Its last address.
        last: u64,
        /// The kernel's reason.
        source: VfioError,
    },
    /// A change failed, and so did going back.
    #[error("{first}; what was before could not be restored: {second}; stop the guest's devices")]
    NotRestored {
        /// Why the change failed.
        first: Box<DmaError>,
        /// Why going back failed.
        second: Box<DmaError>,
    },
}
