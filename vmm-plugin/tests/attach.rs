//! Devices that come and go while a guest runs.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};

use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmm_plugin::attach::{Attached, Attachments, SharedDma};
use vmm_plugin::dma::GuestDma;
use vmm_plugin::pci::{Options, Windows};
use vmm_plugin::platform::{HostNode, Placement};
use vmm_plugin::vfio::fake::{FakeAddressSpace, FakeFunction, FakePlatform, FakeRegion, Shape};
use vmm_plugin::vmm::fake::FakeVmm;

const MEMORY: usize = 1 << 20;

fn options() -> Options {
    Options {
        windows: Windows { memory: vec![0xe000_0000..=0xefff_ffff], ports: Some(0xc000..=0xcfff) },
        line: Some(11),
        ..Options::default()
    }
}

fn dma(space: &Arc<FakeAddressSpace>) -> SharedDma {
    let memory =
        Arc::new(GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap());
    Arc::new(Mutex::new(GuestDma::new(space.clone(), &memory).unwrap()))
}

#[test]
fn memory_is_mapped_until_the_last_device_is_quiet() {
    let (vmm, space) = (FakeVmm::new(), Arc::new(FakeAddressSpace::pc()));
    let attachments = Attachments::new(vmm.seam());
    let first = Arc::new(FakeFunction::new(&Shape::nic()).unwrap());
    let second = Arc::new(FakePlatform::new(&[FakeRegion::mappable(0x1000)], &[], true).unwrap());
    let shared = dma(&space);
    let function =
        attachments.attach_pci("nic0", first.clone(), shared.clone(), options()).unwrap();
    let placement = Placement { regions: vec![0xc00_0000], lines: Vec::new() };
    attachments
        .attach_platform("mgbe0", second.clone(), shared, HostNode::default(), &placement)
        .unwrap();
    assert_eq!(attachments.names(), ["mgbe0", "nic0"]);
    assert!(matches!(attachments.get("nic0"), Some(Attached::Pci(_))));
    function.config_write(4, &[7, 0]);
    assert_eq!(first.command() & 4, 4);
    assert_eq!(attachments.detach("nic0").unwrap(), [] as [&str; 0]);
    assert_eq!(first.command() & 4, 0, "no DMA of a detached device");
    assert_eq!(space.mapped_bytes(), MEMORY as u64);
    // The VMM's bus may still have it.
    let mut id = [0; 2];
    function.config_read(0, &mut id);
    assert_eq!(id, [0xff; 2]);
    drop(attachments);
    assert_eq!(space.mapped_bytes(), 0);
    assert_eq!((vmm.placed().len(), vmm.slots().len()), (0, 0));
    assert_eq!((second.triggers(), second.mappings()), (0, 0));
}

#[test]
fn names_are_unique_and_known() {
    let (vmm, space) = (FakeVmm::new(), Arc::new(FakeAddressSpace::pc()));
    let attachments = Attachments::new(vmm.seam());
    let device = Arc::new(FakeFunction::new(&Shape::nic()).unwrap());
    let shared = dma(&space);
    attachments.attach_pci("nic0", device.clone(), shared.clone(), options()).unwrap();
    let error = attachments.attach_pci("nic0", device, shared, options()).unwrap_err();
    assert!(error.to_string().contains("nic0"), "{error}");
    assert_eq!(attachments.detach("nic1").unwrap_err().to_string(), "no device is called nic1");
    // A failure leaves neither a name nor mapped memory.
    attachments.detach("nic0").unwrap();
    let gone = Arc::new(FakeFunction::new(&Shape::nic()).unwrap());
    gone.vanish();
    attachments.attach_pci("nic0", gone, dma(&space), options()).unwrap_err();
    assert_eq!(attachments.names(), [] as [&str; 0]);
    assert_eq!(space.mapped_bytes(), 0);
}

#[test]
fn a_thousand_cycles_leave_nothing() {
    let (vmm, space) = (FakeVmm::new(), Arc::new(FakeAddressSpace::pc()));
    let attachments = Attachments::new(vmm.seam());
    let device = Arc::new(FakeFunction::new(&Shape::nic()).unwrap());
    for _ in 0..1000 {
        let function =
            attachments.attach_pci("nic0", device.clone(), dma(&space), options()).unwrap();
        function.assign_bar(0, 0xe000_0000);
        function.assign_bar(2, 0xc000);
        function.assign_bar(3, 0xe010_0000);
        function.config_write(4, &[7, 0]);
        assert_eq!(vmm.placed().len(), 3);
        assert_eq!(space.mapped_bytes(), MEMORY as u64);
        assert_eq!(attachments.detach("nic0").unwrap(), [] as [&str; 0]);
        assert_eq!((vmm.placed().len(), vmm.slots().len(), vmm.routes()), (0, 0, (0, 0)));
        assert_eq!((device.triggers(), device.mappings()), (0, 0));
        assert_eq!(space.mapped(), []);
    }
}
