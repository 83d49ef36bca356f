//! Random writes to configuration space against a model: byte by byte, with one table of which
//! bits a guest can change and one of which bits reach the device.

use proptest::prelude::*;
use vmm_plugin::vfio::fake::{Shape, capability};

use crate::bench::Bench;

/// Offsets of the capabilities that [`shape`] has.
const POWER: usize = 0x40;
const MSI: usize = 0x48;
const VENDOR: usize = 0x60;
const EXPRESS: usize = 0x70;

fn shape() -> Shape {
    Shape {
        capabilities: vec![
            capability::power(),
            capability::msi(0, true),
            capability::vendor(&[0xaa; 13]),
            capability::express(),
        ],
        resettable: false,
        extended: vec![(3, vec![1, 2, 3, 4, 5, 6, 7, 8])],
        ..Shape::nic()
    }
}

/// What a guest can change, and what of that the device sees as the guest wrote it.
fn masks() -> (Vec<u8>, Vec<u8>) {
    let (mut kept, mut passed) = (vec![0; 4096], vec![0; 4096]);
    let mut set = |at: usize, bytes: &[u8]| kept[at..at + bytes.len()].copy_from_slice(bytes);
    set(4, &[0x47, 0x05]);
    set(0xd, &[0xff]);
    // BARs: 128 KiB, 32 ports, 16 KiB.
    set(0x10, &[0, 0, 0xfe, 0xff]);
    set(0x18, &[0xe0, 0xff, 0, 0]);
    set(0x1c, &[0, 0xc0, 0xff, 0xff]);
    set(0x3c, &[0xff]);
    set(MSI + 2, &[0x71]);
    set(MSI + 4, &[0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    set(MSI + 16, &[1]);
    set(EXPRESS + 8, &[0xff, 0x79]);
    set(EXPRESS + 0x28, &[0x1f]);
    // Cache line size.
    passed[0xc] = 0xff;
    (kept, passed)
}

proptest! {
    #[test]
    fn guest_changes_what_the_tables_say(
        writes in prop::collection::vec(
            (
                prop_oneof![8 => 0..0xb0_u64, 1 => 0xb0..4200_u64, 1 => any::<u64>()],
                prop::collection::vec(any::<u8>(), 1..9),
            ),
            1..40,
        ),
    ) {
        let bench = Bench::new(&shape());
        let (kept, passed) = masks();
        let mut model = vec![0; 4096];
        bench.function.config_read(0, &mut model);
        let device: Vec<u8> = (0..4096).map(|at| bench.device.peek(at)).collect();
        for (offset, mut data) in writes {
            for (at, byte) in data.iter_mut().enumerate() {
                let Some(place) = offset.checked_add(at as u64) else { break };
                let Ok(place) = usize::try_from(place) else { break };
                // The power state, which would take BARs away, has tests of its own.
                if place == POWER + 4 {
                    *byte = 0;
                }
                // A device that cannot be reset has no such bit.
                if place == EXPRESS + 9 {
                    *byte &= 0x7f;
                }
                if let Some(model) = model.get_mut(place) {
                    let mask = kept[place] | passed[place];
                    *model = *model & !mask | *byte & mask;
                }
            }
            bench.function.config_write(offset, &data);
            let mut seen = vec![0; 4096];
            bench.function.config_read(0, &mut seen);
            for (at, (seen, model)) in seen.iter().zip(&model).enumerate() {
                prop_assert_eq!(seen, model, "at {:#x}", at);
            }
        }
        for (at, before) in device.iter().enumerate() {
            let now = bench.device.peek(at);
            let expected = match at {
                // Decoding is always on; INTx, errors and bus mastering are the guest's.
                4 => model[at] & 0x44 | 3,
                5 => model[at],
                _ if at == EXPRESS + 8 => before & !0x10 | model[at] & 0x10,
                _ if at == EXPRESS + 9 => before & !0x78 | model[at] & 0x78,
                _ => before & !passed[at] | model[at] & passed[at],
            };
            prop_assert_eq!(now, expected, "the device's byte at {:#x}", at);
        }
        let mut vendor = [0; 13];
        bench.function.config_read(VENDOR as u64 + 3, &mut vendor);
        prop_assert_eq!(vendor, [0xaa; 13]);
    }

    /// A device that fills its configuration space with anything.
    #[test]
    fn any_device_is_survived(
        bytes in prop::collection::vec(any::<u8>(), 256..1024),
        place in prop_oneof![Just(0x34_usize), Just(0x100), 0..0x400_usize],
        writes in prop::collection::vec((0..0x400_u64, any::<u32>()), 0..20),
    ) {
        let device = std::sync::Arc::new(
            vmm_plugin::vfio::fake::FakeFunction::new(&Shape::nic()).unwrap(),
        );
        device.poke(place, &bytes);
        // An endpoint that is there, with a list.
        device.poke(0, &[0x86, 0x80]);
        device.poke(0x0e, &[0]);
        let vmm = vmm_plugin::vmm::fake::FakeVmm::new();
        let options = crate::bench::options();
        let Ok(function) =
            vmm_plugin::pci::Function::attach(device.clone(), vmm.seam(), options)
        else {
            return Ok(());
        };
        let bench = Bench { device, vmm, function };
        prop_assert!(bench.capabilities().len() <= 48);
        prop_assert!(bench.extended().len() <= 960);
        for (offset, value) in writes {
            bench.write32(offset, value);
        }
        bench.function.detach();
        bench.assert_nothing_left();
    }
}
