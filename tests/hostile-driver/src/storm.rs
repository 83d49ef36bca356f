//! Interrupts, as many as the card can make.

use std::fs::File;
use std::io::Read as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::function::{Function, Registers};

/// Bytes of BAR 0, and of the table of vectors in BAR 3.
const BAR: usize = 0x2_0000;
const TABLE: usize = 5 * 16;

/// Offsets in BAR 0 (Intel 82574 datasheet, 10.2.4).
mod register {
    pub const CAUSE: usize = 0x00c0;
    pub const RATE: usize = 0x00c4;
    pub const CAUSE_SET: usize = 0x00c8;
    pub const MASK_SET: usize = 0x00d0;
    pub const MASK_CLEAR: usize = 0x00d8;
    pub const VECTORS: usize = 0x00e4;
    pub const RATES: usize = 0x00e8;
}

/// The causes of the five vectors, and a vector for each: 0 to 4, valid.
const CAUSES: u32 = 0x1f << 20;
const VECTORS: u32 = 0x000c_ba98;
/// Causes of a card without vectors: a frame sent, a link that changed, a frame received.
const OLD_CAUSES: u32 = 1 << 0 | 1 << 2 | 1 << 7;

const MSIX: u8 = 0x11;
const MSIX_CONTROL: u64 = 2;
const MSIX_ENABLE: u16 = 1 << 15;
/// Messages to the first processor: a vector that Linux does not use, so all it does is count it.
const MESSAGE_ADDRESS: u32 = 0xfee0_0000;
const MESSAGE_DATA: u32 = 0xe8;

/// Messages from all five vectors, for so many seconds.
pub fn msix(bdf: &str, seconds: u64) -> Result<()> {
    let function = Function::open(bdf)?;
    function.enable()?;
    let table = function.bar(3, 4096)?;
    for entry in (0..TABLE).step_by(16) {
        for (offset, value) in [(0, MESSAGE_ADDRESS), (4, 0), (8, MESSAGE_DATA), (12, 0)] {
            table.write(entry + offset, value)?;
        }
    }
    let control = function.capability(MSIX)? + MSIX_CONTROL;
    function.write(control, function.read(control)? | MSIX_ENABLE)?;
    let registers = unthrottled(&function)?;
    registers.write(register::VECTORS, VECTORS)?;
    registers.write(register::MASK_SET, CAUSES)?;
    let rounds = during(seconds, || {
        registers.write(register::CAUSE_SET, CAUSES)?;
        // A cause that stays makes no second message.
        registers.write(register::CAUSE, CAUSES)
    })?;
    // QEMU's card does not expect vectors to go while one of them waits for its turn.
    registers.write(register::MASK_CLEAR, u32::MAX)?;
    sleep(Duration::from_millis(50));
    function.write(control, function.read(control)? & !MSIX_ENABLE)?;
    println!("{rounds} rounds of 5 messages");
    Ok(())
}

/// A line that stays asserted, and is heard again and again: uio_pci_generic masks it in COMMAND at
/// each interrupt, and this unmasks it there.
pub fn intx(bdf: &str, seconds: u64) -> Result<()> {
    let function = Function::open(bdf)?;
    function.enable()?;
    let mut line = File::open("/dev/uio0").context("Cannot open /dev/uio0")?;
    let registers = unthrottled(&function)?;
    registers.write(register::MASK_SET, OLD_CAUSES)?;
    registers.write(register::CAUSE_SET, OLD_CAUSES)?;
    let rounds = during(seconds, || {
        function.hear()?;
        let mut count = [0; 4];
        line.read_exact(&mut count).context("Cannot wait for the line")
    })?;
    println!("{rounds} interrupts");
    Ok(())
}

/// Ends what a storm left: QEMU's card keeps its causes through a reset of its power state, and does
/// not expect the vectors of its next driver while a line waits for its turn.
pub fn quiet(bdf: &str) -> Result<()> {
    let function = Function::open(bdf)?;
    function.enable()?;
    let registers = function.bar(0, BAR)?;
    registers.write(register::MASK_CLEAR, u32::MAX)?;
    registers.write(register::CAUSE, u32::MAX)?;
    sleep(Duration::from_millis(50));
    println!("{:#x} is left of its causes", registers.read(register::CAUSE)?);
    Ok(())
}

/// The card's registers, with every rate at its highest.
fn unthrottled(function: &Function) -> Result<Registers> {
    let registers = function.bar(0, BAR)?;
    registers.write(register::RATE, 0)?;
    for vector in 0..5 {
        registers.write(register::RATES + 4 * vector, 0)?;
    }
    Ok(registers)
}

fn during(seconds: u64, mut round: impl FnMut() -> Result<()>) -> Result<u64> {
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut rounds = 0;
    while Instant::now() < until {
        round()?;
        rounds += 1;
    }
    Ok(rounds)
}
