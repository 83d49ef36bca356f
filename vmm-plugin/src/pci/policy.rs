//! What of a device a guest is shown, where that is a choice.

/// Choices about a function's configuration space. The default shows the least.
///
/// What is no choice is in the documentation of [`crate::pci`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Shows Vital Product Data, to be read. Off by default: reading takes the device
    /// milliseconds, some devices hang on it, and it tells serial numbers.
    pub vital_product_data: bool,
    /// Passes what the guest writes into vendor-specific capabilities. Off by default: what that
    /// does is known to the vendor alone, and it can be a window past everything that is trapped
    /// (virtio 1.2, 4.1.4.9, reaches all BARs with the MSI-X table). They can always be read:
    /// a virtio driver finds its registers there.
    pub vendor_writes: bool,
    /// The VMM puts the function below a PCIe root port of its own. Off by default: a function on
    /// the root bus is shown as a root complex integrated endpoint, which has no link (PCIe 5.0,
    /// 7.5.3.2).
    pub below_root_port: bool,
}
