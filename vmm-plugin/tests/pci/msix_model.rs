//! MSI-X against a model: no interrupt is lost, and none is delivered while masked.

use proptest::prelude::*;
use vmm_plugin::vfio::fake::{Fired, Shape};
use vmm_plugin::vmm::Message;

use crate::bench::{BAR3, Bench};

const VECTORS: usize = 5;

#[derive(Clone, Debug)]
enum Step {
    Enable(bool),
    MaskAll(bool),
    Mask(usize, bool),
    Message(usize, u32),
    Fire(usize),
    /// Any bytes anywhere in the table.
    Table(u64, Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    let vector = 0..VECTORS;
    prop_oneof![
        1 => any::<bool>().prop_map(Step::Enable),
        2 => any::<bool>().prop_map(Step::MaskAll),
        6 => (vector.clone(), any::<bool>()).prop_map(|(n, masked)| Step::Mask(n, masked)),
        3 => (vector.clone(), any::<u32>()).prop_map(|(n, data)| Step::Message(n, data)),
        8 => vector.prop_map(Step::Fire),
        1 => (0..80_u64, prop::collection::vec(any::<u8>(), 1..9))
            .prop_map(|(at, bytes)| Step::Table(at, bytes)),
    ]
}

/// The specification, slowly.
struct Model {
    table: Vec<u8>,
    enabled: bool,
    masked: bool,
    pending: [bool; VECTORS],
    delivered: Vec<Message>,
}

impl Model {
    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.table[at..at + 4].try_into().unwrap())
    }

    fn open(&self, n: usize) -> bool {
        self.enabled && !self.masked && self.word(16 * n + 12) & 1 == 0
    }

    fn deliver(&mut self) {
        for n in 0..VECTORS {
            if self.pending[n] && self.open(n) {
                self.pending[n] = false;
                let address =
                    u64::from(self.word(16 * n + 4)) << 32 | u64::from(self.word(16 * n) & !3);
                self.delivered.push(Message { address, data: self.word(16 * n + 8) });
            }
        }
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        for (at, byte) in (at as usize..).zip(bytes) {
            if at < self.table.len() {
                self.table[at] = match at % 16 {
                    12 => byte & 1,
                    13..16 => 0,
                    _ => *byte,
                };
            }
        }
    }
}

fn run(shape: &Shape, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let bench = Bench::running(shape);
    let control = bench.capability(0x11) + 2;
    let mut model = Model {
        table: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0].repeat(VECTORS),
        enabled: false,
        masked: false,
        pending: [false; VECTORS],
        delivered: Vec::new(),
    };
    for step in steps {
        match step {
            Step::Enable(enabled) => {
                if enabled != model.enabled {
                    model.pending = [false; VECTORS];
                }
                model.enabled = enabled;
            }
            Step::MaskAll(masked) => model.masked = masked,
            Step::Mask(n, masked) => {
                model.write(16 * n as u64 + 12, &[masked.into()]);
                bench.set_memory32(BAR3 + 16 * n as u32 + 12, masked.into());
            }
            Step::Message(n, data) => {
                model.write(16 * n as u64 + 8, &data.to_le_bytes());
                bench.set_memory32(BAR3 + 16 * n as u32 + 8, data);
            }
            Step::Fire(n) => {
                let fired = bench.device.fire_msix(n as u32);
                prop_assert_eq!(fired == Fired::Lost, !model.enabled);
                model.pending[n] |= model.enabled;
            }
            Step::Table(at, ref bytes) => {
                // What is behind the table is the device's.
                let end = bytes.len().min(80 - at as usize);
                model.write(at, &bytes[..end]);
                let at = u64::from(BAR3) + at;
                bench.vmm.write(vmm_plugin::vmm::Space::Mmio, at, &bytes[..end]);
            }
        }
        if matches!(step, Step::Enable(_) | Step::MaskAll(_)) {
            let value = u16::from(model.enabled) << 15 | u16::from(model.masked) << 14;
            bench.write16(control, value);
            prop_assert_eq!(bench.read16(control), value | 4);
        }
        model.deliver();
        let mut delivered = bench.vmm.take_delivered();
        let mut expected = std::mem::take(&mut model.delivered);
        let key = |message: &Message| (message.address, message.data);
        delivered.sort_by_key(key);
        expected.sort_by_key(key);
        prop_assert_eq!(delivered, expected);
        let mut bits = 0;
        for n in 0..VECTORS {
            bits |= u32::from(model.pending[n]) << n;
        }
        prop_assert_eq!(bench.memory32(BAR3 + 0x2000), bits);
        let mut table = vec![0; model.table.len()];
        bench.vmm.read(vmm_plugin::vmm::Space::Mmio, BAR3.into(), &mut table);
        prop_assert_eq!(&table, &model.table);
    }
    prop_assert_eq!(bench.function.take_reports(), []);
    bench.function.detach();
    bench.assert_nothing_left();
    Ok(())
}

proptest! {
    #[test]
    fn no_interrupt_is_lost_and_none_comes_while_masked(
        steps in prop::collection::vec(step(), 1..60),
        grows in any::<bool>(),
    ) {
        run(&Shape { msix_grows: grows, ..Shape::nic() }, steps)?;
    }
}
