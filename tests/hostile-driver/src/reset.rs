//! Function-level resets (PCIe 5.0, 6.6.2), past the driver and whatever it is doing.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;

use crate::function::Function;

const EXPRESS: u8 = 0x10;
/// Device control of that capability, and the bit that resets.
const DEVICE_CONTROL: u64 = 8;
const RESET: u16 = 1 << 15;
/// What a driver has to wait after one.
const WAIT: Duration = Duration::from_millis(100);

/// Resets the function `count` times. What its driver had set is put back as the kernel does it,
/// or not: that is the driver's affair.
pub fn repeat(bdf: &str, count: u64) -> Result<()> {
    let function = Function::open(bdf)?;
    let control = function.capability(EXPRESS)? + DEVICE_CONTROL;
    for _ in 0..count {
        let before = function.read(control)?;
        function.write(control, before | RESET)?;
        sleep(WAIT);
    }
    println!("reset {count} times");
    Ok(())
}
