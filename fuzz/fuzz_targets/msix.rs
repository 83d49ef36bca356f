//! Accesses to the MSI-X table and pending bits, and interrupts, in turn, against a model: none is
//! lost, none is delivered while masked, and what was written is read back.
//!
//! Input: 1 byte with the number of vectors less one (6 bits) and whether the kernel adds vectors
//! later (bit 7), then steps. A step is 1 byte of kind, 2 of place (little-endian), 1 of length
//! (its low 4 bits) and that many bytes.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use vmm_plugin::pci::{Function, Options, Windows};
use vmm_plugin::vfio::fake::{FakeFunction, Fired, Shape, capability};
use vmm_plugin::vmm::fake::FakeVmm;
use vmm_plugin::vmm::{Message, Space};

const BAR0: u64 = 0xe012_0000;
const BAR3: u64 = 0xe010_0000;
const PENDING: u64 = BAR3 + 0x2000;
/// Where the only capability is.
const CONTROL: u64 = 0x42;

/// PCI 3.0, 6.8.2, slowly.
struct Model {
    table: Vec<u8>,
    enabled: bool,
    masked: bool,
    pending: Vec<bool>,
}

impl Model {
    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes([0, 1, 2, 3].map(|byte| self.table[at + byte]))
    }

    fn write(&mut self, at: usize, data: &[u8]) {
        for (at, byte) in (at..).zip(data) {
            if let Some(place) = self.table.get_mut(at) {
                *place = match at % 16 {
                    12 => byte & 1,
                    13..16 => 0,
                    _ => *byte,
                };
            }
        }
    }

    /// Delivers what is pending and not masked.
    fn deliver(&mut self) -> Vec<Message> {
        let mut delivered = Vec::new();
        for n in 0..self.pending.len() {
            let open = self.enabled && !self.masked && self.word(16 * n + 12) & 1 == 0;
            if open && std::mem::take(&mut self.pending[n]) {
                let low = u64::from(self.word(16 * n) & !3);
                let address = u64::from(self.word(16 * n + 4)) << 32 | low;
                delivered.push(Message { address, data: self.word(16 * n + 8) });
            }
        }
        delivered
    }
}

fn sorted(mut messages: Vec<Message>) -> Vec<Message> {
    messages.sort_by_key(|message| (message.address, message.data));
    messages
}

fuzz_target!(|data: &[u8]| {
    let Some(([bits], mut data)) = data.split_first_chunk() else { return };
    let count = u16::from(bits & 63) + 1;
    let shape = Shape {
        capabilities: vec![capability::msix(count, (3, 0), (3, 0x2000))],
        msix_grows: bits & 128 != 0,
        ..Shape::nic()
    };
    let device = Arc::new(FakeFunction::new(&shape).expect("memory"));
    let vmm = FakeVmm::new();
    let options = Options {
        windows: Windows { memory: vec![BAR3..=BAR0 + 0x1_ffff], ports: None },
        ..Options::default()
    };
    let function = Function::attach(device.clone(), vmm.seam(), options).expect("a good device");
    assert!(function.assign_bar(0, BAR0) && function.assign_bar(3, BAR3));
    function.config_write(4, &[6, 0]);
    let mut model = Model {
        table: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0].repeat(count.into()),
        enabled: false,
        masked: false,
        pending: vec![false; count.into()],
    };
    while let Some(([kind, low, high, length], rest)) = data.split_first_chunk() {
        let length = usize::from(length & 15).min(rest.len());
        let (bytes, rest) = rest.split_at(length);
        data = rest;
        let place = u16::from_le_bytes([*low, *high]);
        match kind & 7 {
            0..=2 => {
                // Anywhere in the table, and over its end.
                let at = usize::from(place) % model.table.len();
                model.write(at, bytes);
                vmm.write(Space::Mmio, BAR3 + at as u64, bytes);
            }
            3 => {
                // Vector control, as drivers write it.
                let at = usize::from(place % count) * 16 + 12;
                model.write(at, &[*high & 1, 0, 0, 0]);
                vmm.write(Space::Mmio, BAR3 + at as u64, &[*high & 1, 0, 0, 0]);
            }
            4 => {
                let (enabled, masked) = (place & 1 != 0, place & 2 != 0);
                if enabled != model.enabled {
                    model.pending.fill(false);
                }
                (model.enabled, model.masked) = (enabled, masked);
                let control = [0, u8::from(enabled) << 7 | u8::from(masked) << 6];
                function.config_write(CONTROL, &control);
            }
            5 | 6 => {
                let n = place % count;
                let fired = device.fire_msix(n.into());
                assert_eq!(fired == Fired::Lost, !model.enabled);
                model.pending[usize::from(n)] |= model.enabled;
            }
            _ => {
                // The pending bits are read only.
                vmm.write(Space::Mmio, PENDING + u64::from(place & 7), bytes);
            }
        }
        let expected = model.deliver();
        assert_eq!(sorted(vmm.take_delivered()), sorted(expected));
        let mut pending = [0; 8];
        vmm.read(Space::Mmio, PENDING, &mut pending);
        let bits = model.pending.iter().rev().fold(0, |bits, bit| bits << 1 | u64::from(*bit));
        assert_eq!(u64::from_le_bytes(pending), bits);
    }
    let mut table = vec![0; model.table.len()];
    vmm.read(Space::Mmio, BAR3, &mut table);
    assert_eq!(table, model.table);
    assert_eq!(function.take_reports(), []);
    function.detach();
    assert_eq!((vmm.placed().len(), vmm.slots().len(), vmm.routes()), (0, 0, (0, 0)));
    assert_eq!((device.triggers(), device.mappings()), (0, 0));
});
