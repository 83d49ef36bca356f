//! Memory of this process that somebody else is shown: a device's registers to a guest, a guest's memory to a device.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// Bytes that stay mapped in this process as long as this lives.
#[derive(Clone)]
pub struct Mapping {
    address: usize,
    size: u64,
    writable: bool,
    /// What unmaps the bytes when the last clone goes.
    _owner: Arc<dyn Any + Send + Sync>,
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mapping({:#x} bytes at {:#x})", self.size, self.address)
    }
}
