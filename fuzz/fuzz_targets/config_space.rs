//! A hostile guest and a hostile device, in turn, around `pci::Function`: nothing panics, BARs are
//! placed in their windows only, what must not reach the device does not, and detaching leaves
//! nothing.
//!
//! Input: 1 byte whose bits choose the policy and whether the device can be reset, then steps. A
//! step is 1 byte of kind, 2 of place (little-endian), 1 of length (its low 4 bits) and that many
//! bytes. Steps of kind 0 at the beginning change the device before it is attached.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use vmm_plugin::pci::{Function, Options, Policy, Windows};
use vmm_plugin::vfio::fake::{FakeBar, FakeFunction, Shape, capability};
use vmm_plugin::vmm::fake::FakeVmm;
use vmm_plugin::vmm::{GuestRange, Space};

const MEMORY: u64 = 0xe000_0000;
const LINE: u32 = 11;
/// BIST, latency timer, expansion ROM: a guest never reaches the device's.
const KEPT: [usize; 6] = [0x0d, 0x0f, 0x30, 0x31, 0x32, 0x33];

struct Step<'a> {
    kind: u8,
    place: u16,
    data: &'a [u8],
}

fn next<'a>(input: &mut &'a [u8]) -> Option<Step<'a>> {
    let ([kind, low, high, length], rest) = input.split_first_chunk()?;
    let length = usize::from(length & 15).min(rest.len());
    let (data, rest) = rest.split_at(length);
    *input = rest;
    Some(Step { kind: kind & 7, place: u16::from_le_bytes([*low, *high]), data })
}

fn options(bits: u8) -> Options {
    Options {
        windows: Windows {
            memory: vec![MEMORY..=MEMORY + 0xff_ffff, 1 << 40..=(2 << 40) - 1],
            ports: (bits & 8 == 0).then_some(0xc000..=0xcfff),
        },
        line: (bits & 16 == 0).then_some(LINE),
        policy: Policy {
            vital_product_data: bits & 1 != 0,
            vendor_writes: bits & 2 != 0,
            below_root_port: bits & 4 != 0,
        },
        ..Options::default()
    }
}

fn shape(bits: u8) -> Shape {
    let mut shape = Shape::nic();
    shape.resettable = bits & 32 == 0;
    shape.bars[4] = Some(FakeBar::memory_64(0x4000));
    shape.capabilities.insert(1, (3, vec![0; 6]));
    shape.capabilities.push(capability::vendor(&[0xaa; 13]));
    shape
}

fn inside(options: &Options, range: &GuestRange) -> bool {
    options.windows.contain(*range)
}

fuzz_target!(|data: &[u8]| {
    let Some(([bits], mut data)) = data.split_first_chunk() else { return };
    let device = Arc::new(FakeFunction::new(&shape(*bits)).expect("memory"));
    let vmm = FakeVmm::new();
    let options = options(*bits);
    while data.first().is_some_and(|kind| kind & 7 == 0) {
        let Some(step) = next(&mut data) else { return };
        device.poke(usize::from(step.place) & 0xfff, step.data);
    }
    let kept = KEPT.map(|at| device.peek(at));
    let attached = Function::attach(device.clone(), vmm.seam(), options.clone());
    let Ok(function) = attached else {
        assert_eq!((vmm.placed().len(), vmm.slots().len(), vmm.routes()), (0, 0, (0, 0)));
        assert_eq!((device.triggers(), device.mappings()), (0, 0));
        return;
    };
    let mut poked = false;
    while let Some(step) = next(&mut data) {
        let place = u64::from(step.place);
        match step.kind {
            0 => {
                device.poke(usize::from(step.place) & 0xfff, step.data);
                poked = true;
            }
            1 => {
                let mut first = vec![0; step.data.len()];
                let mut again = first.clone();
                function.config_read(place, &mut first);
                function.config_read(place, &mut again);
                assert_eq!(first, again, "a read changed something");
            }
            2..=4 => function.config_write(place & 0xfff, step.data),
            5 => {
                let placed = vmm.placed();
                let Some(range) = placed.get(usize::from(step.place >> 12)) else { continue };
                let address = range.base + place % range.size;
                let mut data = step.data.to_vec();
                vmm.write(range.space, address, &data);
                vmm.read(range.space, address, &mut data);
            }
            6 => match place & 3 {
                0 => device.assert_intx(step.data.first().is_some_and(|on| on & 1 != 0)),
                1 => drop(device.fire_msi(u32::from(step.place >> 2))),
                2 => drop(device.fire_msix(u32::from(step.place >> 2))),
                _ => {
                    vmm.acknowledge(LINE);
                    device.settle();
                }
            },
            _ if step.place == 0xffff => device.vanish(),
            _ if step.place & 1 == 0 => drop(function.reset()),
            _ => drop(function.take_reports()),
        }
        assert!(vmm.placed().iter().all(|range| inside(&options, range)));
        for (base, size) in vmm.slots() {
            let range = GuestRange { space: Space::Mmio, base, size };
            assert!(inside(&options, &range), "a slot at {base:#x}");
        }
        if !poked {
            assert_eq!(KEPT.map(|at| device.peek(at)), kept);
            assert_eq!(device.command() & !0x0547, 0);
        }
    }
    function.detach();
    assert_eq!((vmm.placed().len(), vmm.slots().len(), vmm.routes()), (0, 0, (0, 0)));
    assert_eq!((device.triggers(), device.mappings()), (0, 0));
});
