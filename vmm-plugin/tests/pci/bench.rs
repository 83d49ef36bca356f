//! A function of a fake device in a fake VMM.

use std::sync::Arc;

use vmm_plugin::pci::{Function, Options, Windows};
use vmm_plugin::vfio::fake::{FakeFunction, Shape};
use vmm_plugin::vmm::Space;
use vmm_plugin::vmm::fake::FakeVmm;

pub const LINE: u32 = 11;
pub const COMMAND: u64 = 4;
pub const MEMORY: u16 = 2;
pub const BUS_MASTER: u16 = 4;
/// Where BARs are put.
pub const BAR0: u32 = 0xe000_0000;
pub const BAR2: u32 = 0xc000;
pub const BAR3: u32 = 0xe010_0000;

pub struct Bench {
    pub device: Arc<FakeFunction>,
    pub vmm: FakeVmm,
    pub function: Function,
}

pub fn options() -> Options {
    Options {
        windows: Windows { memory: vec![0xe000_0000..=0xefff_ffff], ports: Some(0xc000..=0xcfff) },
        line: Some(LINE),
        ..Options::default()
    }
}

impl Bench {
    pub fn new(shape: &Shape) -> Self {
        Self::with(shape, options())
    }

    pub fn with(shape: &Shape, options: Options) -> Self {
        let device = Arc::new(FakeFunction::new(shape).unwrap());
        let vmm = FakeVmm::new();
        let function = Function::attach(device.clone(), vmm.seam(), options).unwrap();
        Self { device, vmm, function }
    }

    /// A NIC whose guest has placed its BARs and lets it work.
    pub fn running(shape: &Shape) -> Self {
        let bench = Self::new(shape);
        bench.write32(0x10, BAR0);
        bench.write32(0x18, BAR2);
        bench.write32(0x1c, BAR3);
        bench.write16(COMMAND, 7);
        bench
    }

    pub fn read8(&self, offset: u64) -> u8 {
        let mut data = [0];
        self.function.config_read(offset, &mut data);
        data[0]
    }

    pub fn read16(&self, offset: u64) -> u16 {
        let mut data = [0; 2];
        self.function.config_read(offset, &mut data);
        u16::from_le_bytes(data)
    }

    pub fn read32(&self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.function.config_read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    pub fn write16(&self, offset: u64, value: u16) {
        self.function.config_write(offset, &value.to_le_bytes());
    }

    pub fn write32(&self, offset: u64, value: u32) {
        self.function.config_write(offset, &value.to_le_bytes());
    }

    pub fn memory32(&self, address: u32) -> u32 {
        let mut data = [0; 4];
        self.vmm.read(Space::Mmio, address.into(), &mut data);
        u32::from_le_bytes(data)
    }

    pub fn set_memory32(&self, address: u32, value: u32) {
        self.vmm.write(Space::Mmio, address.into(), &value.to_le_bytes());
    }

    /// The list as a guest walks it: ID and offset.
    pub fn capabilities(&self) -> Vec<(u8, u64)> {
        let mut found = Vec::new();
        let mut at = u64::from(self.read8(0x34));
        while at != 0 && found.len() < 64 {
            found.push((self.read8(at), at));
            at = self.read8(at + 1).into();
        }
        found
    }

    pub fn capability(&self, id: u8) -> u64 {
        self.capabilities().into_iter().find(|(found, _)| *found == id).unwrap().1
    }

    /// The extended list as a guest walks it: ID and offset.
    pub fn extended(&self) -> Vec<(u16, u64)> {
        let mut found = Vec::new();
        let mut at = 0x100;
        while at != 0 && found.len() < 1000 {
            let header = self.read32(at);
            if header == 0 {
                break;
            }
            found.push(((header & 0xffff) as u16, at));
            at = u64::from(header >> 20);
        }
        found
    }

    /// Nothing of the function is left anywhere.
    pub fn assert_nothing_left(&self) {
        assert_eq!(self.vmm.placed(), []);
        assert_eq!(self.vmm.slots(), []);
        assert_eq!(self.vmm.routes(), (0, 0));
        assert_eq!(self.device.triggers(), 0);
        assert_eq!(self.device.mappings(), 0);
    }
}
