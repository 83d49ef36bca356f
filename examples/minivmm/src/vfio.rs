//! NICs of the host's that come to a guest and leave it: what the plugin is linked for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use anyhow::{Context as _, Result, ensure};
use event_manager::{SubscriberId, SubscriberOps as _};
use kvm_ioctls::VmFd;
use vmm_plugin::attach::{Attached, Attachments, GuestContainer, Opened};
use vmm_plugin::host::address::{PciAddress, PciAddressError};
use vmm_plugin::pci::{HostBridge, Options};
use vmm_plugin::vmm::Seam;
use vmm_plugin::vmm::event_manager::{FunctionNews, FunctionWatch};
use vmm_plugin::vmm::kvm::KvmVfioFiles;

use crate::Events;
use crate::control::Request;
use crate::layout::pci_options;
use crate::memory::Memory;

/// Reports of a NIC that are shown.
const REPORTS: usize = 100;

/// The NICs that the guest has.
pub struct Nics {
    /// What they share: an IOMMU address space, and the guest's memory in it.
    container: GuestContainer<Memory>,
    attachments: Attachments,
    pci: Arc<HostBridge>,
    watches: BTreeMap<PciAddress, SubscriberId>,
    requests: Sender<Request>,
}

impl Nics {
    /// None yet. What they ask for goes to `requests`.
    pub fn new(
        vm: &VmFd,
        memory: Arc<Memory>,
        seam: Seam,
        pci: Arc<HostBridge>,
        requests: Sender<Request>,
    ) -> Result<Self> {
        let container = GuestContainer::new(memory, Some(Arc::new(KvmVfioFiles::new(vm)?)));
        let attachments = Attachments::new(seam);
        Ok(Self { container, attachments, pci, watches: BTreeMap::new(), requests })
    }

    /// Gives a NIC that is bound to vfio-pci to the guest, which finds it when it next looks.
    pub fn attach(&mut self, address: PciAddress, events: &mut Events) -> Result<()> {
        let name = address.to_string();
        let place = self.pci.free().context("The PCI bus has no place left")?;
        let Opened { device, dma, reset } = self.container.open(address)?;
        let options = Options { reset, ..pci_options(place) };
        let function = self.attachments.attach_pci(&name, device, dma, options)?;
        // The kernel reset it as well as it can be alone, which may be a mere change of its power
        // state. All of its bus is ours and not in use: that is the moment for more, or the NIC might
        // remember where in memory its last driver had it write.
        if let Err(error) = function.reset() {
            eprintln!("minivmm: {address} comes as its last user left it: {error}");
        }
        self.pci.insert(place, function.clone());
        let requests = self.requests.clone();
        // A guest can cause as many as it likes, and shall not fill a log with them.
        let mut reports = 0..REPORTS;
        let watch = FunctionWatch::new(function, move |news| match news {
            FunctionNews::Report(report) => match reports.next().map(|report| REPORTS - report) {
                Some(1) => eprintln!("minivmm: {address}: {report}; no more is said of it"),
                Some(_) => eprintln!("minivmm: {address}: {report}"),
                None => {}
            },
            FunctionNews::Device(news) => {
                eprintln!("minivmm: {address}: {news:?}; it leaves the guest");
                let _ = requests.send(Request::new(format!("detach {address}")));
            }
        });
        self.watches.insert(address, events.add_subscriber(Box::new(watch)));
        Ok(())
    }

    /// Takes a NIC from the guest, which need not know: DMA and interrupts end, then its registers
    /// read as ones, as those of a card that was pulled out. With the last NIC memory is unpinned.
    pub fn detach(&mut self, address: PciAddress, events: &mut Events) -> Result<()> {
        let name = address.to_string();
        if let Some(watch) = self.watches.remove(&address) {
            drop(events.remove_subscriber(watch));
        }
        if let Some(Attached::Pci(function)) = self.attachments.get(&name) {
            self.pci.remove(&function);
        }
        let undone = self.attachments.detach(&name)?;
        ensure!(undone.is_empty(), "{name} left, but: {}", undone.join("; "));
        Ok(())
    }

    /// How often the guest left to each NIC since it was attached: a line for each kind of access,
    /// as in `0000:00:03.0 bar-reads 17`.
    pub fn counters(&self) -> String {
        let mut text = String::new();
        for name in self.attachments.names() {
            let Some(Attached::Pci(function)) = self.attachments.get(&name) else { continue };
            let counters = function.counters();
            let kinds = [
                ("bar-reads", counters.bar_reads),
                ("bar-writes", counters.bar_writes),
                ("config-reads", counters.config_reads),
                ("config-writes", counters.config_writes),
            ];
            text.extend(kinds.map(|(kind, count)| format!("{name} {kind} {count}\n")));
        }
        text
    }
}

/// A NIC as an operator names it: its address, or its directory in sysfs.
pub fn address(text: &str) -> Result<PciAddress, PciAddressError> {
    text.rsplit('/').next().unwrap_or(text).parse()
}
