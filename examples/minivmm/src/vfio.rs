//! A NIC of the host's in the guest: what the plugin is linked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use kvm_ioctls::VmFd;
use vmm_plugin::dma::GuestDma;
use vmm_plugin::host::address::{DeviceName, PciAddress};
use vmm_plugin::host::device::Device;
use vmm_plugin::host::sysfs::Sysfs;
use vmm_plugin::pci::Function;
use vmm_plugin::vfio::{AttachedGroup, Container, Group, OpenDevice};
use vmm_plugin::vmm::kvm::KvmVfioFiles;

use crate::memory::Memory;
use crate::pci::PciBus;

/// The devices of a guest and the guest's memory, mapped for all of them.
pub struct Passthrough {
    container: Arc<Container>,
    groups: BTreeMap<u32, Arc<AttachedGroup>>,
    kvm: Arc<KvmVfioFiles>,
    dma: Option<GuestDma>,
}

impl Passthrough {
    /// Nothing yet.
    pub fn new(vm: &VmFd) -> Result<Self> {
        let container = Arc::new(Container::open()?);
        let kvm = Arc::new(KvmVfioFiles::new(vm)?);
        Ok(Self { container, groups: BTreeMap::new(), kvm, dma: None })
    }

    /// Opens a device that is bound to vfio-pci, and lets it reach the guest's memory.
    pub fn open(&mut self, address: PciAddress, memory: &Memory) -> Result<Arc<OpenDevice>> {
        let facts = Device::read(&Sysfs::default(), &DeviceName::Pci(address))?;
        let group = facts.group.with_context(|| {
            format!("{address} has no IOMMU group; switch the IOMMU on in firmware and kernel")
        })?;
        if !self.groups.contains_key(&group.number) {
            let opened = Group::open(group.number).with_context(|| {
                format!("{address} cannot be passed through; bind it to vfio-pci first")
            })?;
            let attached = self.container.attach(opened, Some(self.kvm.clone()))?;
            self.groups.insert(group.number, attached);
        }
        // Mapped once for all groups, as soon as there is one.
        if self.dma.is_none() {
            let dma = GuestDma::new(self.container.clone(), &Arc::new(memory.clone()));
            self.dma = Some(dma.context("The guest's memory cannot be mapped for devices")?);
        }
        let group = self.groups.get(&group.number).context("It was just added")?;
        Ok(Arc::new(group.device(&address.to_string())?))
    }
}

/// Waits for what a function has to tell, and takes it from the guest when it has to go.
pub struct Watch {
    pci: Arc<PciBus>,
    device: usize,
    address: PciAddress,
}

impl Watch {
    /// For the event loop: `device` is the function's number on the bus.
    pub fn new(pci: Arc<PciBus>, device: usize, address: PciAddress) -> Self {
        Self { pci, device, address }
    }
}

/// What an event says.
const REPORTS: u32 = 0;
const ERROR: u32 = 1;
const WANTED: u32 = 2;

impl MutEventSubscriber for Watch {
    fn init(&mut self, ops: &mut EventOps) {
        let Some(function) = self.pci.function(self.device) else { return };
        let sources = [
            (function.reports_ready(), REPORTS),
            (function.errors(), ERROR),
            (function.requests(), WANTED),
        ];
        for (source, data) in sources {
            // It was just made: nobody else waits for it.
            let _ = ops.add(Events::with_data(source, data, EventSet::IN));
        }
    }

    fn process(&mut self, events: Events, _ops: &mut EventOps) {
        let Some(function) = self.pci.function(self.device) else { return };
        let Self { address, .. } = self;
        match events.data() {
            REPORTS => {
                for report in function.take_reports() {
                    eprintln!("minivmm: {address}: {report}");
                }
                return;
            }
            ERROR => {
                let _ = function.errors().read();
                eprintln!("minivmm: {address} has an uncorrectable error; it leaves the guest");
            }
            _ => {
                let _ = function.requests().read();
                eprintln!("minivmm: the host wants {address} back; it leaves the guest");
            }
        }
        function.detach();
    }
}

/// A device's address as `--vfio` takes it.
pub fn address(text: &str) -> Result<PciAddress> {
    let shown = "a PCI address is DOMAIN:BUS:DEVICE.FUNCTION, for instance 0000:00:03.0";
    text.parse().map_err(|_| anyhow!("{shown}"))
}

/// How often the guest left to a NIC since it was attached: a line for each kind of access, as in
/// `0000:00:03.0 bar-reads 17`.
pub fn counters(pci: &PciBus, device: usize, address: PciAddress) -> String {
    let Some(counters) = pci.function(device).map(Function::counters) else { return String::new() };
    let kinds = [
        ("bar-reads", counters.bar_reads),
        ("bar-writes", counters.bar_writes),
        ("config-reads", counters.config_reads),
        ("config-writes", counters.config_writes),
    ];
    kinds.iter().map(|(kind, count)| format!("{address} {kind} {count}\n")).collect()
}
