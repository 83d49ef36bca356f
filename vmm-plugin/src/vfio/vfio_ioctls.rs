//! Devices that a VMM has opened with the crate vfio-ioctls.

use std::sync::Arc;

use vfio_ioctls::VfioDevice;

use super::{OpenDevice, VfioError, sys};

impl OpenDevice {
    /// The device that `device` has opened, called `name` (a BDF) in errors. `device` is kept as
    /// long as this one: its group must stay in its container.
    ///
    /// DMA stays with whoever has the container or address space of `device`. Interrupts are this
    /// crate's from now on: `enable_irq` and its like of `device` would replace them. A
    /// [`VfioDevice`] panics when it is dropped after its device has vanished, so a VMM that can
    /// choose opens devices with [`Group`](super::Group) or [`Cdev`](super::Cdev).
    ///
    /// # Errors
    /// No descriptor is left, or the kernel refuses, as in [`OpenDevice::new`].
    pub fn of_vfio_device(
        device: Arc<VfioDevice>,
        name: impl Into<String>,
    ) -> Result<Self, VfioError> {
        let name = name.into();
        let file = sys::descriptor(&device)
            .try_clone_to_owned()
            .map_err(VfioError::refused(format!("duplicating the descriptor of {name}")))?;
        Ok(Self::new(file, name)?.keeping(device))
    }
}
