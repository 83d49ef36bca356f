//! Where a guest finds a device's registers and interrupts.

use std::ops::RangeInclusive;

/// An interrupt of the guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// The VMM's number, as [`Interrupts::level`](crate::vmm::Interrupts::level) takes it: for
    /// KVM with a GIC the number of the shared peripheral interrupt.
    pub line: u32,
    /// Number of the shared peripheral interrupt, 0 being the first, for the guest's tree.
    pub spi: u32,
}

/// One address for each region and one line for each interrupt, in VFIO's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Guest physical addresses, multiples of the page size.
    pub regions: Vec<u64>,
    /// Interrupts.
    pub lines: Vec<Line>,
}

/// Regions that fit nowhere.
#[derive(Debug, thiserror::Error)]
#[error("{needed:#x} bytes of registers do not fit {first:#x} to {last:#x}: give more addresses")]
pub struct PlacementError {
    needed: u64,
    first: u64,
    last: u64,
}

impl Placement {
    /// Puts regions of `sizes` bytes one behind the other into `window`, each at a multiple of
    /// `page`, a power of two.
    ///
    /// # Errors
    /// They do not fit.
    ///
    /// ```
    /// use vmm_plugin::platform::Placement;
    ///
    /// let placement = Placement::pack(&[0x1800, 0x10], 0xc00_0000..=0xc00_ffff, 0x1000).unwrap();
    /// assert_eq!(placement.regions, [0xc00_0000, 0xc00_2000]);
    /// ```
    pub fn pack(
        sizes: &[u64],
        window: RangeInclusive<u64>,
        page: u64,
    ) -> Result<Self, PlacementError> {
        let (first, last) = window.into_inner();
        let needed = sizes.iter().fold(0, |sum: u64, size| sum.saturating_add(*size));
        let error = || PlacementError { needed, first, last };
        let mut regions = Vec::new();
        let mut next = Some(first);
        for size in sizes {
            let base = next.and_then(|next| next.checked_next_multiple_of(page.max(1)));
            let base = base.ok_or_else(error)?;
            let end = base.checked_add(size.saturating_sub(1)).filter(|end| *end <= last);
            next = end.ok_or_else(error)?.checked_add(1);
            regions.push(base);
        }
        Ok(Self { regions, lines: Vec::new() })
    }
}
