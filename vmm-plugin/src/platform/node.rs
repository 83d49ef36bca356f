//! What a guest's device tree says about a device, as plain data.

/// How an interrupt is signalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// High as long as the device asserts.
    Level,
    /// One rising edge each time.
    Edge,
}

/// A region of registers, an entry of `reg`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRegion {
    /// Its name in `reg-names`, if the host's node has any.
    pub name: Option<String>,
    /// Guest physical address of its first byte.
    pub base: u64,
    /// Length in bytes.
    pub size: u64,
}

/// An interrupt, an entry of `interrupts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInterrupt {
    /// Its name in `interrupt-names`, if the host's node has any.
    pub name: Option<String>,
    /// Number of the shared peripheral interrupt, 0 being the first of those.
    pub spi: u32,
    /// How it is signalled.
    pub trigger: Trigger,
}

impl NodeInterrupt {
    /// Its three cells below an ARM GIC: kind (0: shared peripheral), number, flags (1: rising
    /// edge, 4: level, high).
    ///
    /// ```
    /// use vmm_plugin::platform::{NodeInterrupt, Trigger};
    ///
    /// let interrupt = NodeInterrupt { name: None, spi: 112, trigger: Trigger::Level };
    /// assert_eq!(interrupt.cells(), [0, 112, 4]);
    /// ```
    #[must_use]
    pub fn cells(&self) -> [u32; 3] {
        let flags = match self.trigger {
            Trigger::Level => 4,
            Trigger::Edge => 1,
        };
        [0, self.spi, flags]
    }
}

/// A device's node in the guest's device tree (Devicetree 0.4, 2.3).
///
/// Properties that only its driver knows (clocks, PHY, MAC address) come from an overlay; it
/// finds the node by its symbol. There is no `iommus`: the guest has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformNode {
    /// Its label, under which `__symbols__` has it.
    pub symbol: String,
    /// `compatible` of the host's node, most specific first.
    pub compatible: Vec<String>,
    /// `reg`, in VFIO's order, which is the host's.
    pub regions: Vec<NodeRegion>,
    /// `interrupts`, in VFIO's order, which is the host's.
    pub interrupts: Vec<NodeInterrupt>,
    /// The device's DMA is coherent with the processor's caches.
    pub dma_coherent: bool,
}

impl PlatformNode {
    /// The region that is called `name`.
    #[must_use]
    pub fn region(&self, name: &str) -> Option<&NodeRegion> {
        self.regions.iter().find(|region| region.name.as_deref() == Some(name))
    }

    /// The interrupt that is called `name`.
    #[must_use]
    pub fn interrupt(&self, name: &str) -> Option<&NodeInterrupt> {
        self.interrupts.iter().find(|interrupt| interrupt.name.as_deref() == Some(name))
    }
}
