//! Which kernel modules netvm's image holds.
//!
//! Wired Ethernet of every kind that the kernel has. Wireless cards are left out: they need an
//! access point's name and secret, a supplicant and firmware, which the declaration has no place
//! for; their drivers can be packed as extra modules.

/// Without these netvm cannot work.
pub(super) const NEEDED: [&str; 14] = [
    "virtio_pci",
    "virtio_net",
    "virtio_console",
    "bridge",
    "nf_tables",
    "nf_conntrack",
    "nfnetlink",
    "nft_chain_nat",
    "nft_connlimit",
    "nft_ct",
    "nft_fib_inet",
    "nft_fib_ipv4",
    "nft_masq",
    "nft_nat",
];

/// Packed where the kernel has them: parts of nf_tables that newer kernels have built in, and buses
/// that a card may sit on.
pub(super) const USEFUL: [&str; 8] = [
    "virtio_mmio",
    "nft_meta_bridge",
    "nft_objref",
    "ehci_pci",
    "ohci_pci",
    "uhci_hcd",
    "xhci_pci",
    "xhci_plat_hcd",
];

/// Every module below these directories is packed.
pub(super) const DIRECTORIES: [&str; 4] = [
    "kernel/drivers/net/ethernet",
    "kernel/drivers/net/phy",
    "kernel/drivers/net/usb",
    "kernel/drivers/net/vmxnet3",
];

/// Modules below [`DIRECTORIES`] that are no Ethernet cards: modems, phones,
/// and a switch chip.
const LEFT_OUT: [&str; 9] = [
    "hso",
    "qmi_wwan",
    "huawei_cdc_ncm",
    "cdc_mbim",
    "cdc_phonet",
    "ipheth",
    "sierra_net",
    "kalmia",
    "mlxsw_spectrum",
];

/// Whether a module found below [`DIRECTORIES`] is not packed.
pub(super) fn is_left_out(name: &str) -> bool {
    LEFT_OUT.contains(&name)
}
