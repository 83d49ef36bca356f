//! The rig: a whole PC in QEMU with an IOMMU, a NIC and KVM, as a library for tests and for the demo.
