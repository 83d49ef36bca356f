//! What a survey says about a NIC.

use serde::{Deserialize, Serialize};

use super::{Interrupt, Region};

/// An Ethernet controller that a tree describes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlatformNic {
    /// Full path of its node, such as `/soc/ethernet@6800000`.
    pub path: String,
    /// What Linux calls the device in `/sys/bus/platform/devices`, such as `6800000.ethernet`.
    pub device: String,
    /// `compatible`, most specific first.
    pub compatible: Vec<String>,
    /// Linux' driver for it; `None` if the binding is not known here.
    pub driver: Option<&'static str>,
    /// Whether `status` is absent or `okay`.
    pub enabled: bool,
    /// Its registers as the CPU sees them, in the order of `reg`, which is the order of VFIO's
    /// regions.
    pub regions: Vec<Region>,
    /// Its interrupts, in the order of VFIO's.
    pub interrupts: Vec<Interrupt>,
    /// What it refers to: clocks, resets, power domains, pin states, and whatever else.
    pub uses: Vec<Use>,
    /// How it is wired to the network.
    pub link: Link,
    /// Whether the hardware keeps its DMA coherent with the CPUs' caches (`dma-coherent`).
    pub dma_coherent: bool,
    /// Where its DMA is confined: empty without an IOMMU.
    pub streams: Vec<Stream>,
    /// Its address in the tree, if it has one.
    pub mac: Option<[u8; 6]>,
    /// What else is tied to it.
    pub ties: Vec<Tie>,
    /// Whether it can be given to a guest.
    pub verdict: Verdict,
    /// What must hold besides, for a NIC that can be given away.
    pub conditions: Vec<String>,
}

/// A reference of the NIC's node to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Use {
    /// The property, such as `clocks`.
    pub property: String,
    /// The name beside it (`clock-names`, `reset-names` and so on).
    pub name: Option<String>,
    /// Full path of the node that it refers to.
    pub of: String,
    /// What follows the phandle.
    pub arguments: Vec<u32>,
}

/// How a NIC is wired to the network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Link {
    /// `phy-mode` or `phy-connection-type`.
    pub mode: Option<String>,
    /// Full path of the PHY.
    pub phy: Option<String>,
    /// Full path of the MDIO bus that the PHY is on.
    pub mdio: Option<String>,
    /// Whether that bus is the NIC's own.
    pub own_mdio: bool,
    /// Whether the link is fixed (`fixed-link`) or negotiated in band (`managed`).
    pub fixed: bool,
}

/// A stream of DMA at an IOMMU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stream {
    /// Full path of the IOMMU.
    pub iommu: String,
    /// Its specifier: a stream id, perhaps a mask.
    pub specifier: Vec<u32>,
    /// Whether the IOMMU's node is enabled: Linux ignores a disabled one.
    pub enabled: bool,
}

/// Something else that a NIC is tied to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tie {
    /// How.
    pub kind: TieKind,
    /// Full path of the other node.
    pub with: String,
}

/// How two nodes are tied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TieKind {
    /// The NIC's PHY is on the other's MDIO bus.
    PhyThere,
    /// The other's PHY is on the NIC's MDIO bus.
    PhyHere,
    /// One stream of DMA: they are in one IOMMU group.
    Stream,
    /// One clock gate.
    Clock,
    /// One reset line.
    Reset,
    /// One power domain.
    PowerDomain,
    /// A switch whose frames to the CPU pass through the NIC.
    Switch,
    /// The device that does the NIC's DMA.
    DmaMaster,
}

/// Whether a NIC can be given to a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum Verdict {
    /// It can.
    Passable {
        /// Full paths of the NICs that go with it, or all stay.
        with: Vec<String>,
        /// Why, in a sentence.
        reason: String,
    },
    /// It can once the tree says what IOMMU confines it.
    NeedsIommu {
        /// What is missing.
        missing: Missing,
        /// Full path of the IOMMU.
        iommu: String,
        /// Full paths of the NICs that go with it, or all stay.
        with: Vec<String>,
        /// What is missing, in a sentence.
        reason: String,
    },
    /// It cannot.
    Impassable {
        /// Why not.
        cause: Cause,
        /// Why not, in a sentence.
        reason: String,
    },
}

impl Verdict {
    /// Why.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Passable { reason, .. }
            | Self::NeedsIommu { reason, .. }
            | Self::Impassable { reason, .. } => reason,
        }
    }

    /// The NICs that go with it.
    #[must_use]
    pub fn with(&self) -> &[String] {
        match self {
            Self::Passable { with, .. } | Self::NeedsIommu { with, .. } => with,
            Self::Impassable { .. } => &[],
        }
    }

    /// Whether overlays can be made for it.
    #[must_use]
    pub fn possible(&self) -> bool {
        !matches!(self, Self::Impassable { .. })
    }
}

/// What an IOMMU lacks in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// It is disabled.
    Enable,
    /// The NIC's node does not name it; the streams are known from the board file.
    Binding,
    /// The NIC's node does not name it, and the streams must be given.
    Streams,
}

/// Why a NIC cannot be given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// What it refers to does not fit the tree.
    Malformed,
    /// Its binding is not known here.
    UnknownBinding,
    /// Another device does its DMA.
    Composite,
    /// It is on a PCI bus: it goes as a PCI device.
    Pci,
    /// It is behind a USB controller, which can go as a whole.
    Usb,
    /// The board does not use it.
    Disabled,
    /// It does no DMA and has no IOMMU.
    Programmed,
    /// Its registers cannot be reached by the CPU.
    NoRegisters,
    /// It has no interrupt.
    NoInterrupt,
    /// The tree has no IOMMU that it could be behind.
    NoIommu,
    /// Its driver writes registers that other devices share.
    SharedRegisters,
    /// Its DMA goes through memory that is set aside on the host.
    ReservedMemory,
    /// Its PHY is reached through a device that cannot go with it.
    PhyElsewhere,
    /// Another device shares its stream of DMA.
    SharedStream,
}

/// How the native driver is kept away on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeepAway {
    /// The node says that it is something that no driver knows. It holds from the first moment of
    /// the boot, which matters for drivers that leave the NIC in a state that the next cannot use.
    Compatible,
    /// The node stays as it is, and `driver_override` names vfio-platform: for NICs whose reset
    /// driver in vfio-platform goes by `compatible`. The native driver may have it until then.
    DriverOverride,
}
