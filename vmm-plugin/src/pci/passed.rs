//! The device's own configuration space, behind ours.

use std::sync::Arc;

use super::index;
use crate::vfio::{Device, VfioError};

/// Reads and writes the device's registers, 1, 2 or 4 bytes each.
#[derive(Clone, Debug)]
pub(super) struct Passed {
    device: Arc<dyn Device>,
    /// Bytes of configuration space: 256 to 4096.
    size: u16,
}

impl Passed {
    pub fn new(device: Arc<dyn Device>) -> Result<Self, VfioError> {
        let size = device.region(index::CONFIG)?.size;
        let size = match size {
            0..256 => {
                let what = format!("a configuration space of {size} bytes: 256 at least");
                return Err(VfioError::OutOfBounds { what });
            }
            256..4096 => 256,
            _ => 4096,
        };
        Ok(Self { device, size })
    }

    pub fn size(&self) -> u16 {
        self.size
    }

    pub fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    pub fn read(&self, offset: u16, width: u8) -> Result<u32, VfioError> {
        let mut bytes = [0; 4];
        let length = usize::from(width.clamp(1, 4));
        self.device.read(index::CONFIG, offset.into(), &mut bytes[..length])?;
        Ok(u32::from_le_bytes(bytes))
    }

    pub fn write(&self, offset: u16, width: u8, value: u32) -> Result<(), VfioError> {
        let bytes = value.to_le_bytes();
        let length = usize::from(width.clamp(1, 4));
        self.device.write(index::CONFIG, offset.into(), &bytes[..length])
    }

    /// The device does not answer: its vendor ID, which no device has, reads as ones.
    pub fn gone(&self) -> bool {
        self.read(0, 2).map_or(true, |vendor| vendor == 0xffff)
    }
}
